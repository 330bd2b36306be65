"""What a worker is doing and what has happened to workers, as plain values."""

from dataclasses import dataclass
from typing import Literal

WorkerCondition = Literal["starting", "idle", "busy", "lost"]
"""``starting`` also while it waits for room on the machines; ``lost`` for good."""


@dataclass(frozen=True)
class WorkerState:
    """One worker as it stands now."""

    name: str
    """Unique within a session: ``worker 3``."""

    node: str
    """The machine it runs on; empty until it has started."""

    condition: WorkerCondition
    trial: int | None = None
    """The number of the trial it is busy with."""

    jobs: int = 0
    """Jobs done, failed candidates included."""

    restarts: int = 0
    """How often its process was lost and started anew."""

    busy_seconds: float = 0.0
    """Time spent on jobs."""

    ready_seconds: float = 0.0
    """Time since it could first take a job; starts of its process anew included."""

    @property
    def utilisation(self) -> float:
        """Share of its time spent on jobs, 0 … 1; 0 before it is ready."""
        return min(1.0, self.busy_seconds / self.ready_seconds) if self.ready_seconds else 0.0


@dataclass(frozen=True)
class Incident:
    """Something that befell a worker: it was lost, timed out, or joined late."""

    at: float
    """Seconds since the epoch."""

    worker: str
    what: str
    """One sentence for the user."""

    trial: int | None = None
    """The trial that it was busy with."""
