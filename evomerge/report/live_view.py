"""LiveView: a study at one moment, as the terminal and the live page show it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evomerge.core.objectives import Direction, Estimate
from evomerge.core.outcomes import Stage
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.store.trials import Kind, Status

LiveState = Literal["running", "interrupted", "finished", "killed"]
"""``running``: a process is at work on it now. ``killed``: one was, and died in the middle."""

LivePhase = Literal["preparing", "sources and baselines", "search", "validation", "test"]
"""``preparing``: models are being loaded or the report is being written."""


@dataclass(frozen=True)
class Advance:
    """How far a phase is."""

    phase: LivePhase
    done: int
    """Trials."""

    total: int | None
    """None where nothing limits their number, or it is not known yet."""


@dataclass(frozen=True)
class Limit:
    """One limit of the budget, and how much of it is used."""

    what: Literal["candidates", "minutes", "item evaluations"]
    used: float
    total: float


@dataclass(frozen=True)
class Point:
    """A scored trial."""

    number: int
    kind: Kind
    name: str
    estimates: tuple[Estimate, ...]
    """One per objective, on search items."""

    violation: float = 0.0
    """By how much it misses the constraints, all together; 0 where it meets them."""


@dataclass(frozen=True)
class PlainTrial:
    """A source or baseline, scored or not."""

    number: int
    kind: Kind
    name: str
    status: Status
    estimates: tuple[Estimate, ...]
    violation: float = 0.0


@dataclass(frozen=True)
class Step:
    """A moment at which the best value of an objective improved, of what is feasible."""

    scored: int
    """Candidates scored by then."""

    value: float
    trial: int


@dataclass(frozen=True)
class Course:
    """How the best value of one objective went."""

    label: str
    direction: Direction
    steps: tuple[Step, ...]
    """By candidates; empty while none is scored."""

    to_beat: Point | None
    """The best source or baseline that meets the constraints."""


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed for the same reason."""

    stage: Stage
    reason: str
    count: int
    latest: int
    """Number of the latest of them."""


@dataclass(frozen=True)
class Counts:
    """Candidates asked for; the other three add up to it."""

    asked: int
    complete: int
    failed: int
    open: int


@dataclass(frozen=True)
class LiveView:
    """What a viewer shows; everything here is told by the study's database and its lock."""

    run_dir: Path
    epoch: str
    """Changes when the run directory has come to hold another study."""

    name: str
    state: LiveState
    advance: Advance | None
    """None while no process works on the study."""

    limits: tuple[Limit, ...]
    counts: Counts
    item_evaluations: int
    """Of the search; the final re-scoring does not count."""

    seconds: float
    """Worked, all sessions together."""

    seen: float | None
    """Last sign of life of a session, seconds since the epoch."""

    per_minute: float | None
    """Candidates finished a minute, lately."""

    seconds_left: float | None
    """Until the budget is used up, at that rate."""

    courses: tuple[Course, ...]
    """One an objective."""

    plain: tuple[PlainTrial, ...]
    """Sources and baselines, by number."""

    candidates: tuple[Point, ...]
    """Scored ones, in the order in which they were finished; it only ever grows."""

    front: tuple[Point, ...]
    """Candidates that no other dominates, best in the first objective first; of those that
    meet the constraints."""

    constraints: tuple[str, ...]
    """What every result must keep, in words."""

    feasible: int
    """Candidates that meet all constraints."""

    nearest: Point | None
    """The candidate that misses the constraints least, while none meets them."""

    failures: tuple[FailureGroup, ...]
    """The latest reasons, newest first."""

    failure_reasons: int
    """How many different reasons there are in all."""

    workers: tuple[WorkerState, ...]
    """Of the latest session, as they stood when it last looked."""

    incidents: tuple[Incident, ...]
    """The latest, newest first."""

    incident_count: int
    """Of all sessions."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One an objective."""
        return tuple(course.label for course in self.courses)

    @property
    def at_work(self) -> bool:
        """Whether a process is at work on the study now."""
        return self.state == "running"
