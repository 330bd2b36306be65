"""One worker in this process: jobs are done in the order of their submission."""

import platform
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.workers.contract import Evaluation, Job, JobResult, MakeEvaluation, Workers


class InlineWorkers(Workers):
    """Does each job when its result is asked for.

    Args:
        make: Builds the evaluation, on first use; models are loaded there.
        clock: Seconds.
    """

    def __init__(
        self, make: MakeEvaluation, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._evaluation: Evaluation | None = None
        self._waiting: deque[Job] = deque()
        self._jobs = 0
        self._busy = 0.0
        self._ready = clock()

    @property
    @override
    def settings(self) -> Mapping[str, Any]:
        return self._made().settings

    @property
    @override
    def plan(self) -> tuple[str, ...]:
        return ("1 worker, in this process", *self._made().facts)

    @property
    @override
    def capacity(self) -> int:
        return 1

    @override
    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    @override
    def finished(self, wait: float | None = None) -> tuple[Job, JobResult]:
        if not self._waiting:
            raise LookupError("no job is open")
        evaluation = self._made()
        job = self._waiting.popleft()
        begun = self._clock()
        result = evaluation.evaluate(job)
        self._busy += self._clock() - begun
        self._jobs += 1
        return job, result

    @override
    def states(self) -> tuple[WorkerState, ...]:
        if self._evaluation is None:
            return (WorkerState("worker 1", "", "starting"),)
        return (
            WorkerState(
                name="worker 1",
                node=platform.node(),
                condition="busy" if self._waiting else "idle",
                trial=self._waiting[0].number if self._waiting else None,
                jobs=self._jobs,
                busy_seconds=self._busy,
                ready_seconds=self._clock() - self._ready,
            ),
        )

    @override
    def incidents(self) -> tuple[Incident, ...]:
        return ()

    @override
    def close(self) -> None:
        self._evaluation = None
        self._waiting.clear()

    def _made(self) -> Evaluation:
        if self._evaluation is None:
            self._evaluation = self._make({})
            self._ready = self._clock()
        return self._evaluation
