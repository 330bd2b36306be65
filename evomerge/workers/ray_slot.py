"""Slot: one worker's place in a crew, through all the processes that fill it."""

from dataclasses import dataclass, field
from typing import Any

from evomerge.core.worker_state import WorkerCondition, WorkerState
from evomerge.workers.contract import Job


@dataclass
class Task:
    """A job with how often its worker has died."""

    job: Job
    attempts: int = 0


@dataclass
class Slot:
    """A worker as the driver knows it."""

    number: int
    condition: WorkerCondition = "starting"
    actor: Any = field(default=None, repr=False)
    """Handle of the process that fills it now."""

    life: int = 0
    """Counts its processes; what an earlier one still sends is ignored."""

    task: Task | None = None
    since: float = 0.0
    """When the job began, or when the next process may be started."""

    early_deaths: int = 0
    """Processes in a row that died before they were ready."""

    restarts: int = 0
    fresh: bool = True
    """Whether its process has done no job yet."""

    _node: str = ""
    _jobs: int = 0
    _busy: float = 0.0
    _first_ready: float | None = None

    @property
    def name(self) -> str:
        """As users know it; they count from 1."""
        return f"worker {self.number + 1}"

    @property
    def ready(self) -> bool:
        """Whether its process can take jobs."""
        return self.condition in {"idle", "busy"}

    def begin(self, actor: Any) -> None:  # noqa: ANN401 - an ActorHandle
        """A process is being started."""
        self.actor = actor
        self.life += 1
        self.fresh = True
        self.condition = "starting"

    def rest(self, until: float) -> None:
        """Its process has gone; the next one may be started then."""
        self.condition, self.actor, self.since = "starting", None, until
        self.life += 1

    def is_ready(self, now: float, node: str) -> None:
        """The process can take jobs."""
        self.condition, self._node, self.early_deaths = "idle", node, 0
        if self._first_ready is None:
            self._first_ready = now

    def begin_job(self, task: Task, now: float) -> None:
        """It is given a job."""
        self.condition, self.task, self.since = "busy", task, now

    def end_job(self, now: float) -> Task | None:
        """Its job has ended, one way or the other; gives the job, None where it had none."""
        task, self.task = self.task, None
        if task is not None:
            self.condition = "idle"
            self.fresh = False
            self._busy += now - self.since
            self._jobs += 1
        return task

    def lose(self) -> None:
        """It is given up."""
        self.condition, self.actor, self.life = "lost", None, self.life + 1

    def state(self, now: float) -> WorkerState:
        """What is told of it."""
        under_way = now - self.since if self.task is not None else 0.0
        return WorkerState(
            name=self.name,
            node=self._node,
            condition=self.condition,
            trial=self.task.job.number if self.task else None,
            jobs=self._jobs,
            restarts=self.restarts,
            busy_seconds=self._busy + under_way,
            ready_seconds=now - self._first_ready if self._first_ready is not None else 0.0,
        )


def cause_of_death(error: BaseException) -> str:
    """Why a worker died, in a few words taken from Ray's long account."""
    account = str(error)
    for sign, plainly in _PLAINLY.items():
        if sign in account:
            return plainly
    lines = [line.strip() for line in account.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_DETAILS)] or [type(error).__name__]
    text = told[-1].partition(" Worker exit type:")[0].partition(" Node Id:")[0]
    for opening in ("The actor is dead because ", "The actor died because "):
        text = text.removeprefix(opening)
    return text.rstrip(".")


_PLAINLY = {
    "OUT_OF_MEMORY": "Ray stopped it, since its machine was running out of memory",
    "low on memory": "Ray stopped it, since its machine was running out of memory",
    "never ran": "its process died before it could start",
    "temporarily unavailable": "its machine cannot be reached any more",
}

_DETAILS = ("class_name:", "actor_id:", "pid:", "namespace:", "ip:", "name:")


def pause_after(deaths: int) -> float:
    """Seconds before a worker is started again that has died so often before it was ready."""
    return min(60.0, 2.0 ** (deaths - 1)) if deaths > 1 else 0.0
