"""RunLoggers: an observer that passes a search's progress on to loggers."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from evomerge.core.objectives import Objective
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.search.observer import Announcement, Observer, Phase, Progress
from evomerge.store.trials import Trial
from evomerge.tracking.contract import Ending, Logger, RunFacts
from evomerge.tracking.logger_thread import LoggerThread
from evomerge.tracking.trial_metrics import progress_metrics, trial_metrics

_PATIENCE, _LITTLE_PATIENCE = 60.0, 10.0
"""Seconds that all loggers together have to finish in; the little after Ctrl-C."""

_LEFT_BEHIND = ("front.csv", "report.html")


class RunLoggers(Observer):
    """Loggers at work for as long as the block runs, together with another observer.

    Each source, baseline and candidate is logged once, under its number, when it has its
    search score; later scores on validation and test items are the report's.

    Args:
        observer: Hears everything first.
        loggers: By name, not begun; may be empty.
        facts: The study's.
        history: Its trials so far; those that no earlier session could log are logged now.
        state: Tells the study's state at the end.
    """

    def __init__(
        self,
        observer: Observer,
        loggers: Mapping[str, Logger],
        facts: RunFacts,
        history: Sequence[Trial],
        state: Callable[[], str],
    ) -> None:
        self._observer = observer
        self._loggers = loggers
        self._facts = facts
        self._history = tuple(trial for trial in history if trial.status != "open")
        self._state = state
        self._failures = sum(trial.status == "failed" for trial in self._history)
        self._objectives: tuple[Objective, ...] = ()
        self._threads: tuple[LoggerThread, ...] = ()

    def __enter__(self) -> Self:
        """The observer itself; loggers begin with the announcement."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let loggers finish."""
        if not self._threads:
            return
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        deadline = time.monotonic() + (_LITTLE_PATIENCE if stopped else _PATIENCE)
        files = tuple(_existing(self._facts.run_dir))
        ending = Ending(self._state() if kind is None else "interrupted", files)
        for thread in self._threads:
            thread.finish(ending, deadline - time.monotonic())

    def announce(self, announcement: Announcement) -> None:
        """Begin the loggers, and catch up on what they have missed."""
        self._observer.announce(announcement)
        self._objectives = announcement.objectives
        self._threads = tuple(
            LoggerThread(name, logger, self._facts) for name, logger in self._loggers.items()
        )
        for trial in self._history if self._threads else ():
            metrics = trial_metrics(trial, self._objectives)
            for thread in self._threads:
                thread.put(trial.number, metrics)

    def phase(self, phase: Phase, done: int, total: int | None) -> None:
        """Loggers know no phases."""
        self._observer.phase(phase, done, total)

    def workers(self, states: Sequence[WorkerState], incidents: Sequence[Incident]) -> None:
        """Loggers know no workers."""
        self._observer.workers(states, incidents)

    def check(self) -> None:
        """Only the other observer may want to stop the search."""
        self._observer.check()

    def progress(self, progress: Progress) -> None:
        """Log the trial."""
        self._observer.progress(progress)
        if progress.phase not in ("sources and baselines", "search"):
            return
        self._failures += progress.trial.status == "failed"
        if not any(thread.is_on for thread in self._threads):
            return
        metrics = progress_metrics(progress, self._objectives, self._failures)
        for thread in self._threads:
            thread.put(progress.trial.number, metrics)


def _existing(run_dir: Path) -> list[Path]:
    return [path for name in _LEFT_BEHIND if (path := run_dir / name).is_file()]
