"""MAP (arXiv 2406.07529): quadratics fitted to the losses, and the front that they foretell."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.pareto import front_mask
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.genetic.options import GeneticOptions
from evomerge.optimizers.genetic.reference_directions import rescaled
from evomerge.optimizers.genetic.variation import ATTEMPTS, UnseenGenomes, Variation
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, latin_hypercube, units_of_genomes
from evomerge.optimizers.surrogates.designed_samples import designed_samples
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes
from evomerge.optimizers.surrogates.nested_map import NestedMerging
from evomerge.optimizers.surrogates.observations import Observations
from evomerge.optimizers.surrogates.options import MapSurrogateOptions
from evomerge.optimizers.surrogates.quadratic_surrogate import QuadraticFit, QuadraticSurrogate
from evomerge.optimizers.surrogates.surrogate_front import SurrogateFront

_logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_MOST_DESIGNED = 120
"""Above, further samples are better placed by what the first have shown."""

_AS_GOOD = 1e-3
"""Share of the range of losses that is never worth telling two minima apart for."""


class MapSurrogate(Generational):
    """Fits a quadratic to every loss, proposes the front of the quadratics, and fits again.

    MAP fits once and stops after one front; here every point of that front is evaluated and
    the fit repeated with it until the budget ends. The first generation is MAP's design
    (``designed_samples``). Differences from MAP, beside those of ``QuadraticSurrogate``:

    * The surrogate is searched only inside the box of the scored points: a quadratic says
      nothing beyond them (MAP samples [0, 1] and searches [-3, 3]).
    * How many proposals come from the quadratics depends on how well they foretell left-out
      points: at R² = 1 all, at 0 half, the others being children of the measured front.
      A quadratic has one valley; steps and several valleys show as a low R².
    * With one objective, proposals are the quadratic's minimum and points spread over where it
      foretells no more than its own mean error above that.
    * Failed and infeasible candidates: a quadratic fitted to -1 where feasible and 1 where not
      tells where candidates are expected to be infeasible; such points come last. While none
      is feasible, the violation is what is minimised.

    Args:
        problem: What is searched; its initial genomes are proposed first, as a part of the
            design.
        options: Samples, proposals a fit, effort on the surrogate, nesting.

    Raises:
        ConfigError: ``nested`` with genes or objectives that it cannot be used for.
    """

    def __init__(self, problem: SearchProblem, options: MapSurrogateOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._options = options
        self._rng = stream(problem.seed, "optimizer", "map_surrogate")
        self._encoded = EncodedGenes(problem.genes)
        self._surrogate = QuadraticSurrogate(self._encoded)
        self._variation = Variation(problem.genes, self._rng, GeneticOptions())
        self._unseen = UnseenGenomes(problem.genes, problem.expressed)
        self._known = Observations(len(self._genes), problem.objectives)
        self._initial: Units | None = units_of_genomes(problem.genes, problem.initial)
        self._nested = (
            NestedMerging(problem.genes, problem.objectives, self._rng, options, self._unseen)
            if options.nested
            else None
        )
        count = self._encoded.degrees
        self._design = options.design or min(_MOST_DESIGNED, (count + 1) * (count + 2))
        self._ranked: list[Units] = []
        self._fitted_at = 0
        self.fits: tuple[QuadraticFit, ...] = ()
        """The latest fit of every objective; its ``r_squared`` tells how good it is."""
        self._begin()

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        for proposal, outcome in told:
            self._known.add(proposal.units, outcome)
            if self._nested is not None:
                self._nested.learn(proposal, outcome)
        if self._nested is not None:
            self._nested.settle()

    @override
    def _propose(self) -> list[Proposal]:
        if self._options.asynchronous:
            self._unseen.give_back(self._issued)
        if self._initial is not None:
            return self._first()
        merging = [] if self._nested is None else self._nested.propose()
        if merging:
            return merging
        size = 1 if self._options.asynchronous else self._batch()
        if not self._options.asynchronous or self._worn_out():
            self._ranked = self._from_surrogate() if len(self._known.units) else []
            self._fitted_at = len(self._known)
        rows: list[Units] = []
        while self._ranked and len(rows) < size:
            rows += self._unseen.take(self._ranked.pop(0)[None, :])
        return [Proposal(row) for row in self._filled(rows, size)]

    def _first(self) -> list[Proposal]:
        rows = [] if self._initial is None else self._unseen.take(self._initial)
        self._initial = None
        if self._nested is not None:
            return self._nested.first(rows)
        count = max(0, self._design + self._options.ahead - len(rows))
        rows += self._unseen.take(designed_samples(self._rng, count, self._encoded))
        return [Proposal(row) for row in self._filled(rows, self._design + self._ahead)]

    def _batch(self) -> int:
        """Proposals of one fit: more as more is known, so that fits take a bounded time."""
        return self._options.batch or max(1, self._design // 4, len(self._known) // 5)

    def _worn_out(self) -> bool:
        return not self._ranked or len(self._known) - self._fitted_at >= self._batch()

    def _filled(self, rows: list[Units], size: int) -> list[Units]:
        """Rows made up to a number by children of the best and, at last, by fresh points."""
        best: Units | None = None  # found only where it is needed: it takes all outcomes
        for attempt in range(ATTEMPTS):
            if len(rows) >= size:
                break
            best = self._known.best if best is None else best
            vary = len(best) > 0 and attempt < ATTEMPTS // 2
            missing = size - len(rows)
            drawn = self._children(best, missing) if vary else self._fresh(missing)
            rows += self._unseen.take(drawn)
        return rows

    def _fresh(self, count: int) -> Units:
        return latin_hypercube(self._rng, count, len(self._genes))

    def _children(self, best: Units, count: int) -> Units:
        parents = self._rng.integers(len(best), size=(2, (count + 1) // 2))
        return self._variation.children(best[parents])[:count]

    def _from_surrogate(self) -> list[Units]:
        """Points in the order in which they are worth a look, seen ones among them."""
        units, losses, errors = self._known.units, self._known.losses, self._known.errors
        feasible = self._known.violations == 0
        if not feasible.any():
            losses, errors = self._known.violations[:, None], None
        fits = self._surrogate.fit(units, losses, errors)
        if feasible.any():
            self.fits = fits
        told = "; ".join(fit.told() for fit in fits)
        _logger.info("quadratics fitted to %d candidates: %s", len(units), told)
        model = _Foretold(self._surrogate, fits, losses, self._boundary(feasible))
        box = (units.min(axis=0), units.max(axis=0))
        search = SurrogateFront(
            self._genes,
            losses.shape[1],
            self._rng,
            (self._options.population, self._options.generations),
        )
        start = self._known.best[-self._options.population // 2 :]
        points, foretold = search.search(model.losses, start, box)
        exploited = self._exploited(fits, losses)
        chosen = self._spread(points, foretold, exploited, model)
        return [points[k] for k in chosen]

    def _exploited(self, fits: Sequence[QuadraticFit], losses: Array) -> int:
        """Proposals of a batch that the quadratics have earned."""
        varying = losses.max(axis=0) > losses.min(axis=0)
        r_squared = [f.r_squared for f, v in zip(fits, varying, strict=True) if v]
        trust = float(np.clip(np.mean(r_squared), 0.0, 1.0)) if r_squared else 0.0
        return max(1, round(self._batch() * (1.0 + trust) / 2.0))

    def _boundary(self, feasible: NDArray[np.bool_]) -> QuadraticFit | None:
        """What is above 0 where candidates are expected to fail or to be infeasible."""
        failed = self._known.failed
        if feasible.all() and not len(failed):
            return None
        units = np.concatenate([self._known.units, failed])
        sides = np.where(
            np.concatenate([feasible, np.zeros(len(failed), dtype=bool)]), -1.0, 1.0
        )
        if not feasible.any():
            sides = np.concatenate([-np.ones(len(feasible)), np.ones(len(failed))])
        (fit,) = self._surrogate.fit(units, sides[:, None])
        return fit

    def _spread(
        self, points: Units, foretold: Array, count: int, model: "_Foretold"
    ) -> list[int]:
        """Indices of so many points: front by front, each far from the others and from seen."""
        if foretold.shape[1] == 1:
            places, seen = points, self._known.units
            near = foretold[:, 0].min() + max(_AS_GOOD, model.spread)
            layer = (foretold[:, 0] <= near).astype(np.int64) * -1
        else:
            places, seen = foretold, model.losses(self._known.units)
            layer = _layers(foretold)
        chosen: list[int] = []
        if foretold.shape[1] == 1:
            chosen = [int(foretold[:, 0].argmin())]
        gaps = _distances(places, seen)
        for k in chosen:
            gaps = np.minimum(gaps, _distances(places, places[[k]]))
        while len(chosen) < min(count, len(points)):
            left = np.setdiff1d(np.arange(len(points)), chosen)
            first = left[layer[left] == layer[left].min()]
            chosen.append(int(first[gaps[first].argmax()]))
            gaps = np.minimum(gaps, _distances(places, places[[chosen[-1]]]))
        return chosen


@dataclass(frozen=True, eq=False)
class _Foretold:
    """Losses foretold, as shares of the range of those measured."""

    surrogate: QuadraticSurrogate
    fits: Sequence[QuadraticFit]
    measured: Array
    boundary: QuadraticFit | None

    def losses(self, units: Units) -> Array:
        """``(points, objectives)``; beyond the boundary worse than anywhere before it."""
        shares = self._shares(self.surrogate.predict(self.fits, units))
        if self.boundary is None:
            return shares
        beyond = self.surrogate.predict([self.boundary], units)
        worst = self._shares(np.array([[fit.worst for fit in self.fits]]))
        return np.where(beyond > 0, np.maximum(worst, 1.0) + beyond, shares)

    @property
    def spread(self) -> float:
        """The first fit's mean error, as a share."""
        low, high = self.measured[:, 0].min(), self.measured[:, 0].max()
        width = high / 2 - low / 2
        return float(self.fits[0].spread / 2 / width) if width > 0 else 0.0

    def _shares(self, losses: Array) -> Array:
        return rescaled(losses, self.measured.min(axis=0), self.measured.max(axis=0))


def _layers(losses: Array) -> NDArray[np.int64]:
    """For each point the number of fronts to peel off before it is on one."""
    layers = np.zeros(len(losses), dtype=np.int64)
    left = np.arange(len(losses))
    number = 0
    while len(left):
        layers[left] = number
        left = left[~front_mask(losses[left])]
        number += 1
    return layers


def _distances(points: Array, others: Array) -> Array:
    """From each point to the nearest of the others."""
    # Squares of what is foretold far outside of the measured range could overflow.
    scale = max(1.0, float(np.abs(points).max(initial=0)), float(np.abs(others).max(initial=0)))
    points, others = points / scale, others / scale
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * points @ others.T
    return np.asarray(scale * np.sqrt(np.maximum(squares, 0.0)).min(axis=1))
