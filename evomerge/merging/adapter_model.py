"""A base model with a LoRA adapter over it, as one source model.

Merged tensors, W + scale · B A, are computed when they are read and kept up to a limit, so
that a search over many candidates computes each product once where memory permits.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.core.errors import CheckpointError
from evomerge.merging.adapter_weights import Adapter, LowRankPair
from evomerge.merging.compatibility import nearest
from evomerge.merging.safetensors_header import TORCH_NAMES, TensorInfo
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tensor_cache import CACHE_BYTES, TensorCache
from evomerge.merging.tied_embeddings import embedding_name, head_name, stored_name
from evomerge.merging.vocabulary import with_rows

if TYPE_CHECKING:
    import torch

_SHOWN = 5
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class _Change:
    """What becomes of one tensor of the base."""

    below: str | None
    """The base's tensor that is changed; None where it is only replaced."""

    pair: LowRankPair | None = None
    transposed: bool = False
    """Whether the tensor is stored as (inputs, outputs)."""

    replacement: str | None = None
    """The adapter's tensor that takes its place."""

    bias: tuple[str, float] | None = None
    """The adapter's tensor that is added, and its scale."""


class AdaptedModel(SourceModel):
    """A base with a LoRA adapter; what the adapter leaves alone is read from the base.

    The product is computed in float32 (float64 for a base of float64) and rounded once, to
    the base's dtype.

    Args:
        base: An opened source model, which may itself be adapted.
        adapter: An opened adapter.
        cache_bytes: Merged tensors that are kept.

    Raises:
        CheckpointError: The adapter is for another model; every problem is named.
    """

    def __init__(
        self, base: SourceModel, adapter: Adapter, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.base = base
        self.adapter = adapter
        self._cache = TensorCache(cache_bytes)
        self._changes = _changes(base, adapter)
        infos = dict(base.tensors)
        for name, change in self._changes.items():
            infos[name] = _info(name, change, base, adapter)
        config, embedding = base.config, embedding_name(infos)
        if embedding is not None and infos[embedding].shape != _shape(embedding, base):
            config = with_rows(config, infos[embedding].shape[0])
        super().__init__(base.folder, config, infos)

    def read(self, name: str, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """A tensor in the base's dtype, not to be changed.

        Raises:
            CheckpointError: There is no such tensor, or a file changed under us.
        """
        change = self._changes.get(name)
        if change is None:
            self._info(name)
            return self.base.read(name, device)
        return self._cache.get(name, lambda: self._merged(name, change)).to(device)

    @property
    def tokenizer_folder(self) -> Path:
        """The adapter's folder if it changes the number of tokens and has a tokenizer."""
        embedding = embedding_name(self.tensors)
        resized = embedding is not None and (
            self.tensors[embedding].shape != _shape(embedding, self.base)
        )
        brought = any((self.adapter.folder / name).is_file() for name in _TOKENIZERS)
        return self.adapter.folder if resized and brought else self.base.tokenizer_folder

    @property
    def own_folder(self) -> Path:
        """The adapter's; the base's folder holds what belongs to the base."""
        return self.adapter.folder

    @cached_property
    def fingerprint(self) -> str:
        """Identity of base, adapter and scales, 32 hex digits."""
        seen = hashlib.sha256(
            f"{self.base.fingerprint} {self.adapter.weights.fingerprint}".encode()
        )
        for name, change in sorted(self._changes.items()):
            scale = change.pair.scale if change.pair else None
            seen.update(f"{name} {scale!r} {change.transposed} {change.bias}\0".encode())
        return seen.hexdigest()[:32]

    def _merged(self, name: str, change: _Change) -> "torch.Tensor":
        import torch  # noqa: PLC0415 - takes a second; opening needs none of it

        dtype: torch.dtype = getattr(torch, TORCH_NAMES[self.tensors[name].dtype])
        weights = self.adapter.weights
        if change.replacement is not None:
            below = weights.read(change.replacement)
        else:
            below = self.base.read(change.below or name)
        work = torch.float64 if below.dtype == torch.float64 else torch.float32
        merged = below.to(work, copy=True)
        if change.bias is not None:
            merged.add_(weights.read(change.bias[0]).to(work), alpha=change.bias[1])
        if change.pair is not None:
            b = weights.read(change.pair.b).to(work).flatten(1)
            a = weights.read(change.pair.a).to(work).flatten(1)
            left, right = (a.T, b.T) if change.transposed else (b, a)
            merged.view(merged.shape[0], -1).addmm_(left, right, alpha=change.pair.scale)
        return merged.to(dtype)


def _changes(base: SourceModel, adapter: Adapter) -> dict[str, _Change]:
    names = _Names(base)
    found: dict[str, _Change] = {}
    problems: list[str] = []
    for path, name in adapter.replaced.items():
        target = names.find(path)
        if target is None:
            problems.append(f"{name} {names.nobody(path)}")
        else:
            found[target[0]] = _Change(None, replacement=name)
    for pair in adapter.pairs.values():
        changes, wrong = _of_pair(pair, names, (base, adapter), found)
        found |= changes
        problems += wrong
    if problems:
        lines = [f"{adapter.folder}: {problem}." for problem in problems[:_SHOWN]]
        if len(problems) > len(lines):
            lines.append(f"{adapter.folder}: {len(problems) - len(lines)} more do not fit.")
        raise CheckpointError("\n".join(lines))
    return found


def _of_pair(
    pair: LowRankPair,
    names: "_Names",
    models: tuple[SourceModel, Adapter],
    replaced: Mapping[str, _Change],
) -> tuple[dict[str, _Change], list[str]]:
    """What a pair of factors changes by tensor, and what does not fit."""
    target = names.find(f"{pair.module}.weight")
    if target is None:
        return {}, [f"{pair.a} {names.nobody(f'{pair.module}.weight')}"]
    change = _low_rank(pair, target, models, replaced.get(target[0]))
    if isinstance(change, str):
        return {}, [change]
    if pair.bias is None:
        return {target[0]: change}, []
    bias = names.find(f"{pair.module}.bias")
    if bias is None:
        return {}, [f"{pair.bias} changes a bias that the base does not have"]
    return {target[0]: change, bias[0]: _Change(bias[1], bias=(pair.bias, pair.scale))}, []


class _Names:
    """The base's tensors, found by the names that model code gives them."""

    def __init__(self, base: SourceModel) -> None:
        self._base = base
        self._renamed: Mapping[str, str] | None = None

    def find(self, path: str) -> tuple[str, str] | None:
        """The name that the merged tensor has, and the base's tensor that it comes from.

        They differ for the output head of a model that stores none: the head of its own that
        it gets begins as the embedding.
        """
        stored = self._base.tensors
        ends = [n for n in stored if n.endswith("." + path) or path.endswith("." + n)]
        if path in stored or len(ends) == 1:
            name = path if path in stored else ends[0]
            return name, name
        below = stored_name(path, stored)
        if below is not None and head_name([path]):
            return path, below
        if below is not None:
            return below, below
        if self._renamed is None:
            self._renamed = _checkpoint_names(self._base)
        name = self._renamed.get(path, "")
        return (name, name) if name in stored else None

    def nobody(self, path: str) -> str:
        """Why a path is refused, without the full stop."""
        near = nearest(path, self._base.tensors)
        return f"is for another model: {self._base.folder} has no {path}{near}"


def _checkpoint_names(base: SourceModel) -> Mapping[str, str]:
    """Names in the checkpoint by names in the code of the installed transformers."""
    if not base.config:
        return {}
    from evomerge.merging.resident_model import checkpoint_names  # noqa: PLC0415 - loads torch

    return checkpoint_names(base)


def _low_rank(
    pair: LowRankPair,
    target: tuple[str, str],
    models: tuple[SourceModel, Adapter],
    replaced: _Change | None,
) -> _Change | str:
    """The change of a tensor, or why the factors do not fit it."""
    base, adapter = models
    tensors = adapter.weights.tensors
    a, b = (tensors[name].shape for name in (pair.a, pair.b))
    replacement = replaced.replacement if replaced is not None else None
    shape = tensors[replacement].shape if replacement else base.tensors[target[1]].shape
    straight: tuple[int, ...] = (b[0], *a[1:])
    across: tuple[int, ...] = (*a[1:], b[0])
    fits = [shape == straight and not pair.of_embedding, shape == across]
    if not any(fits):
        return (
            f"{pair.module}: B A is {list(straight)}, "
            f"in {base.folder} {target[1]} is {list(shape)}"
        )
    transposed = fits[1] and (adapter.config.fan_in_fan_out or not fits[0])
    return _Change(target[1], pair, transposed, replacement)


def _info(name: str, change: _Change, base: SourceModel, adapter: Adapter) -> TensorInfo:
    """What the merged tensor looks like; it has the dtype of what it changes or replaces."""
    like = change.below or stored_name(name, base.tensors)
    new = adapter.weights.tensors[change.replacement] if change.replacement else None
    old = base.tensors[like] if like is not None else new
    if old is None:
        raise CheckpointError(f"{base.folder}: has no tensor {name!r}.")
    return TensorInfo(name, old.dtype, (new or old).shape, None)


def _shape(name: str, base: SourceModel) -> tuple[int, ...] | None:
    stored = stored_name(name, base.tensors)
    return None if stored is None else base.tensors[stored].shape
