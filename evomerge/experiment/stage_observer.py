"""StageObserver: one stage's progress, told as a part of its chain's."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.search.observer import Announcement, Observer, Phase, Progress


class StageObserver(Observer):
    """Passes everything on, so that whoever watches hears of the chain's folder.

    Args:
        inner: Hears it.
        run_dir: The chain's folder: what is to be resumed.
        said: Which stage it is, e.g. ``stage 1 of 2, ps``.
    """

    def __init__(self, inner: Observer, run_dir: Path, said: str) -> None:
        self._inner = inner
        self._run_dir = run_dir
        self._said = said

    def announce(self, announcement: Announcement) -> None:
        """Say which stage it is, before its plan."""
        plan = (self._said, *announcement.plan)
        self._inner.announce(Announcement(self._run_dir, announcement.objectives, plan))

    def phase(self, phase: Phase, done: int, total: int | None) -> None:
        """Pass it on."""
        self._inner.phase(phase, done, total)

    def progress(self, progress: Progress) -> None:
        """Pass it on."""
        self._inner.progress(progress)

    def workers(self, states: Sequence[WorkerState], incidents: Sequence[Incident]) -> None:
        """Pass it on."""
        self._inner.workers(states, incidents)

    def check(self) -> None:
        """Pass it on."""
        self._inner.check()
