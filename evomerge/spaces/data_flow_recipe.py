"""A path through layers, and factors of their output projections, as a recipe; and back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.spaces.space import SourceModels

Layers = Sequence[tuple[str, int]]
"""The merged model's layers, each a source's name and the number of one of its layers."""


def recipe_of_path(
    models: SourceModels, layers: Layers, factors: Sequence[float], outside: str
) -> Recipe:
    """A recipe by which every layer is one of a source's, and keeps its weights.

    Args:
        models: What is merged.
        layers: The path; not empty.
        factors: What the output projections of each layer are multiplied by.
        outside: The source that gives all tensors outside of layers.

    Returns:
        Slices of neighbouring layers; first the rules of what is multiplied, one for each name
        part in ``models.output_projections`` and run of one source and factor, then one for
        each run of one source. All layers of ``outside`` in their order, times 1, are written
        as that source alone.
    """
    alone = Rule("passthrough", {outside: {}})
    whole = [(outside, layer) for layer in range(models.layers)]
    if [*layers] == whole and set(factors) == {1.0}:
        return models.recipe([alone])
    count = len(layers)
    slices = tuple(
        Slice({layers[first][0]: (layers[first][1], layers[stop - 1][1] + 1)})
        for first, stop in _runs(count, lambda k: layers[k] == _after(layers[k - 1]))
    )
    scaled = [
        Rule("passthrough", {layers[first][0]: {}}, {}, (first, stop), (part,), factors[first])
        for first, stop in _runs(
            count,
            lambda k: (layers[k][0], factors[k]) == (layers[k - 1][0], factors[k - 1]),
        )
        if factors[first] != 1
        for part in models.output_projections
    ]
    plain = [
        Rule("passthrough", {layers[first][0]: {}}, {}, (first, stop))
        for first, stop in _runs(count, lambda k: layers[k][0] == layers[k - 1][0])
    ]
    return replace(models.recipe([*scaled, *plain, alone]), slices=slices)


def path_of_recipe(
    models: SourceModels, recipe: Recipe
) -> tuple[list[tuple[str, int]], list[float]] | None:
    """The layers and factors that ``recipe_of_path`` made a recipe of.

    None where a layer is made of several sources. Whether the recipe is nothing else has to be
    seen by making it again.
    """
    if not recipe.slices:
        (source, *others) = recipe.rules[-1].models
        if others or len(recipe.rules) > 1:
            return None
        return [(source, layer) for layer in range(models.layers)], [1.0] * models.layers
    layers: list[tuple[str, int]] = []
    for part in recipe.slices:
        if len(part.layers) > 1:
            return None
        ((source, (first, stop)),) = part.layers.items()
        layers += [(source, layer) for layer in range(first, stop)]
    factors = [1.0] * len(layers)
    for rule in recipe.rules:
        if rule.contains and rule.layers is not None:
            first, stop = rule.layers
            factors[first:stop] = [rule.scale] * (min(stop, len(layers)) - first)
    return layers, factors


def _after(layer: tuple[str, int]) -> tuple[str, int]:
    return layer[0], layer[1] + 1


def _runs(count: int, goes_on: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of 0 … count - 1, cut before every number that does not go on."""
    first = 0
    for k in range(1, count + 1):
        if k == count or not goes_on(k):
            yield first, k
            first = k
