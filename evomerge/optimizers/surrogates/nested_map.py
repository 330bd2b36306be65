"""Nested MAP: many models merged two at a time, each pair by a quadratic of two numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Outcome, Scored
from evomerge.optimizers.generational import Proposal
from evomerge.optimizers.genetic.reference_directions import rescaled
from evomerge.optimizers.genetic.variation import UnseenGenomes
from evomerge.optimizers.starting_points import Units
from evomerge.optimizers.surrogates.designed_samples import designed_samples
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes
from evomerge.optimizers.surrogates.model_shares import ModelShares
from evomerge.optimizers.surrogates.options import MapSurrogateOptions
from evomerge.optimizers.surrogates.quadratic_surrogate import QuadraticSurrogate
from evomerge.optimizers.surrogates.surrogate_front import SurrogateFront
from evomerge.spaces.genes import FloatGene, Gene

Array = NDArray[np.float64]

_PAIR = (FloatGene("first", 0.0, 1.0), FloatGene("second", 0.0, 1.0))

_CHECKED_SHARE = 0.2
"""Part of a pair's candidates that is spent on the front that its quadratics foretell."""

_FEWEST_MODELS = 3


@dataclass(frozen=True, eq=False)
class _Merged:
    """A model, or a merge of several whose ratio is settled."""

    shares: Array
    """``(models,)`` weights."""

    outcome: Scored


@dataclass(frozen=True, eq=False)
class _Tried:
    """What a proposal of a pair stands for."""

    coefficients: Array
    """``(2,)`` of the pair's two members."""

    shares: Array


class NestedMerging:
    """Merges the two models of most similar losses into one, again and again.

    First every model is scored alone. A pair's two coefficients in [0, 1] (its mix and its
    scale) are the only genes of a problem of ``nested_design`` candidates: a design, then the
    front that the quadratics foretell from it and from the two members alone. Of all that were
    scored the one with the smallest preference-weighted sum of losses, each as a share of its
    range, stands for the pair from then on, with its ratio fixed. T models take T - 1 problems
    of two numbers, where one of T numbers would take (T+1)(T+2) candidates. Similar means a
    small mean difference of these shares (MAP: of the accuracies of the models' own tasks).

    A pair's better member stands for both where no mix is better. Models that fail alone or
    miss a constraint are left out.

    Args:
        genes: The genes; those named ``<model>.weight …`` are the model's weight.
        objectives: Number of losses, usually one a task.
        rng: Where all chance comes from.
        options: Candidates a pair, preference, effort on the surrogate.
        unseen: Lets a genome pass once.

    Raises:
        ConfigError: With everything that stands in the way of nesting.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        rng: np.random.Generator,
        options: MapSurrogateOptions,
        unseen: UnseenGenomes,
    ) -> None:
        self._unseen = unseen
        self._shares = ModelShares(genes)
        self._check(objectives, options)
        self._rng = rng
        self._options = options
        preference = options.preference or (1.0,) * objectives
        self._preference = np.array(preference) / sum(preference)
        self._encoded = EncodedGenes(_PAIR)
        self._surrogate = QuadraticSurrogate(self._encoded)
        self._front = SurrogateFront(
            _PAIR, objectives, rng, (options.population, options.generations)
        )
        self._merged: list[_Merged] = []
        self._pair: tuple[_Merged, _Merged] | None = None
        self._tried: list[tuple[_Tried, Scored]] = []
        self._checking = False

    def _check(self, objectives: int, options: MapSurrogateOptions) -> None:
        problems = []
        if len(self._shares.models) < _FEWEST_MODELS:
            problems.append(
                "optimizer.nested: expected weights of three models or more, genes named "
                f"'<model>.weight', found models {list(self._shares.models)}; leave 'nested' "
                "out, or give each expert's weight a range."
            )
        if objectives == 1:
            problems.append(
                "optimizer.nested: models are paired by their losses on several tasks, found "
                "one objective; give each task an objective, or leave 'nested' out."
            )
        given = options.preference
        if given is not None and (
            len(given) != objectives or min(given) < 0 or not 0 < sum(given) < np.inf
        ):
            problems.append(
                f"optimizer.preference: expected {objectives} weights from 0 on, not all 0, "
                f"one an objective, found {list(given)}."
            )
        if problems:
            raise ConfigError(problems)

    @property
    def finished(self) -> bool:
        """Whether all models are merged into one."""
        return self._pair is None and len(self._merged) <= 1

    def first(self, initial: Sequence[Units]) -> list[Proposal]:
        """The initial genomes, and each model alone unless it is one of them."""
        alone = {}
        for shares in np.eye(len(self._shares.models)):
            units = self._shares.units(shares)
            alone[self._shares.key(units)] = Proposal(units, _Tried(np.ones(1), shares))
        proposals = []
        for row in initial:
            same = alone.pop(self._shares.key(row), None)
            proposals.append(Proposal(row, None if same is None else same.note))
        self._unseen.take(np.array([p.units for p in alone.values()]))
        return [*proposals, *alone.values()]

    def propose(self) -> list[Proposal]:
        """The next pair's design, or the front foretold from it; empty when finished."""
        while not self.finished:
            if self._pair is None:
                self._pair = self._closest()
            proposals = []
            for tried in self._next_of_pair():
                for row in self._unseen.take(self._shares.units(tried.shares)[None, :]):
                    proposals.append(Proposal(row, tried))
            if proposals:
                return proposals
            self.settle()
        return []

    def learn(self, proposal: Proposal, outcome: Outcome) -> None:
        """Take note of one outcome; a scored one that misses a constraint does not count."""
        tried = proposal.note
        if not isinstance(tried, _Tried) or not isinstance(outcome, Scored):
            return
        if outcome.violation > 0:
            return
        if self._pair is None:
            self._merged.append(_Merged(tried.shares, outcome))
        else:
            self._tried.append((tried, outcome))

    def settle(self) -> None:
        """End a block: after a pair's front, its best candidate takes its place."""
        if self._pair is None:
            return
        if not self._checking and self._tried:
            self._checking = True
            return
        first, second = self._pair
        candidates = [*self._pair, *(_Merged(t.shares, o) for t, o in self._tried)]
        best = candidates[int(self._sums([m.outcome for m in candidates]).argmin())]
        rest = [m for m in self._merged if m is not first and m is not second]
        self._merged = [*rest, best]
        self._pair, self._tried, self._checking = None, [], False

    def _closest(self) -> tuple[_Merged, _Merged]:
        shares = _shares_of_range([m.outcome for m in self._merged])
        apart = np.abs(shares[:, None] - shares).mean(axis=2)
        apart[np.tril_indices(len(shares))] = np.inf
        first, second = divmod(int(apart.argmin()), len(shares))
        return self._merged[first], self._merged[second]

    def _next_of_pair(self) -> list[_Tried]:
        checked = max(1, round(_CHECKED_SHARE * self._options.nested_design))
        if not self._checking:
            designed = self._options.nested_design - checked
            return self._of_pair(designed_samples(self._rng, designed, self._encoded))
        if self._pair is None:
            return []
        units = np.array([*np.eye(2), *(tried.coefficients for tried, _ in self._tried)])
        outcomes = [m.outcome for m in self._pair] + [outcome for _, outcome in self._tried]
        losses = np.array([outcome.losses for outcome in outcomes])
        fits = self._surrogate.fit(units, losses)
        low, high = losses.min(axis=0), losses.max(axis=0)
        box = (units.min(axis=0), units.max(axis=0))
        points, foretold = self._front.search(
            lambda u: rescaled(self._surrogate.predict(fits, u), low, high), units, box
        )
        order = np.argsort(foretold @ self._preference, kind="stable")
        distinct = np.unique(points[order].round(2), axis=0, return_index=True)[1]
        return self._of_pair(points[order][np.sort(distinct)][:checked])

    def _of_pair(self, coefficients: Units) -> list[_Tried]:
        if self._pair is None:
            return []
        first, second = self._pair
        return [_Tried(c, c[0] * first.shares + c[1] * second.shares) for c in coefficients]

    def _sums(self, outcomes: Sequence[Scored]) -> Array:
        return np.asarray(_shares_of_range(outcomes) @ self._preference)


def _shares_of_range(outcomes: Sequence[Scored]) -> Array:
    losses = np.array([outcome.losses for outcome in outcomes])
    return rescaled(losses, losses.min(axis=0), losses.max(axis=0))
