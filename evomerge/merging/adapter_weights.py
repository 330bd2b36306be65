"""The tensors of a LoRA adapter, sorted by the module that they change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.errors import CheckpointError
from evomerge.merging.adapter_config import AdapterConfig, read_adapter_config
from evomerge.merging.safetensors_header import FLOAT_BYTES, TensorInfo, read_header
from evomerge.merging.source_model import SourceModel

WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(.+)\.lora_(A|B|embedding_A|embedding_B)(\.(?!weight$|bias$)\w+)?(\.\w+)?"
)
_STRANGE = re.compile(r"lora_magnitude_vector|trainable_tokens|token_adapter|lora_\w+")
_WRAPPED = re.compile(r"\.base_layer(?=\.|$)|\.modules_to_save(\.(?!weight$|bias$)\w+)?(?=\.)")


@dataclass(frozen=True)
class LowRankPair:
    """The two factors of one module's change, which is scale · B A."""

    module: str
    """The module's name in the model."""

    a: str
    """Name of A in the adapter's file; (rank, inputs), of an embedding (rank, tokens)."""

    b: str
    """Name of B; (outputs, rank)."""

    rank: int
    scale: float
    of_embedding: bool = False
    bias: str | None = None
    """Name of a bias of B's own, which changes the module's bias by scale · bias."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: low-rank changes of some tensors and whole new values of others."""

    folder: Path
    config: AdapterConfig
    weights: SourceModel
    """The adapter's own tensors, as they are named in its file."""

    pairs: Mapping[str, LowRankPair]
    """By the name of the module."""

    replaced: Mapping[str, str]
    """The adapter's tensor by the name of the model's tensor that it takes the place of."""


def read_adapter(folder: Path) -> Adapter:
    """Open a LoRA adapter; only its configuration and the header of its weights are read.

    Raises:
        CheckpointError: No adapter, one of another kind, or damaged; every problem is named.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such adapter folder.")
    config = read_adapter_config(folder)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder}: has no {WEIGHTS_FILE}; adapters are read from safetensors only."
        )
    infos = read_header(file)
    factors, replaced, problems = _sorted(infos)
    pairs = {}
    for module, found in factors.items():
        pair = _pair(module, found, infos, config)
        if isinstance(pair, str):
            problems.append(pair)
        else:
            pairs[module] = pair
    problems += [
        f"{name} is {info.dtype}; only {', '.join(FLOAT_BYTES)} can be merged"
        for name, info in infos.items()
        if info.dtype not in FLOAT_BYTES
    ]
    if not infos:
        problems.append("it holds no tensors")
    if problems:
        raise CheckpointError("\n".join(f"{file}: {problem}." for problem in problems))
    return Adapter(folder, config, SourceModel(folder, {}, infos), pairs, replaced)


def _sorted(
    infos: Mapping[str, TensorInfo],
) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """Factors by module and kind, replaced tensors, and names that nobody knows."""
    factors: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    problems: list[str] = []
    for name in infos:
        path = _WRAPPED.sub("", name.removeprefix(_PREFIX))
        factor = _FACTOR.fullmatch(path)
        if factor:
            kind = f"{factor[2]}{'.bias' if factor[4] == '.bias' else ''}"
            factors.setdefault(factor[1], {})[kind] = name
        elif ".original_module." in path:
            continue  # what modules_to_save takes the place of
        elif _STRANGE.search(path):
            problems.append(f"{name} is no part of a plain LoRA adapter")
        else:
            replaced[path] = name
    return factors, replaced, problems


def _pair(
    module: str,
    found: Mapping[str, str],
    infos: Mapping[str, TensorInfo],
    config: AdapterConfig,
) -> LowRankPair | str:
    """The pair of a module, or why there is none."""
    of_embedding = "embedding_A" in found or "embedding_B" in found
    kinds = ("embedding_A", "embedding_B") if of_embedding else ("A", "B")
    missing = [kind for kind in kinds if kind not in found]
    if missing:
        return f"{module}: lora_{missing[0]} is missing"
    a, b = (infos[found[kind]] for kind in kinds)
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[0] != b.shape[1]:
        return f"{module}: A {list(a.shape)} and B {list(b.shape)} are of different ranks"
    rank = a.shape[0]
    if config.rank_of(module) != rank:
        return (
            f"{module}: has rank {rank}, "
            f"by adapter_config.json (r, rank_pattern) it is {config.rank_of(module)}"
        )
    scale = config.scale(module, rank)
    return LowRankPair(module, a.name, b.name, rank, scale, of_embedding, found.get("B.bias"))
