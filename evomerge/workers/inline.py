"""One worker in this process: jobs are done in the order of their submission."""

from collections import deque
from collections.abc import Callable

from evomerge.workers.contract import Evaluate, Job, JobResult, Workers


class InlineWorkers(Workers):
    """Does each job when its result is asked for.

    Args:
        make_evaluate: Builds the evaluator, on first use; models are loaded there.
    """

    def __init__(self, make_evaluate: Callable[[], Evaluate]) -> None:
        self._make_evaluate = make_evaluate
        self._evaluate: Evaluate | None = None
        self._waiting: deque[Job] = deque()

    @property
    def capacity(self) -> int:
        """One job at a time."""
        return 1

    def submit(self, job: Job) -> None:
        """Put the job at the end of the queue."""
        self._waiting.append(job)

    def finished(self) -> tuple[Job, JobResult]:
        """Do the job at the head of the queue."""
        if not self._waiting:
            raise LookupError("no job is open")
        if self._evaluate is None:
            self._evaluate = self._make_evaluate()
        job = self._waiting.popleft()
        return job, self._evaluate(job)

    def close(self) -> None:
        """Forget the model and what waits."""
        self._evaluate = None
        self._waiting.clear()
