"""Workers that hold several jobs and give their results back in an order of their own."""

import random
from collections.abc import Mapping
from typing import Any

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.workers.contract import Evaluate, Job, JobResult, Workers


class ShuffledWorkers(Workers):
    """As many workers whose speeds nobody can foresee, without a process of their own."""

    def __init__(self, evaluate: Evaluate, capacity: int, seed: int) -> None:
        self._evaluate = evaluate
        self._capacity = capacity
        self._rng = random.Random(seed)
        self._open: list[Job] = []
        self.most_open = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    @property
    def plan(self) -> tuple[str, ...]:
        return (f"{self._capacity} workers",)

    @property
    def capacity(self) -> int:
        return self._capacity

    def submit(self, job: Job) -> None:
        self._open.append(job)
        self.most_open = max(self.most_open, len(self._open))

    def finished(self, wait: float | None = None) -> tuple[Job, JobResult] | None:
        if self._rng.random() < 0.2:
            return None
        job = self._open.pop(self._rng.randrange(len(self._open)))
        return job, self._evaluate(job)

    def states(self) -> tuple[WorkerState, ...]:
        return tuple(
            WorkerState(f"worker {k}", "here", "idle") for k in range(1, self._capacity + 1)
        )

    def incidents(self) -> tuple[Incident, ...]:
        return ()

    def close(self) -> None:
        self._open.clear()
