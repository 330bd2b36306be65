"""One job from recipe to item responses; this is what a worker runs."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from evomerge.core.errors import TrialError
from evomerge.core.outcomes import Failed, Stage
from evomerge.core.recipe import Recipe
from evomerge.core.responses import Items, Responses
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


def evaluator(
    merge: Merge, answer: Answer, clock: Callable[[], float] = time.perf_counter
) -> Evaluate:
    """An ``Evaluate`` over a resident model.

    Args:
        merge: Changes the resident model's weights.
        answer: Scores the resident model.
        clock: Seconds; for the timings.
    """

    def evaluate(job: Job) -> JobResult:
        stage: Stage = "merge"
        start = clock()
        try:
            merge(job.recipe)
            merged = clock()
            stage = "evaluate"
            responses = answer(job.items)
        except TrialError as error:
            return Failed(stage, str(error))
        except MemoryError as error:
            return Failed(stage, f"out of memory: {error}")
        except Exception as error:
            log.warning("trial %d failed while it was %sd", job.number, stage, exc_info=error)
            return Failed(stage, f"{type(error).__name__}: {error}")
        return Answered(responses, {"merge": merged - start, "evaluate": clock() - merged})

    return evaluate
