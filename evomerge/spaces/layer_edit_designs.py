"""Well-known ways to edit layers, as genes to begin a search from: the most useful first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from evomerge.core.outcomes import GeneValue
from evomerge.spaces.layer_edit_origins import Origins
from evomerge.spaces.layer_edit_removal import Removal, removal_orders
from evomerge.spaces.parameter_reading import nearest
from evomerge.spaces.sections import Layers

SCALES = (0.5, 0.3, 0.7, 1.0)
"""Factors of summed task vectors, as far as the space has a gene for that."""

SCALE, WEIGHT = "lambda", "weight"
"""Parameters for which a good value is known; others stay in the middle of their range."""


@dataclass(frozen=True)
class _Selection:
    """What a model's layers are made of."""

    members: tuple[tuple[str, ...], ...]
    """For each layer group its models."""

    scale: float = 1.0


def designs(
    removal: Removal, origins: Origins, groups: Sequence[Layers]
) -> Iterator[Mapping[str, GeneValue]]:
    """Genes of designs, the most useful first; some may mean one model.

    GPTailor's warm starts (orders of removal times experts alone and merged at some scales)
    and layer swaps. Every expert alone and all of them merged come in each order of removal
    first; the others go round through the orders and the numbers of removed layers.
    """
    plain, others = _plain(origins, groups), _others(origins, groups)
    removals = _removals(removal)
    orders = len(dict.fromkeys(order for order, _ in removals))
    rounds: list[tuple[int, list[_Selection]]] = [(turn, plain) for turn in range(orders)]
    for turn in range(len(removals)):
        rounds.append((turn, others))
        if turn >= orders:
            rounds.append((turn, plain))
    for turn, selections in rounds:
        for place, selection in enumerate(selections):
            shift = place if selections is others else 0
            order, count = removals[(turn + shift) % len(removals)]
            yield {
                **removal.genome_in_order(order, count),
                **_selected(origins, groups, selection),
            }


def _removals(removal: Removal) -> list[tuple[tuple[int, ...], int]]:
    """Orders with numbers of layers, every pair once; the first ones differ in the order."""
    if not removal.genes:
        return [((), removal.low)]
    orders = removal_orders(removal.layers)
    between = (removal.low + removal.high + 1) // 2
    counts = list(dict.fromkeys([between, removal.high, removal.low]))
    return [
        (order, counts[(place + turn) % len(counts)])
        for turn in range(len(counts))
        for place, order in enumerate(orders)
    ]


def _plain(origins: Origins, groups: Sequence[Layers]) -> list[_Selection]:
    """Every expert alone, and all of them merged."""
    alone = [_everywhere((name,), groups) for name in origins.experts]
    merged = [_everywhere(origins.experts, groups, SCALES[0])]
    return alone + (merged if origins.merges else [])


def _others(origins: Origins, groups: Sequence[Layers]) -> list[_Selection]:
    """Layer swaps, pairs merged, and all merged, at further scales; the base alone."""
    experts = origins.experts
    found = [
        _Selection(_swapped(inner, outer, groups)) for inner, outer in permutations(experts, 2)
    ]
    if origins.merges:
        has_scale = any(
            each.parameter == SCALE and not each.bounds.fixed for each in origins.settings
        )
        scales = SCALES if has_scale else SCALES[:1]
        together = [*combinations(experts, 2), experts] if len(experts) > 2 else [experts]
        found += [_everywhere(each, groups, scale) for scale in scales for each in together]
    return found + ([_everywhere((origins.base,), groups)] if origins.base else [])


def _everywhere(
    members: tuple[str, ...], groups: Sequence[Layers], scale: float = 1.0
) -> _Selection:
    return _Selection((members,) * len(groups), scale)


def _swapped(inner: str, outer: str, groups: Sequence[Layers]) -> tuple[tuple[str, ...], ...]:
    """One expert, with the other's first and last quarter of the layers.

    Layer swapping (Bandarkar et al. 2025, arXiv 2410.01335) puts a language expert's outer
    layers around a task expert's.
    """
    depth = groups[-1][1]
    quarter = max(1, depth // 4)
    return tuple(
        (outer,) if first < quarter or stop > depth - quarter else (inner,)
        for first, stop in groups
    )


def _selected(
    origins: Origins, groups: Sequence[Layers], selection: _Selection
) -> Mapping[str, GeneValue]:
    """The genes that select the members, and those of parameters with a known good value."""
    found: dict[str, GeneValue] = {}
    good = {SCALE: selection.scale, WEIGHT: 1.0}
    for group, members in zip(groups, selection.members, strict=True):
        found |= origins.selecting(members, group) or {}
        for setting in origins.settings:
            if setting.parameter in good and not setting.bounds.fixed:
                gene = setting.bounds.gene(setting.gene_name(group))
                value = nearest(gene, good[setting.parameter])
                if value is not None:
                    found[gene.name] = value
    return found
