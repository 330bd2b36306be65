"""adapter_config.json of a LoRA adapter: what scales its products, and what is refused.

LoRA: arXiv:2106.09685; rank-stabilised scaling: arXiv:2312.03732, equation 5. The keys are
those of PEFT (https://huggingface.co/docs/peft).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError
from evomerge.merging.json_object import read_json_object

CONFIG_FILE = "adapter_config.json"

_KEPT_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin (``init_lora_weights``) that leave the base's own weights as they are."""

_REFUSED = {
    "use_dora": "DoRA, whose change depends on the norms of the base's columns",
    "use_qalora": "QALoRA, whose products are pooled",
    "use_bdlora": "block-diagonal LoRA",
    "layer_replication": "an adapter over layers that are stacked anew",
    "alora_invocation_tokens": "activated LoRA, which holds for a part of the text only",
    "trainable_token_indices": "trained single tokens",
    "arrow_config": "a router of several adapters",
    "kasa_config": "KaSA, which changes the base's own weights",
    "monteclora_config": "MonteCLoRA, which samples its weights",
    "megatron_config": "an adapter over Megatron's own layers",
    "target_parameters": "an adapter over stacked experts (target_parameters)",
}
"""Keys which, where they are set, make the weights something else than W + scale · B A."""


@dataclass(frozen=True)
class AdapterConfig:
    """What of adapter_config.json tells the weights that the adapter stands for."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    """Other ranks, by the pattern of a module's name."""

    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    """Whether the scale is alpha / sqrt(rank) in place of alpha / rank."""

    fan_in_fan_out: bool
    """Whether the adapted matrices are stored as (inputs, outputs)."""

    def rank_of(self, module: str) -> int:
        """The rank that the configuration gives to a module."""
        key = _matching(self.rank_pattern, module)
        return self.rank if key is None else int(self.rank_pattern[key])

    def scale(self, module: str, rank: int) -> float:
        """By what B A is multiplied.

        Args:
            module: Name of the adapted module in the model.
            rank: Rows of its A.
        """
        key = _matching(self.alpha_pattern, module)
        alpha = self.alpha if key is None else float(self.alpha_pattern[key])
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The configuration of the adapter in a folder.

    Raises:
        CheckpointError: It is unreadable, or the adapter is of a kind that is no plain LoRA;
            every reason is named.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: has no {CONFIG_FILE}, so it is no adapter.")
    plain = read_json_object(file)
    reasons = _refusals(plain)
    if reasons:
        raise CheckpointError(
            f"{file}: {'; '.join(reasons)}. Only LoRA can be taken over a base as it is; merge "
            "others with peft's merge_and_unload() and save_pretrained()."
        )
    try:
        return AdapterConfig(
            rank=int(plain.get("r", 8)),
            alpha=float(plain.get("lora_alpha", 8)),
            rank_pattern=_pattern(plain, "rank_pattern"),
            alpha_pattern=_pattern(plain, "alpha_pattern"),
            rank_stabilised=bool(plain.get("use_rslora", False)),
            fan_in_fan_out=bool(plain.get("fan_in_fan_out", False)),
        )
    except (TypeError, ValueError, re.error) as error:
        raise CheckpointError(f"{file}: a value is wrong: {error}.") from error


def _refusals(plain: Mapping[str, Any]) -> list[str]:
    kind = str(plain.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        return [f"is an adapter of type {kind}"]
    reasons = [f"is {what} ({key})" for key, what in _REFUSED.items() if plain.get(key)]
    begun = plain.get("init_lora_weights", True)
    if begun not in _KEPT_BASE:
        reasons.append(
            f"began with init_lora_weights {begun!r}, which changed the base's own weights; "
            "save it as plain LoRA first (path_initial_model_for_weight_conversion in peft)"
        )
    return reasons


def _pattern(plain: Mapping[str, Any], key: str) -> dict[str, Any]:
    pattern = plain.get(key) or {}
    if not isinstance(pattern, Mapping):
        raise TypeError(f"{key} must be a mapping, got {pattern!r}")
    for name, value in pattern.items():
        re.compile(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{key}: {name!r} must be a number, got {value!r}")
    return dict(pattern)


def _matching(patterns: Mapping[str, Any], module: str) -> str | None:
    """The first pattern that is the module's name or, after a dot, the end of it."""
    return next((p for p in patterns if re.fullmatch(rf"(?:.*\.)?(?:{p})", module)), None)
