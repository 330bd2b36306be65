"""LiveReader: looks at a study again and again, reading only what is new each time."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.constraints import Constraint
from evomerge.core.errors import StoreError
from evomerge.core.objectives import Objective
from evomerge.report.live_standings import LiveStandings, Rates
from evomerge.report.live_view import Advance, Course, Limit, LivePhase, LiveState, LiveView
from evomerge.report.study_facts import constraint_labels, objective_labels
from evomerge.store.recent_changes import RecentChanges
from evomerge.store.run_lock import is_held
from evomerge.store.session_log import Session
from evomerge.store.study_store import FILE_NAME, StudyStore

_FAILURES, _INCIDENTS = 8, 30
_PAGE = 60


class LiveReader:
    """Views of one run directory, each cheap however long the study is.

    The database is opened for each look and closed after it, so a viewer holds nothing that
    the search would have to wait for, and sees when the directory holds another study.

    Args:
        run_dir: A run directory.
        clock: Seconds since the epoch.
    """

    def __init__(self, run_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._study: _Known | None = None

    def look(self) -> LiveView:
        """The study now.

        Raises:
            StoreError: There is no study in the directory, or it cannot be read.
        """
        held = is_held(self._run_dir)
        with StudyStore.open(self._run_dir, read_only=True) as store:
            sessions = store.sessions.all()
            epoch = self._epoch(sessions)
            if self._study is None or self._study.epoch != epoch:
                self._study = _first_look(store, epoch)
            state = str(store.meta("state") or "running")  # before the trials: what says
            budget = store.meta("budget") or {}  # "finished" has them all
            study = self._study
            standings = study.standings
            standings.take(store.changes.trials(standings.last, standings.waiting))
            session = sessions[-1] if sessions else None
            workers = store.sessions.workers(session.id) if session else []
            incident_count, incidents = store.changes.incidents(_INCIDENTS)
            # looked at twice: a run may have begun meanwhile, and is not to count as killed
            held = held or is_held(self._run_dir)
            advance = _advance(study, session, budget, store.changes) if held else None
            rates = None
            if advance and advance.phase == "search" and session:
                rates = standings.rates(session.started, self._clock())
        limits = _limits(budget, standings, sum(s.seconds for s in sessions))
        return LiveView(
            run_dir=self._run_dir,
            epoch=epoch,
            name=study.name,
            state=_state(state, held=held),
            advance=advance,
            limits=limits,
            counts=standings.counts,
            item_evaluations=standings.item_evaluations,
            seconds=sum(s.seconds for s in sessions),
            seen=session.seen if session else None,
            per_minute=60 * rates.candidates if rates else None,
            seconds_left=_seconds_left(limits, rates),
            courses=study.courses(),
            plain=standings.plain,
            candidates=tuple(standings.candidates),
            front=standings.front,
            constraints=study.constraints,
            feasible=standings.feasible,
            nearest=standings.nearest,
            failures=standings.failures(_FAILURES),
            failure_reasons=standings.failure_reasons,
            workers=tuple(workers),
            incidents=tuple(incidents),
            incident_count=incident_count,
        )

    def _epoch(self, sessions: Sequence[Session]) -> str:
        """Tells studies apart, by their first session too: file numbers are used again."""
        try:
            status = (self._run_dir / FILE_NAME).stat()
        except OSError as error:
            raise StoreError(
                f"{self._run_dir}: {FILE_NAME} has just gone: {error.strerror}."
            ) from error
        began = sessions[0].started if sessions else 0.0
        return f"{status.st_dev:x}-{status.st_ino:x}-{began:.6f}"


def how_to_resume(view: LiveView) -> str:
    """The command that goes on with a study that has stopped, or extends a finished one."""
    more = " --add 100" if view.state == "finished" else ""
    return f"evomerge resume {shlex.quote(str(view.run_dir))}{more}"


@dataclass
class _Known:
    """What is kept of a study between two looks."""

    epoch: str
    name: str
    objectives: tuple[Objective, ...]
    constraints: tuple[str, ...]
    standings: LiveStandings
    final: "_FinalAnswers"

    def courses(self) -> tuple[Course, ...]:
        return tuple(
            Course(label, o.direction, tuple(steps), self.standings.to_beat(k))
            for k, (label, o, steps) in enumerate(
                zip(
                    objective_labels(self.objectives),
                    self.objectives,
                    self.standings.steps,
                    strict=True,
                )
            )
        )


def _first_look(store: StudyStore, epoch: str) -> _Known:
    plain = store.meta("objectives")
    if not plain:
        raise StoreError(
            f"{store.path}: says nothing of its objectives; expected a study written by "
            "'evomerge run'."
        )
    objectives = tuple(Objective.from_plain(each) for each in plain)
    name = str(store.meta("name") or store.path.parent.name)
    final = _FinalAnswers(store.meta("items") or {})
    constraints = [Constraint.from_plain(each) for each in store.meta("constraints") or []]
    labels = constraint_labels(constraints)
    return _Known(epoch, name, objectives, labels, LiveStandings(objectives), final)


def _state(recorded: str, *, held: bool) -> LiveState:
    if held:
        return "running"
    if recorded == "finished":
        return "finished"
    return "interrupted" if recorded == "interrupted" else "killed"


class _FinalAnswers:
    """Counts the trials that are being re-scored when the search is over.

    The database has no record of the phase; the items that were answered last tell it.

    Args:
        items: Item ids by split and task.
    """

    def __init__(self, items: Mapping[str, Mapping[str, list[int]]]) -> None:
        self._splits = {
            split: {task: set(ids) for task, ids in items.get(split, {}).items()}
            for split in ("validation", "test")
        }

    def advance(self, changes: RecentChanges) -> Advance | None:
        """How far the re-scoring is; None before it has begun."""
        answered: dict[LivePhase, set[str]] = {"validation": set(), "test": set()}
        before = None
        while marks := changes.answers(_PAGE, before):
            for mark in marks:
                split = self._split(mark.task, mark.item)
                if split is None:
                    return self._said(answered)
                answered[split].add(mark.recipe)
            before = marks[-1].row
        return self._said(answered)

    def _split(self, task: str, item: int) -> LivePhase | None:
        if item in self._splits["validation"].get(task, ()):
            return "validation"
        return "test" if item in self._splits["test"].get(task, ()) else None

    @staticmethod
    def _said(answered: Mapping[LivePhase, set[str]]) -> Advance | None:
        phase: LivePhase = "test" if answered["test"] else "validation"
        return Advance(phase, len(answered[phase]), None) if answered[phase] else None


def _advance(
    study: _Known,
    session: Session | None,
    budget: Mapping[str, Any],
    changes: RecentChanges,
) -> Advance:
    """What the process at work on the study is doing."""
    plain, counts = study.standings.plain, study.standings.counts
    if session is None or session.ended is not None or not plain:
        return Advance("preparing", 0, None)
    scored = sum(trial.status != "open" for trial in plain)
    if scored < len(plain):
        return Advance("sources and baselines", scored, len(plain))
    if counts.asked and not counts.open and (final := study.final.advance(changes)):
        return final
    return Advance("search", counts.complete + counts.failed, budget.get("candidates") or None)


def _limits(
    budget: Mapping[str, Any], standings: LiveStandings, seconds: float
) -> tuple[Limit, ...]:
    counts = standings.counts
    found = (
        Limit("candidates", counts.complete + counts.failed, budget.get("candidates") or 0),
        Limit("minutes", seconds / 60, budget.get("minutes") or 0),
        Limit(
            "item evaluations",
            standings.item_evaluations,
            budget.get("item_evaluations") or 0,
        ),
    )
    return tuple(limit for limit in found if limit.total)


def _seconds_left(limits: tuple[Limit, ...], rates: Rates | None) -> float | None:
    if rates is None:
        return None
    paces = {
        "candidates": rates.candidates,
        "minutes": 1 / 60,
        "item evaluations": rates.items,
    }
    left = [
        max(0.0, each.total - each.used) / pace for each in limits if (pace := paces[each.what])
    ]
    return min(left, default=None)
