"""The Workers contract: submit jobs, take their results as they come."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe
from evomerge.core.responses import Items, Responses


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


class Workers(ABC):
    """Where jobs are done.

    Every submitted job comes back exactly once from ``finished``, as a value: a candidate
    that fails is a ``Failed`` result, never an exception.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many jobs are worth having open at once."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""

    @abstractmethod
    def finished(self) -> tuple[Job, JobResult]:
        """Wait for the next job that ends.

        Raises:
            LookupError: No job is open.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop; may be called twice."""

    def __enter__(self) -> Self:
        """The workers themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
