"""What a search tells whoever watches it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evomerge.core.objectives import Objective
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.store.trials import Trial

Phase = Literal["sources and baselines", "search", "validation", "test"]


@dataclass(frozen=True)
class Progress:
    """How far a search is, after one more recipe has been scored."""

    phase: Phase
    done: int
    total: int | None
    """Of this phase; None where only time limits it."""

    trial: Trial
    front: tuple[int, ...]
    """Numbers of the candidates on the front so far."""

    best: tuple[tuple[float, int], ...]
    """Best value of each objective among sources, baselines and candidates, with its trial;
    of those that meet the constraints, NaN while none does."""

    item_evaluations: int
    """Spent on the study so far."""

    nearest: tuple[float, int] | None = None
    """Violation and trial of the candidate that misses the constraints least, while none
    meets them."""


@dataclass(frozen=True)
class Announcement:
    """A study about to begin or go on."""

    run_dir: Path
    objectives: tuple[Objective, ...]
    plan: tuple[str, ...]
    """What will be done, in sentences."""


class Observer:
    """Hears of a search's progress; this one ignores it."""

    def announce(self, announcement: Announcement) -> None:
        """The run directory exists and the search is about to begin."""

    def phase(self, phase: Phase, done: int, total: int | None) -> None:
        """A phase begins, ``done`` of ``total`` known from earlier sessions."""

    def progress(self, progress: Progress) -> None:
        """One more recipe has been scored."""

    def workers(self, states: Sequence[WorkerState], incidents: Sequence[Incident]) -> None:
        """About every second: how the workers stand, and what befell them since."""

    def check(self) -> None:
        """Called before a result is recorded.

        Raises:
            KeyboardInterrupt: The session has been stopped and the result must not count.
        """
