"""Any optimizer of nevergrad by name, behind evomerge's contract."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from evomerge.core.outcomes import Outcome, Scored
from evomerge.core.streams import derived_seed, stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.global_generators import lent_generators
from evomerge.optimizers.nevergrad.options import LARGE, NGOPT_GENES, NevergradOptions
from evomerge.optimizers.ranking import is_feasible
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes

if TYPE_CHECKING:
    from evomerge.optimizers.nevergrad.nevergrad_genes import NevergradGenes
_NOTHING_KNOWN = 1e6
"""What infeasible candidates are told with before a feasible one: beyond usual scores, and far
below where nevergrad clips."""


class NevergradSearch(Generational):
    """Proposes what an optimizer of nevergrad proposes.

    nevergrad knows losses only. So an infeasible candidate is told with a loss beyond the worst
    feasible one so far by up to the span of all feasible ones, the more the larger its
    violation, and a failed one beyond that by the span again, in every objective. That keeps
    them in order among what is known; a later loss may still be worse than one told for a
    failure. Before anything feasible is known, losses of a million and more are told.

    Several objectives are told as a list: nevergrad turns them into one loss by hypervolume,
    except where the optimizer has its own way (DE).

    Many of its optimizers draw from numpy's and python's global generators, which are lent to
    every call with a seed of this search's own stream and put back.

    Args:
        problem: What is searched; its initial genomes are proposed first; told to it as points
            it did not ask for, unless it takes none.
        options: Which optimizer, the budget it plans for, and how many it proposes at a time.

    Raises:
        ConfigError: The optimizer is unknown, or cannot be replayed.
    """

    def __init__(self, problem: SearchProblem, options: NevergradOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._rng = stream(problem.seed, "optimizer", "nevergrad", "calls")
        self._batch = 1 if options.asynchronous else options.batch
        self._beyond = options.ahead
        self._initial: Units = units_of_genomes(problem.genes, problem.initial)
        self._losses = Losses(problem.objectives)
        self._unissued: list[Proposal] = []
        self._points, self._optimizer = self._made(problem.seed, problem.objectives, options)
        self._begin()

    def _made(
        self, seed: int, objectives: int, options: NevergradOptions
    ) -> "tuple[NevergradGenes, Any]":
        # Some of its optimizers are put together by chance when it is imported.
        with lent_generators(np.random.default_rng(0)):
            import nevergrad  # noqa: F401, PLC0415 - takes seconds
        from evomerge.optimizers.nevergrad.nevergrad_genes import NevergradGenes  # noqa: PLC0415
        from evomerge.optimizers.nevergrad.nevergrad_registry import nevergrad_optimizer  # noqa: PLC0415

        points = NevergradGenes(self._genes)
        workers = options.batch + options.ahead
        with lent_generators(self._rng):
            parametrization = points.parametrization(
                derived_seed(seed, "optimizer", "nevergrad")
            )
            name = options.optimizer or ("NGOpt" if len(self._genes) <= NGOPT_GENES else LARGE)
            made = nevergrad_optimizer(name, parametrization, options.budget, workers)
            made.num_objectives = objectives
        return points, made

    @override
    def _propose(self) -> list[Proposal]:
        if self._unissued:
            return [self._unissued.pop(0)]
        first = [Proposal(row) for row in self._initial]
        self._initial = self._initial[:0]
        count = self._beyond + max(0, self._batch - len(first))
        self._beyond = 0
        return first + [self._asked() for _ in range(count)]

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        if self._asynchronous:
            # What nobody asked for would be dropped; methods wait for what they proposed.
            self._unissued = [*(place.proposal for place in self._waiting), *self._unissued]
        self._losses.learn([outcome for _, outcome in told])
        for proposal, outcome in told:
            self._tell(proposal, self._losses.of(outcome))

    def _asked(self) -> Proposal:
        with lent_generators(self._rng):
            candidate = self._optimizer.ask()
            return Proposal(self._points.units(candidate.kwargs), candidate)

    def _tell(self, proposal: Proposal, losses: list[float]) -> None:
        from nevergrad.common.errors import TellNotAskedNotSupportedError  # noqa: PLC0415

        with lent_generators(self._rng):
            candidate: Any = proposal.note
            if candidate is None:
                values = self._points.values(proposal.units)
                candidate = self._optimizer.parametrization.spawn_child(((), values))
            try:
                self._optimizer.tell(candidate, losses if len(losses) > 1 else losses[0])
            except TellNotAskedNotSupportedError:
                return  # it learns from its own candidates only


class Losses:
    """Numbers for outcomes that have none, from those of all before.

    Args:
        objectives: Losses a scored candidate has.
    """

    def __init__(self, objectives: int) -> None:
        self._best = np.zeros(objectives)
        self._worst = np.full(objectives, _NOTHING_KNOWN)
        self._is_known = False

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of the feasible ones."""
        feasible = [o.losses for o in outcomes if isinstance(o, Scored) and is_feasible(o)]
        if not feasible:
            return
        low, high = np.min(feasible, axis=0), np.max(feasible, axis=0)
        self._best = np.minimum(self._best, low) if self._is_known else low
        self._worst = np.maximum(self._worst, high) if self._is_known else high
        self._is_known = True

    def of(self, outcome: Outcome) -> list[float]:
        """One loss an objective."""
        if isinstance(outcome, Scored) and is_feasible(outcome):
            return list(outcome.losses)
        with np.errstate(over="ignore"):
            span = self._worst - self._best
            span = np.where(span > 0, span, np.maximum(1.0, np.abs(self._worst)))
            beyond = 2.0
            if isinstance(outcome, Scored):
                beyond = outcome.violation / (1 + outcome.violation)
            made: list[float] = np.nan_to_num(self._worst + beyond * span).tolist()
        return made
