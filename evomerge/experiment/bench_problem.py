"""What a comparison of optimizers searches: the contract of its problems."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective, losses
from evomerge.experiment.bench_contestants import Contestant
from evomerge.report.bench_results import BenchProblem, BenchRun, Point
from evomerge.search.finalists import finalists, undominated
from evomerge.search.observer import Observer
from evomerge.spaces.genes import Gene
from evomerge.store.trials import Trial

FINALISTS = 16

_CURVE = (0.05, 0.1, 0.175, 0.25, 0.375, 0.5, 0.75, 1.0)
"""Where anytime curves have their points, as shares of the budget."""

RunOne = Callable[[Contestant, Observer], BenchRun]
"""Search once, with the seed that it was made for."""


@dataclass(frozen=True)
class Stops:
    """After how many candidates runs are judged."""

    budgets: tuple[int, ...]
    """Those that are compared and tested at."""

    @classmethod
    def of(cls, candidates: int, budgets: Sequence[int] = ()) -> "Stops":
        """The given budgets up to a total, or a quarter, a half and the whole of it.

        Raises:
            ConfigError: A budget is none, or beyond the total.
        """
        wrong = [budget for budget in budgets if not 0 < budget <= candidates]
        if wrong:
            raise ConfigError(
                f"--budgets {','.join(map(str, wrong))}: beyond 1 … {candidates}, the "
                "candidates of a search; see --candidates."
            )
        chosen = budgets or [round(candidates * share) for share in (0.25, 0.5, 1.0)]
        return cls(tuple(sorted({count for count in chosen if count > 0} | {candidates})))

    @property
    def curve(self) -> tuple[int, ...]:
        """The budgets, and points between them for curves."""
        between = {round(self.budgets[-1] * share) for share in _CURVE} - {0}
        return tuple(sorted(between | set(self.budgets)))


class Problem(ABC):
    """Something to search, and how a search of it is judged."""

    @property
    @abstractmethod
    def facts(self) -> BenchProblem:
        """What reports say of it."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides what a run comes to, besides contestant and seed, as JSON values."""

    @abstractmethod
    def check(self, contestants: Sequence[Contestant]) -> list[str]:
        """Why contestants cannot search it, one message each; nothing heavy is loaded."""

    @abstractmethod
    def seeded(self, seed: int) -> AbstractContextManager[RunOne]:
        """What runs contestants with one seed; all of them put the same items."""


Values = Callable[[Trial], Point]
"""Objective values of a trial on some items."""


def chosen_after(
    candidates: Sequence[Trial],
    count: int,
    objectives: Sequence[Objective],
    genes: Sequence[Gene],
    on_validation: Values,
) -> list[Trial]:
    """What the final phase chooses of the first so many candidates.

    Args:
        candidates: All candidates of a search.
        count: So many of them, by their number, had been scored when it was stopped.
        objectives: The search's.
        genes: Those by which candidates tell of each other.
        on_validation: Exact values on the validation items.

    Returns:
        The winner, or the front, in ascending order of numbers.
    """
    first = sorted(candidates, key=lambda trial: trial.number)[:count]
    scored = {trial.number: trial for trial in first if trial.status == "complete"}
    best = finalists(list(scored.values()), objectives, genes, FINALISTS)
    points = {n: losses(objectives, on_validation(scored[n])) for n in best}
    return [scored[number] for number in undominated(points)]
