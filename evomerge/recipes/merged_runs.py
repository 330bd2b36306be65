"""The merged model's layers in runs that are merged alike, as far as slices allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.core.recipe import Recipe, Rule
from evomerge.core.tensor_names import count_layers, layer_of
from evomerge.recipes.mergekit_merges import comes_before_layers, numbered
from evomerge.recipes.rule_list import same_merge


@dataclass(frozen=True)
class Run:
    """Neighbouring layers of the merged model that are merged alike."""

    first: int
    size: int
    merges: Mapping[str, Rule]
    """By tensor of its first layer; of the first and the last run also by tensor outside of
    layers, embeddings in the first."""

    @property
    def models(self) -> list[str]:
        """Every source that one of its tensors is merged from."""
        return list(dict.fromkeys(m for rule in self.merges.values() for m in rule.models))


def runs_of(recipe: Recipe, tensors: Mapping[str, Sequence[str]]) -> list[Run]:
    """The fewest runs, none of them across slices.

    Args:
        recipe: What is merged.
        tensors: The names of each merged source's tensors, the reference's among them.
    """
    count = recipe.layer_count
    if count is None:
        count = count_layers(list(tensors[recipe.reference]))
    by_layer = {model: _by_layer(names) for model, names in tensors.items()}
    tables = [_table(recipe, by_layer, layer) for layer in range(count)]
    cuts = {sum(part.size for part in recipe.slices[:k]) for k in range(len(recipe.slices))}
    starts = [
        layer
        for layer, table in enumerate(tables)
        if layer == 0 or layer in cuts or not _alike(tables[layer - 1], table)
    ] or [0]
    stops = [*starts[1:], count]
    runs = []
    for first, stop in zip(starts, stops, strict=True):
        merges = {
            numbered(n, first): rule for n, rule in (tables[first] if tables else {}).items()
        }
        for name in (n for groups in by_layer.values() for n in groups.get(None, [])):
            if (first == 0) if comes_before_layers(name) else (stop == count):
                merges[name] = recipe.rule_for(name)
        runs.append(Run(first, stop - first, merges))
    return runs


def _by_layer(names: Sequence[str]) -> dict[int | None, list[str]]:
    groups: dict[int | None, list[str]] = {}
    for name in names:
        groups.setdefault(layer_of(name), []).append(name)
    return groups


def _table(
    recipe: Recipe, by_layer: Mapping[str, Mapping[int | None, Sequence[str]]], layer: int
) -> dict[str, Rule]:
    """How a layer's tensors are merged, named as those of layer 0."""
    table: dict[str, Rule] = {}
    for model, groups in by_layer.items():
        own = recipe.source_layer(model, layer)
        for name in groups.get(own, []) if own is not None else []:
            table[numbered(name, 0)] = recipe.rule_for(numbered(name, layer))
    return table


def _alike(one: Mapping[str, Rule], other: Mapping[str, Rule]) -> bool:
    return one.keys() == other.keys() and all(
        same_merge(rule, other[name]) for name, rule in one.items()
    )
