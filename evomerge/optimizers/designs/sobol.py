"""Sobol points: a sequence that covers the space evenly at every length."""

from collections.abc import Mapping

from scipy.stats import qmc
from typing_extensions import override

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Candidate, Outcome
from evomerge.core.streams import stream
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.designs.options import SobolOptions
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import units_of_genomes
from evomerge.spaces.genes import genome_from_unit

_POINTS_AT_ONCE = 64
"""A power of two, as the points are even in such numbers."""


class Sobol(Optimizer):
    """Points of a scrambled Sobol sequence (Sobol 1967; Owen 1998), by way of scipy.

    Any first part of it leaves smaller holes than independent draws do; powers of two are the
    best budgets. Int and choice genes take equal shares of their axis. ``ask`` always gives as
    many as asked for, and what is told has no effect.

    Args:
        problem: What is searched; its initial genomes are proposed before the first point.
        options: None to set.

    Raises:
        ConfigError: There are more genes than Sobol's numbers are known for.
    """

    def __init__(
        self,
        problem: SearchProblem,
        options: SobolOptions,  # noqa: ARG002 - all optimizers are built alike
    ) -> None:
        if len(problem.genes) > qmc.Sobol.MAXDIM:
            raise ConfigError(
                f"optimizer.name: sobol takes at most {qmc.Sobol.MAXDIM} genes, found "
                f"{len(problem.genes)}; use random."
            )
        self._genes = tuple(problem.genes)
        self._candidates = OpenCandidates(problem.objectives)
        rng = stream(problem.seed, "optimizer", "sobol")
        self._sequence = qmc.Sobol(len(problem.genes), scramble=True, seed=rng)
        self._waiting: list[list[float]] = units_of_genomes(
            problem.genes, problem.initial
        ).tolist()

    @override
    def ask(self, count: int) -> list[Candidate]:
        return [
            self._candidates.issue(genome_from_unit(self._genes, self._next_units()))
            for _ in range(count)
        ]

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)

    def _next_units(self) -> list[float]:
        if not self._waiting:
            self._waiting = self._sequence.random(_POINTS_AT_ONCE).tolist()
        return self._waiting.pop(0)
