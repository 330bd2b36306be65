"""What a comparison of optimizers has found, as plain values: problems and runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from evomerge.core.objectives import Objective, losses
from evomerge.core.pareto import hypervolume

Point = tuple[float, ...]
"""One value an objective, as the user names them."""


@dataclass(frozen=True)
class Stop:
    """What a search would have come to, had it been stopped after so many candidates."""

    candidates: int

    chosen: tuple[Point, ...]
    """Test values of what its final phase chooses: the winner, or the front; none where no
    candidate was scored."""

    exact: tuple[Point, ...] = ()
    """The same on all items of all splits, where they are known."""


@dataclass(frozen=True)
class BenchRun:
    """One search by one contestant with one seed."""

    problem: str
    contestant: str
    seed: int
    stops: tuple[Stop, ...]
    """By number of candidates, ascending."""

    candidates: int
    """So many were proposed; fewer than the budget where the optimizer ended by itself."""

    ended: str
    """Why, in words."""

    seconds: float
    item_evaluations: int
    versions: Mapping[str, str] = field(default_factory=dict)

    reference: Point = ()
    """Losses from which hypervolume is measured; the same for all runs of a seed."""

    sources: tuple[Point, ...] = ()
    """Test values of the source models."""

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        plain = dict(vars(self))
        plain["stops"] = [[s.candidates, s.chosen, s.exact] for s in self.stops]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``to_plain``.

        Raises:
            TypeError: Keys are missing or unknown.
        """
        given = dict(plain)
        given["stops"] = tuple(
            Stop(count, _points(chosen), _points(exact))
            for count, chosen, exact in given["stops"]
        )
        given["reference"] = tuple(given["reference"])
        given["sources"] = _points(given["sources"])
        return cls(**given)


@dataclass(frozen=True)
class BenchProblem:
    """What is searched, and how a search is judged."""

    name: str
    objectives: tuple[Objective, ...]
    budgets: tuple[int, ...]
    """Numbers of candidates that are compared at, ascending; the last is the whole budget."""

    facts: tuple[str, ...]
    """What it is, in sentences."""

    best: float | None = None
    """Measure of the best that there is, where it is known."""

    best_front: tuple[Point, ...] = ()
    """Its test values."""

    @property
    def several(self) -> bool:
        """Whether fronts are compared instead of winners."""
        return len(self.objectives) > 1

    @property
    def measure(self) -> str:
        """What is compared, in words."""
        if self.several:
            return "hypervolume of the chosen front on test items"
        return f"{self.objectives[0].name} of the winner on test items"

    @property
    def larger_is_better(self) -> bool:
        """Which way the measure is read."""
        return self.several or self.objectives[0].direction == "maximize"

    def score(self, run: BenchRun, chosen: tuple[Point, ...]) -> float:
        """The measure of what a run chose; of nothing, that of the worst source model."""
        if self.several:
            points = [losses(self.objectives, point) for point in chosen]
            return hypervolume(np.array(points), np.array(run.reference)) if points else 0.0
        values = [point[0] for point in chosen or run.sources]
        worst_first = sorted(values, reverse=not self.larger_is_better)
        return worst_first[-1] if chosen else worst_first[0]

    def scores(self, runs: Mapping[int, BenchRun], candidates: int) -> dict[int, float]:
        """The measure after so many candidates, by seed."""
        return {
            seed: self.score(run, stop_after(run, candidates).chosen)
            for seed, run in runs.items()
        }


def stop_after(run: BenchRun, candidates: int) -> Stop:
    """A run's latest stop with at most so many candidates; its first where all have more."""
    return [s for s in run.stops if s.candidates <= candidates or s is run.stops[0]][-1]


def values_array(scores: Mapping[int, float]) -> NDArray[np.float64]:
    """Values in the order of their seeds."""
    return np.array([scores[seed] for seed in sorted(scores)], dtype=np.float64)


def _points(given: Any) -> tuple[Point, ...]:  # noqa: ANN401 - any JSON value
    return tuple(tuple(map(float, point)) for point in given)
