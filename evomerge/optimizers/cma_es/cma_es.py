"""CMA-ES (Hansen and Ostermeier 2001) with restarts, for one objective."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Failed, Scored
from evomerge.core.streams import stream
from evomerge.optimizers.cma_es.noise import RankUncertainty
from evomerge.optimizers.cma_es.options import CmaEsOptions, Covariance
from evomerge.optimizers.cma_es.restarts import FLAT, Convergence, RestartSchedule
from evomerge.optimizers.cma_es.strategies import Pycma, Start, Strategy
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.ranking import best_of, is_feasible, ranks
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes

_logger = logging.getLogger(__name__)

_FULL_UP_TO = 100
"""Genes with which all correlations are learned where ``covariance`` is auto."""

_LOW_RANK_FROM = 10
"""Genes that VD- and VkD-CMA are made for; with fewer, full learns as quickly."""

_ALL_FAILED = "every candidate of a generation failed"
_WORTH_A_WARNING = (FLAT, _ALL_FAILED)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Where a proposal comes from."""

    point: NDArray[np.float64]
    run: int
    generation: int


class CmaEs(Generational):
    """Samples around a mean and adapts mean, step and covariance to the ranking of samples.

    It works on the unit cube, int and choice genes by equal shares of their axis. Since that
    gives options an order which they do not have, NSGA-II suits spaces of many choice genes
    better. The strategy itself knows no bounds: its samples are clipped into the cube, so that
    many candidates lie exactly on a bound once it looks good there. Optima of merges often do,
    such as an expert left out or a density of 1; where samples are folded back inside instead,
    reaching them takes several times the candidates.

    The first mean is the best-scored of the ``initial`` genomes, which form a generation of
    their own, or the middle of the cube. When a run has converged or stagnates, or all scores
    are equal, the search starts again from a random point (IPOP or BIPOP), so that any budget
    can be spent. After a generation in which everything failed it starts again with the same
    population, whatever ``restarts`` says.

    A strategy learns from whole generations. Proposed ahead or asynchronously, a generation may
    hold samples of an older mean, which are told as solutions from elsewhere; those of a run
    that is over are not learned from.

    Args:
        problem: What is searched, with one loss; its initial genomes are scored first.
        options: Population size, first step, covariance, restarts and noise.
    """

    def __init__(self, problem: SearchProblem, options: CmaEsOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._options = options
        self._rng = stream(problem.seed, "optimizer", "cma_es")
        # Strategies are not made for one dimension; a coordinate without effect is added.
        self._dimension = max(2, len(self._genes))
        size = options.population or int(4 + 3 * np.log(self._dimension))
        self._schedule = RestartSchedule(options.restarts, size, options.sigma, self._rng)
        self._noise = RankUncertainty(
            stream(problem.seed, "optimizer", "cma_es", "re-evaluations")
        )
        self._run = -1
        self._generation = 0
        self._begin_run(np.full(self._dimension, 0.5))
        self._initial: Units = units_of_genomes(problem.genes, problem.initial)
        self._initial_open = len(self._initial)
        self._gathered: list[Told] = []
        self._ended: str | None = None
        self.restarts: list[str] = []
        """Why the search started again, or ended, once for every run that is over."""
        self._beyond = options.ahead
        self._begin()

    @property
    @override
    def finished(self) -> str | None:
        return self._ended if super().finished else None

    @override
    def _propose(self) -> list[Proposal]:
        if self._ended is not None:
            return []
        first = [Proposal(row) for row in self._initial]
        self._initial = self._initial[:0]
        # While the initial genomes are out, any number goes.
        missing = 0 if first else max(1, self._schedule.population - len(self._gathered))
        samples = self._sampled(missing + self._beyond)
        self._beyond = 0
        return first + samples

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        self._gathered += [(p, o) for p, o in told if self._is_of_this_run(p)]
        if self._initial_open:
            self._initial_open -= sum(proposal.note is None for proposal, _ in told)
            if not self._initial_open:
                self._start_from_best()
        elif len(self._gathered) >= self._schedule.population:
            generation, self._gathered = self._gathered, []
            self._learn_generation(generation)

    def _is_of_this_run(self, proposal: Proposal) -> bool:
        note = proposal.note
        return not isinstance(note, _Sample) or note.run == self._run

    def _sampled(self, count: int) -> list[Proposal]:
        if not count:
            return []
        points = self._strategy.ask(count)
        return [
            Proposal(
                np.clip(p[: len(self._genes)], 0.0, 1.0),
                _Sample(p, self._run, self._generation),
            )
            for p in points
        ]

    def _start_from_best(self) -> None:
        """Move to the best of the initial genomes, or of what was proposed beside them."""
        best = best_of([outcome for _, outcome in self._gathered])
        if best is not None:
            units = self._gathered[best][0].units
            padding = np.full(self._dimension - len(units), 0.5)
            mean = np.concatenate([units, padding])
            # From a bound itself half of all samples would be clipped onto it at first.
            step = min(0.5, self._schedule.sigma)
            self._strategy = self._strategy_at(np.clip(mean, step, 1 - step))
        self._generation += 1
        self._gathered = []

    def _learn_generation(self, told: Sequence[Told]) -> None:
        outcomes = [outcome for _, outcome in told]
        if all(isinstance(outcome, Failed) for outcome in outcomes):
            self._restart(_ALL_FAILED)
            return
        ranked = ranks(outcomes)
        samples = [p.note for p, _ in told if isinstance(p.note, _Sample)]
        stale = [k for k, s in enumerate(samples) if s.generation < self._generation]
        step = self._strategy.step
        self._strategy.tell(np.array([s.point for s in samples]), ranked, stale)
        self._generation += 1
        if self._options.noise == "standard_errors" and self._noise.is_high(outcomes):
            # A shrinking step would be chance too, and the next candidates still more alike.
            self._strategy.step = max(step, self._strategy.step)
        units = np.array([proposal.units for proposal, _ in told])
        losses = [o.losses[0] for o in outcomes if isinstance(o, Scored) and is_feasible(o)]
        reason = (
            self._convergence.reason(units, ranked, losses)
            or self._strategy.trouble()
            or self._schedule.spend(len(told))
        )
        if reason is not None:
            self._end_run(reason)

    def _end_run(self, reason: str) -> None:
        if self._options.restarts == "none":
            self._ended = reason
            self.restarts.append(reason)
            _logger.info("CMA-ES ends: %s", reason)
            return
        self._schedule.begin_next()
        self._restart(reason)

    def _restart(self, reason: str) -> None:
        self.restarts.append(reason)
        size = self._schedule.population
        level = logging.WARNING if reason in _WORTH_A_WARNING else logging.INFO
        _logger.log(level, "CMA-ES starts again elsewhere, %d a generation: %s", size, reason)
        self._begin_run(self._rng.random(self._dimension))

    def _begin_run(self, mean: NDArray[np.float64]) -> None:
        self._run += 1
        self._generation = 0
        self._gathered = []
        self._strategy = self._strategy_at(mean)
        self._convergence = Convergence(self._dimension, self._schedule.population)
        self._noise.begin()

    def _strategy_at(self, mean: NDArray[np.float64]) -> Strategy:
        start = Start(mean, self._schedule.sigma, self._schedule.population)
        if self._options.noise == "lra":
            from evomerge.optimizers.cma_es.learning_rate import (  # noqa: PLC0415 - seldom used
                LearningRateAdapting,
            )

            return LearningRateAdapting(start, self._rng)
        return Pycma(start, self._covariance(), self._rng)

    def _covariance(self) -> Covariance:
        wanted = self._options.covariance
        if wanted == "auto":
            return "full" if self._dimension <= _FULL_UP_TO else "vd"
        if wanted in {"vd", "vkd"} and self._dimension < _LOW_RANK_FROM:
            return "full"
        return wanted
