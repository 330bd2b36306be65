"""One job from recipe to item responses; this is what a worker runs."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from evomerge.core.errors import TrialError
from evomerge.core.outcomes import Failed, Stage
from evomerge.core.recipe import Recipe
from evomerge.core.responses import Items, Responses
from evomerge.fitness.label_free import with_stability
from evomerge.workers.contract import Answered, Evaluate, Job, JobResult

log = logging.getLogger(__name__)


class Merge(Protocol):
    """Puts a recipe's weights into the resident model."""

    def __call__(self, recipe: Recipe) -> None:
        """Merge in place.

        Raises:
            TrialError: The merged weights are not finite.
        """


class Answer(Protocol):
    """Asks the resident model."""

    def __call__(self, items: Items) -> Responses:
        """Responses to the items.

        Raises:
            TrialError: A response is not finite.
        """


@dataclass(frozen=True)
class Neighbourhood:
    """The neighbours of a recipe, whose answers tell how stable its own are."""

    tasks: tuple[str, ...]
    """Tasks whose responses get ``stability``."""

    merges: tuple[Merge, ...]
    """Each puts one neighbour of a recipe into the resident model."""

    def answers(self, job: Job, answer: Answer) -> list[Responses]:
        """The neighbours' responses; each item of the tasks is put to one of them.

        Which one follows from the item's number, so that it is the same for every recipe and
        for items asked in any portions.
        """
        elsewhere = []
        for number, merge in enumerate(self.merges):
            items = {
                task: tuple(i for i in job.items[task] if i % len(self.merges) == number)
                for task in job.items
                if task in self.tasks
            }
            items = {task: chosen for task, chosen in items.items() if chosen}
            if items:
                merge(job.recipe)
                elsewhere.append(answer(items))
        return elsewhere


def evaluator(
    merge: Merge,
    answer: Answer,
    clock: Callable[[], float] = time.perf_counter,
    neighbourhood: Neighbourhood | None = None,
) -> Evaluate:
    """An ``Evaluate`` over a resident model.

    Neighbours are asked before the recipe itself, so that the resident model ends up with
    exactly the recipe's weights and no copy of them is needed.

    Args:
        merge: Changes the resident model's weights.
        answer: Scores the resident model.
        clock: Seconds; for the timings.
        neighbourhood: Where some task's ``stability`` is asked for.
    """

    def evaluate(job: Job) -> JobResult:
        stage: Stage = "evaluate"
        timings: dict[str, float] = {}
        elsewhere: list[Responses] = []
        start = clock()
        try:
            if neighbourhood is not None:
                elsewhere = neighbourhood.answers(job, answer)
                timings["stability"] = clock() - start
            stage = "merge"
            start = clock()
            merge(job.recipe)
            merged = clock()
            stage = "evaluate"
            responses = answer(job.items)
            if neighbourhood is not None:
                responses = with_stability(responses, elsewhere, neighbourhood.tasks)
        except TrialError as error:
            return Failed(stage, str(error))
        except MemoryError as error:
            return Failed(stage, f"out of memory: {error}")
        except Exception as error:
            log.warning("trial %d failed while it was %sd", job.number, stage, exc_info=error)
            notes: list[str] = getattr(error, "__notes__", [])
            return Failed(stage, " ".join([f"{type(error).__name__}: {error}", *notes]))
        timings |= {"merge": merged - start, "evaluate": clock() - merged}
        return Answered(responses, timings)

    return evaluate
