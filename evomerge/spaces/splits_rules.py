"""A split table as a recipe's rules, as few as select exactly the tensors that are meant.

Whole runs of layers get one rule, tensors that a cut goes through or leaves alone get one each.
A rule names tensors by a part of their names, which may be a part of another tensor's name as
well; so what rules select is checked, and longer names come first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from evomerge.core.recipe import Recipe, Rule
from evomerge.core.tensor_names import layer_of
from evomerge.spaces.splits_layout import FlatLayout
from evomerge.spaces.splits_table import SplitTable

_Row = tuple[float, ...]


@dataclass(frozen=True)
class _Mix:
    """How the rows of a tensor are mixed."""

    cuts: tuple[int, ...]
    """Rows of the tensor at which the second, third … segment begins."""

    segments: tuple[_Row, ...]
    """Coefficients by segment: one a seed, then one a noise direction."""


def rules_of_table(
    table: SplitTable, layout: FlatLayout, seeds: Sequence[str]
) -> tuple[Rule, ...]:
    """The rules that merge every tensor as the table says.

    Args:
        table: What to merge.
        layout: The order of its rows.
        seeds: Names of the seed models, in the order of the coefficients.
    """
    mixes = _mixes(table, layout)
    layers: dict[int, list[str]] = {}
    for name in mixes:
        layer = layer_of(name)
        if layer is not None:
            layers.setdefault(layer, []).append(name)
    main = {layer: _commonest(mixes[name] for name in names) for layer, names in layers.items()}
    alone = [name for layer, names in layers.items() for name in names
             if mixes[name] != main[layer]]  # fmt: skip
    outside = [name for name in mixes if layer_of(name) is None]
    runs = _runs(main)
    last = _commonest([*(mix for _, mix in runs), *(mixes[name] for name in outside)])

    def rule(mix: _Mix, run: tuple[int, int] | None, *contains: str) -> Rule:
        return _rule(mix, table.noise_seeds, seeds, run, contains)

    inner = [
        rule(mixes[name], _layer_range(name), name)
        for name in _longest_first(_with_longer_names(alone, mixes))
    ]
    whole = [(mix, rule(mix, run)) for run, mix in runs]
    outer = [(mixes[name], rule(mixes[name], None, name)) for name in _longest_first(outside)]
    others = [made for mix, made in [*whole, *outer] if mix != last]
    short = (*inner, *others, rule(last, None))
    if _selects(short, mixes, table.noise_seeds, seeds):
        return short
    return (*inner, *(made for _, made in [*whole, *outer]), rule(last, None))


def table_of_recipe(
    recipe: Recipe, layout: FlatLayout, seeds: Sequence[str]
) -> SplitTable | None:
    """The table by which a recipe merges; None where it is no combination of the seeds."""
    starts: list[int] = []
    rows: list[dict[int | str, float]] = []
    for tensor, first in zip(layout.tensors, layout.first_rows, strict=False):
        parts = _parts_of_rule(recipe.rule_for(tensor.name))
        if parts is None:
            return None
        for cut, mixed in parts:
            if cut >= tensor.rows or not all(isinstance(n, int) or n in seeds for n in mixed):
                return None
            starts.append(first + cut)
            rows.append(mixed)
    noise = sorted({name for mixed in rows for name in mixed if isinstance(name, int)})
    columns: list[int | str] = [*seeds, *noise]
    values = np.array([[mixed.get(name, 0.0) for name in columns] for mixed in rows])
    return SplitTable.of(starts, values, noise)


def _mixes(table: SplitTable, layout: FlatLayout) -> dict[str, _Mix]:
    """By tensor, in the layout's order."""
    starts = np.array(table.starts)
    found = {}
    for tensor, first in zip(layout.tensors, layout.first_rows, strict=False):
        low = int(np.searchsorted(starts, first, side="right")) - 1
        high = int(np.searchsorted(starts, first + tensor.rows, side="left"))
        cuts = tuple(start - first for start in table.starts[low + 1 : high])
        found[tensor.name] = _Mix(cuts, table.coefficients[low:high])
    return found


def _runs(main: dict[int, _Mix]) -> list[tuple[tuple[int, int], _Mix]]:
    """Neighbouring layers that are mixed alike."""
    found = []
    numbered = enumerate(sorted(main))
    for (mix, _), members in groupby(
        numbered, key=lambda each: (main[each[1]], each[1] - each[0])
    ):
        layers = [layer for _, layer in members]
        found.append(((layers[0], layers[-1] + 1), mix))
    return found


def _commonest(mixes: Iterable[_Mix]) -> _Mix:
    """Of several equally common ones the first."""
    return Counter(mixes).most_common(1)[0][0]


def _with_longer_names(names: Sequence[str], mixes: dict[str, _Mix]) -> set[str]:
    """The names, and those of tensors in the same layer that they are a part of."""
    return {
        other
        for name in names
        for other in mixes
        if name in other and layer_of(name) == layer_of(other)
    }


def _longest_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (-len(name), name))


def _layer_range(name: str) -> tuple[int, int] | None:
    layer = layer_of(name)
    return None if layer is None else (layer, layer + 1)


def _selects(
    rules: Sequence[Rule], mixes: dict[str, _Mix], noise: Sequence[int], seeds: Sequence[str]
) -> bool:
    """Whether every tensor is merged as it should be by the first rule that selects it."""
    for name, mix in mixes.items():
        found = next(rule for rule in rules if rule.selects(name))
        wanted = _rule(mix, noise, seeds, found.layers, found.contains)
        if found != wanted:
            return False
    return True


def _rule(
    mix: _Mix,
    noise: Sequence[int],
    seeds: Sequence[str],
    layers: tuple[int, int] | None,
    contains: tuple[str, ...],
) -> Rule:
    count = len(seeds)
    if not mix.cuts and not any(mix.segments[0][count:]):
        weights = {s: {"weight": c} for s, c in zip(seeds, mix.segments[0], strict=False)}
        return Rule("linear", weights, {"normalize": False}, layers, contains)
    used = [k for k in range(len(noise)) if any(row[count + k] for row in mix.segments)]
    models = {
        seed: {"weight": tuple(row[k] for row in mix.segments)} for k, seed in enumerate(seeds)
    }
    whole: dict[str, tuple[float, ...]] = {"cuts": mix.cuts} if mix.cuts else {}
    if used:
        whole["noise_seeds"] = tuple(noise[k] for k in used)
        whole["noise"] = tuple(row[count + k] for row in mix.segments for k in used)
    return Rule("segments", models, whole, layers, contains)


def _parts_of_rule(rule: Rule) -> list[tuple[int, dict[int | str, float]]] | None:
    """The first row of each segment, and what is mixed there: seeds by name, noise by seed."""
    models, whole = rule.models, rule.parameters
    if rule.operator == "passthrough":
        (name,) = models
        scale = models[name].get("scale", whole.get("scale", 1.0))
        return None if scale != 1 else [(0, {name: 1.0})]
    if rule.operator == "linear":
        weights = {n: _floats(own.get("weight", whole.get("weight", 1.0)))[0]
                   for n, own in models.items()}  # fmt: skip
        total = sum(weights.values()) if whole.get("normalize", True) else 1.0
        if total == 0:
            return None
        return [(0, {name: weight / total for name, weight in weights.items()})]
    if rule.operator != "segments":
        return None
    cuts = [0, *map(int, _floats(whole.get("cuts", ())))]
    noise = [*map(int, _floats(whole.get("noise_seeds", ())))]
    sizes = _floats(whole.get("noise", ()))
    own = {n: _floats(p.get("weight", (1.0,))) for n, p in models.items()}
    own = {n: given * len(cuts) if len(given) == 1 else given for n, given in own.items()}
    return [
        (
            cut,
            {name: given[k] for name, given in own.items()}
            | {seed: sizes[k * len(noise) + j] for j, seed in enumerate(noise)},
        )
        for k, cut in enumerate(cuts)
    ]


def _floats(value: object) -> tuple[float, ...]:
    if isinstance(value, tuple):
        return tuple(map(float, value))
    return (float(value),) if isinstance(value, int | float) else (0.0,)
