"""SessionLog: who worked on a study and when, its workers, and what befell them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from evomerge.core.worker_state import Incident, WorkerState


class Database(Protocol):
    """What is used of an open connection."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:  # noqa: ANN401 - a cursor
        """Run one statement."""

    def executemany(self, sql: str, values: Sequence[Sequence[Any]], /) -> Any:  # noqa: ANN401
        """Run one statement for each row."""


@dataclass(frozen=True)
class Session:
    """One time that a process worked on the study."""

    id: int
    started: float
    """Seconds since the epoch, as are the other moments."""

    seen: float
    """Last sign of life."""

    ended: float | None
    seconds: float
    """Worked, by a clock that nobody sets."""

    reason: str | None
    """How it ended; None after a kill, and while it goes on."""

    versions: Mapping[str, str]


class SessionLog:
    """Sessions of a study.

    Args:
        transaction: Opens a transaction of the study's database.
        rows: Runs a query of it.
        clock: Seconds that always go forward, whoever sets the machine's clock.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Database]],
        rows: Callable[..., list[Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transaction = transaction
        self._rows = rows
        self._clock = clock
        self._id = 0
        self._begun = 0.0
        self._noted: dict[str, WorkerState] = {}

    def start(self, versions: Mapping[str, str]) -> int:
        """Note that this process begins to work on the study; gives the session's id."""
        now = time.time()
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO sessions (started, seen, versions) VALUES (?, ?, ?)",
                (now, now, json.dumps(dict(versions))),
            )
            self._id, self._begun = int(cursor.lastrowid or 0), self._clock()
        self._noted = {}
        return self._id

    def end(self, reason: str) -> None:
        """Note how this process's session ended."""
        with self._transaction() as db:
            self.note_life(db)
            db.execute(
                "UPDATE sessions SET ended = seen, reason = ? WHERE id = ?", (reason, self._id)
            )

    def note_life(self, db: Database) -> None:
        """Write a sign of life as part of a transaction."""
        db.execute(
            "UPDATE sessions SET seen = ?, seconds = ? WHERE id = ?",
            (time.time(), self._clock() - self._begun, self._id),
        )

    def note_workers(
        self, states: Sequence[WorkerState], incidents: Sequence[Incident] = ()
    ) -> None:
        """Write how the workers stand, and what has befallen them since the last time."""
        changed = [state for state in states if self._noted.get(state.name) != state]
        with self._transaction() as db:
            self.note_life(db)
            db.executemany(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        self._id,
                        s.name,
                        s.node,
                        s.condition,
                        s.trial,
                        s.jobs,
                        s.restarts,
                        s.busy_seconds,
                        s.ready_seconds,
                    )
                    for s in changed
                ],
            )
            db.executemany(
                "INSERT INTO incidents VALUES (?, ?, ?, ?, ?)",
                [(self._id, i.at, i.worker, i.trial, i.what) for i in incidents],
            )
        self._noted |= {state.name: state for state in changed}

    def all(self) -> list[Session]:
        """Every session in order."""
        rows = self._rows(
            "SELECT id, started, seen, ended, seconds, reason, versions FROM sessions "
            "ORDER BY id"
        )
        return [
            Session(id_, started, seen, ended, seconds, reason, json.loads(versions))
            for id_, started, seen, ended, seconds, reason, versions in rows
        ]

    def seconds_worked(self) -> float:
        """Time of all sessions; one that was killed counts up to its last sign of life."""
        return float(sum(session.seconds for session in self.all()))

    def workers(self, session: int) -> list[WorkerState]:
        """The workers of a session as they stood when it last looked, in natural order."""
        rows = self._rows(
            "SELECT name, node, condition, trial, jobs, restarts, busy, ready FROM workers "
            "WHERE session = ? ORDER BY length(name), name",
            (session,),
        )
        return [WorkerState(*row) for row in rows]

    def incidents(self, session: int | None = None) -> list[Incident]:
        """What befell workers, in order; of one session or of all."""
        rows = self._rows(
            "SELECT at, worker, what, trial FROM incidents "
            "WHERE ?1 IS NULL OR session = ?1 ORDER BY rowid",
            (session,),
        )
        return [Incident(*row) for row in rows]
