"""Paths through the layers of a pool of models: the slots, and which of them are on."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from evomerge.core.outcomes import GeneValue, Genome
from evomerge.spaces.genes import FLOAT_DIGITS, FloatGene, Gene, IntGene

_PLAIN_NAME = re.compile(r"[\w./-]+")


class PoolLayer(NamedTuple):
    """A layer of one of the models, by its place among all layers of the pool."""

    place: int
    source: str
    layer: int

    @property
    def label(self) -> str:
        """What gene names call it; names that could be misread stand in quotes."""
        plain = _PLAIN_NAME.fullmatch(self.source) is not None
        return f"{self.source if plain else repr(self.source)}.{self.layer}"


@dataclass(frozen=True)
class Step:
    """A layer on a path."""

    layer: PoolLayer
    slot: int | None
    """Number of the slot that it stands in; None for the first and last that are kept."""


@dataclass(frozen=True)
class Slots:
    """Places at which a layer may be used: the pool in order, so many times.

    Sakana's data-flow space (Akiba et al. 2024, arXiv 2403.13187, section 3.2): an indicator
    for each slot. The published setting is two models of 32 layers, three times: 192 slots.
    There the indicators are real numbers, on above 0. Here they are 0 or 1: no candidate is
    spent on numbers that leave the path as it is.
    """

    pool: tuple[PoolLayer, ...]
    """Every layer of every source, source by source."""

    repeats: int
    most_layers: int
    """Depth of the deepest path, with the ends."""

    keep_ends: bool
    """Whether every path begins and ends with the first source's first and last layer, which
    are then in no slot."""

    permuted: bool
    """Whether keys order the slots that are on, in place of the slots' own order."""

    @cached_property
    def ends(self) -> tuple[PoolLayer, PoolLayer] | None:
        """The first source's first and last layer, where every path has them."""
        if not self.keep_ends:
            return None
        own = [layer for layer in self.pool if layer.source == self.pool[0].source]
        return own[0], own[-1]

    @cached_property
    def _inside(self) -> tuple[PoolLayer, ...]:
        """The layers of one repetition's slots."""
        return tuple(layer for layer in self.pool if layer not in (self.ends or ()))

    @cached_property
    def layers(self) -> tuple[PoolLayer, ...]:
        """The layer of each slot."""
        return self._inside * self.repeats

    @property
    def room(self) -> int:
        """How many slots may be on together."""
        return min(self.most_layers - (2 if self.ends else 0), len(self.layers))

    @property
    def deepest(self) -> int:
        """Depth of the deepest path that there is."""
        return self.room + (2 if self.ends else 0)

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """Names of the genes that turn slots on."""
        return tuple(f"gate {label}" for label in self.labels)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What gene names call each slot: the repetition and the layer."""
        each = len(self._inside)
        return tuple(f"{k // each + 1} {own.label}" for k, own in enumerate(self.layers))

    @cached_property
    def _keys(self) -> tuple[str, ...]:
        return tuple(f"key {label}" for label in self.labels) if self.permuted else ()

    @cached_property
    def _own_keys(self) -> tuple[float, ...]:
        """Keys by which the slots stay in their own order."""
        count = len(self.layers)
        return tuple(round((k + 0.5) / count, FLOAT_DIGITS) for k in range(count))

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """A gate a slot, 0 or 1, then, where permuted, a key a slot in [0, 1]."""
        gates = [IntGene(name, 0, 1) for name in self.gates]
        return (*gates, *(FloatGene(name, 0.0, 1.0) for name in self._keys))

    def neighbours(self) -> Iterator[tuple[PoolLayer, PoolLayer]]:
        """Every pair of layers of which some path has the second right after the first."""
        first, last = self.ends or (None, None)
        before = [own for own in self.pool if own != last]
        after = [own for own in self.pool if own != first]
        for one in before:
            for other in after:
                fixed = one == first or other == last
                again = self.repeats > 1 or (self.permuted and one != other)
                if fixed or again or one.place < other.place:
                    yield one, other

    def path(self, genome: Genome) -> list[Step]:
        """The layers that a genome turns on, in order; at least one, never too many.

        Where more gates are on than there is room, evenly spaced ones of them count, from one
        that depends on all of them: no slot has better chances than another. Where none is on
        and no ends are kept, the first slot is all there is.
        """
        on = [k for k, name in enumerate(self.gates) if genome[name]]
        if self.permuted:
            on.sort(key=lambda k: (float(genome[self._keys[k]]), k))
        if not on and self.ends is None:
            on = [0]
        if len(on) > self.room:
            start = sum(on) % len(on)
            places = (start + k * len(on) // self.room for k in range(self.room))
            on = [on[place] for place in sorted(place % len(on) for place in places)]
        return self.steps(on)

    def steps(self, on: Sequence[int]) -> list[Step]:
        """The path through given slots, with the ends."""
        inner = [Step(self.layers[k], k) for k in on]
        if self.ends is None:
            return inner
        first, last = self.ends
        return [Step(first, None), *inner, Step(last, None)]

    def slots_of(self, layers: Sequence[tuple[str, int]]) -> list[int] | None:
        """Slots by which a path has these layers; None where there is no such path.

        Of several the canonical: each layer in the first slot after the layer before it. Only
        where the slots' own order does not allow that, and keys can, each layer is in the
        first repetition in which it was not used yet.
        """
        inner = [*layers]
        if self.ends is not None:
            first, last = ((end.source, end.layer) for end in self.ends)
            if len(inner) < 2 or inner[0] != first or inner[-1] != last:
                return None
            inner = inner[1:-1]
        if len(inner) > self.room or (self.ends is None and not inner):
            return None
        places = {(own.source, own.layer): k for k, own in enumerate(self._inside)}
        if not all(layer in places for layer in inner):
            return None
        wanted = [places[layer] for layer in inner]
        kept = self._in_order(wanted)
        return kept if kept is not None or not self.permuted else self._by_occurrence(wanted)

    def values(self, on: Sequence[int]) -> dict[str, GeneValue]:
        """Gates, and keys, by which the path goes through given slots in their order."""
        chosen = {*on}
        values: dict[str, GeneValue] = {
            name: int(k in chosen) for k, name in enumerate(self.gates)
        }
        values |= zip(self._keys, self._own_keys, strict=False)
        if self.permuted:
            ranked = sorted(self._own_keys[k] for k in on)
            values |= {self._keys[k]: key for k, key in zip(on, ranked, strict=True)}
        return values

    def _in_order(self, wanted: Sequence[int]) -> list[int] | None:
        """The first slots, one after another, of layers given by place in a repetition."""
        each = len(self._inside)
        repetition = sum(after <= before for before, after in pairwise(wanted))
        if repetition >= self.repeats:
            return None
        found: list[int] = []
        turn = 0
        for k, own in enumerate(wanted):
            turn += bool(k and own <= wanted[k - 1])
            found.append(turn * each + own)
        return found

    def _by_occurrence(self, wanted: Sequence[int]) -> list[int] | None:
        each = len(self._inside)
        used: dict[int, int] = {}
        found: list[int] = []
        for own in wanted:
            turn = used.get(own, 0)
            if turn >= self.repeats:
                return None
            used[own] = turn + 1
            found.append(turn * each + own)
        return found
