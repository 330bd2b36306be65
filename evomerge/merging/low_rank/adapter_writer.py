"""A merged adapter as a folder that PEFT loads, whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from evomerge.core.atomic_write import new_folder
from evomerge.core.errors import StoreError, TrialError
from evomerge.merging.adapter_config import CONFIG_FILE
from evomerge.merging.adapter_weights import WEIGHTS_FILE
from evomerge.merging.json_object import read_json_object
from evomerge.merging.operators.contract import is_finite

_TAKEN_OVER = (
    "base_model_name_or_path",
    "task_type",
    "fan_in_fan_out",
    "revision",
    "auto_mapping",
)
"""What the merged adapter has in common with those that went in."""


@dataclass(frozen=True)
class MergedPair:
    """The merged factors of one module, scaled, in the shapes that PEFT stores."""

    a: Tensor
    b: Tensor
    of_embedding: bool


def write_adapter(pairs: Mapping[str, MergedPair], merged: Sequence[Path], out: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        pairs: Factors by module.
        merged: Folders of the adapters that went in; the first one's base and task are taken.
        out: The new folder; must not exist, or be empty.

    Raises:
        TrialError: A factor is not finite.
        StoreError: ``out`` is in use or cannot be written; nothing is left behind.
    """
    tensors: dict[str, Tensor] = {}
    for module, pair in pairs.items():
        kind, end = ("embedding_", "") if pair.of_embedding else ("", ".weight")
        for letter, tensor in (("A", pair.a), ("B", pair.b)):
            name = f"base_model.model.{module}.lora_{kind}{letter}{end}"
            if not is_finite(tensor.float()):
                raise TrialError(f"{name}: the merged factor is not finite.")
            tensors[name] = tensor
    config = json.dumps(_config(pairs, merged[0]), indent=2) + "\n"
    try:
        with new_folder(out) as partial:
            save_file(tensors, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            (partial / CONFIG_FILE).write_text(config, encoding="utf-8")
    except FileExistsError as error:
        raise StoreError(f"{out}: exists already; give a new folder.") from error
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{out}: cannot be written ({reason}); nothing was left.") from error


def _config(pairs: Mapping[str, MergedPair], first: Path) -> dict[str, Any]:
    """A configuration under which B A counts as it is: alpha equals the rank everywhere."""
    given = read_json_object(first / CONFIG_FILE)
    ranks = {module: int(pair.a.shape[0]) for module, pair in pairs.items()}
    highest = max(ranks.values())
    others = {module: rank for module, rank in ranks.items() if rank != highest}
    return {key: given[key] for key in _TAKEN_OVER if key in given} | {
        "peft_type": "LORA",
        "r": highest,
        "lora_alpha": highest,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
