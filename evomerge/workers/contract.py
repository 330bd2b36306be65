"""The Workers contract: submit jobs, take their results as they come."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe
from evomerge.core.responses import Items, Responses
from evomerge.core.worker_state import Incident, WorkerState


@dataclass(frozen=True)
class Job:
    """A recipe to merge and the items that it must answer."""

    number: int
    """The trial's number."""

    recipe: Recipe
    items: Items


@dataclass(frozen=True)
class Answered:
    """The item responses of a merged model."""

    responses: Responses
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage: merge, evaluate, and stability where neighbours are asked."""


JobResult = Answered | Failed

Evaluate = Callable[[Job], JobResult]
"""Merges and scores one job; raises only what should end the whole run."""


@dataclass(frozen=True)
class Evaluation:
    """A resident model with everything to merge into it and to question it."""

    evaluate: Evaluate
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What besides weights and items can change an answer; the same for every worker."""

    facts: tuple[str, ...] = ()
    """What is worth knowing of it before a search, in sentences: copies held, memory taken."""


MakeEvaluation = Callable[[Mapping[str, str]], Evaluation]
"""Loads models and tasks; called once in each worker, on its own machine, with where its copies
of the driver's folders and files lie, by their place there. What is not named lies in the same
place on both."""


class Workers(ABC):
    """Where jobs are done.

    Every submitted job comes back exactly once from ``finished``, as a value: a candidate
    that fails is a ``Failed`` result, never an exception.
    """

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Those of every worker's evaluation; waits until one is ready.

        Raises:
            EvomergeError: No worker could be started.
        """

    @property
    @abstractmethod
    def plan(self) -> tuple[str, ...]:
        """How many workers there are, where, and what each may use, in sentences."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many jobs are worth having open at once."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""

    @abstractmethod
    def finished(self, wait: float | None = None) -> tuple[Job, JobResult] | None:
        """The next job that ends.

        Args:
            wait: Seconds after which None is given where none has ended; None waits on. What
                works in this very process cannot look at the clock.

        Raises:
            LookupError: No job is open.
            WorkersError: No worker is left and none can be had.
        """

    @abstractmethod
    def states(self) -> tuple[WorkerState, ...]:
        """What every worker is doing."""

    @abstractmethod
    def incidents(self) -> tuple[Incident, ...]:
        """What befell workers since this was last asked."""

    @abstractmethod
    def close(self) -> None:
        """Stop; may be called twice."""

    def __enter__(self) -> Self:
        """The workers themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
