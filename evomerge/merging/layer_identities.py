"""What tells whether two recipes make equal first layers."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from evomerge.core.recipe import Recipe
from evomerge.core.tensor_names import layer_of, stack_of, with_layer
from evomerge.merging.merge_plan import TensorMerge, merged_tensors, tensor_merges
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import head_name, is_vocabulary_bias

_LAST = {"norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm"}
"""Modules beside the layers whose input is what the last layer gives."""


@dataclass(frozen=True)
class LayerIdentities:
    """Equal for recipes whose merged models compute the same, as far as they are compared."""

    before: str
    """Of all tensors outside of layers, without those that surely come after the layers."""

    layers: tuple[str, ...]
    """Of each layer of the merged model, from the first on, wherever it stands."""


def layer_identities(recipe: Recipe, sources: Mapping[str, SourceModel]) -> LayerIdentities:
    """The identities of what a recipe makes.

    Equal identities mean equal tensors, bit for bit, over the same opened sources. Tensors
    may be equal where identities are not: how they are made is compared, nothing is computed.

    Args:
        recipe: What is merged.
        sources: Opened source models by the names that recipes use.

    Raises:
        CheckpointError: A model lacks a tensor, or a layer that it should give.
    """
    outside: dict[str, str] = {}
    parents: set[str] = set()
    layers: dict[int, list[str]] = {}
    for merge in tensor_merges(recipe, sources, merged_tensors(recipe, sources)):
        name = merge.tensor.name
        layer = layer_of(name)
        if layer is not None:
            layers.setdefault(layer, []).append(f"{with_layer(name, 0)} {_made(merge)}")
            parents.add((stack_of(name) or "").rpartition(".")[0])
        else:
            outside[name] = f"{name} {_made(merge)}"
    first = [made for name, made in outside.items() if not _comes_after(name, parents)]
    before = [f"tokenizer {recipe.tokenizer}", *sorted(first)]
    depth = max(layers, default=-1) + 1
    return LayerIdentities(
        _digest(before), tuple(_digest(sorted(layers.get(k, ()))) for k in range(depth))
    )


def _made(merge: TensorMerge) -> str:
    """How a tensor is made; its place among the layers counts only where it is used."""
    module = getattr(merge.operator.merge, "__module__", "")
    if module.partition(".")[0] == "evomerge" and not merge.settings.whole.get("lines"):
        merge = replace(merge, depth=None)
    return repr((merge.identity, merge.tensor.shape))


def _comes_after(name: str, parents: Collection[str]) -> bool:
    """Whether a tensor outside of layers is of the final norm or the output head.

    A norm of another module than one that has layers may as well be the embeddings'.
    """
    if head_name([name]) is not None or is_vocabulary_bias(name):
        return True
    module, _, _ = name.rpartition(".")
    parent, _, own = module.rpartition(".")
    return own in _LAST and parent in parents


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
