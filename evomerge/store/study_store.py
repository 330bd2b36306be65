"""The study as one SQLite file with a single writer."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from evomerge.core.atomic_write import sync_folder
from evomerge.core.errors import StoreError
from evomerge.core.responses import ItemResponses, Responses
from evomerge.store.recent_changes import RecentChanges
from evomerge.store.schema import FORMAT, TABLES
from evomerge.store.session_log import SessionLog
from evomerge.store.trials import SELECT_TRIALS, Trial, trial_of_row, written_estimates

FILE_NAME = "study.db"


@dataclass(frozen=True)
class Event:
    """One call of the optimizer: asked for ``count``, or told, these trials."""

    kind: Literal["ask", "tell"]
    count: int
    trials: tuple[int, ...]


@dataclass(frozen=True)
class Answers:
    """Responses with all that identifies them."""

    recipe: str
    """Digest of the recipe."""

    settings: str
    """Digest of the evaluation settings."""

    versions: Mapping[str, str]
    """Version by task."""

    responses: Responses


class StudyStore:
    """Trials, item responses and events of one study.

    When a writing method returns, what it wrote survives ``kill -9`` and power loss (WAL with
    a full sync at each commit). Reading never blocks the writer: ``open(read_only=True)``
    works from another process while the search runs. What a read returns is a value.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self.sessions = SessionLog(self._transaction, self._all)
        """Who worked on the study, and how its workers fared."""
        self.changes = RecentChanges(self._all)
        """What is new since somebody last looked."""

    @classmethod
    def create(cls, run_dir: Path, meta: Mapping[str, Any]) -> Self:
        """A new study in a run directory.

        Args:
            run_dir: An existing folder without a study.
            meta: What is fixed for the study's life, JSON values by key.

        Raises:
            StoreError: There is a study already, or the folder cannot be written.
        """
        path = run_dir / FILE_NAME
        if path.exists():
            raise StoreError(f"{run_dir}: holds a study already; use 'evomerge resume'.")
        begun = run_dir / f".{FILE_NAME}.new"
        begun.unlink(missing_ok=True)
        try:
            # No WAL yet: what is in one when the file is renamed would be lost.
            with cls(_connect(begun), begun) as store, store._transaction() as db:
                for statement in TABLES.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {FORMAT}")
                db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [(key, _json(value)) for key, value in meta.items()],
                )
        except BaseException:
            for left in (begun, begun.with_name(f"{begun.name}-journal")):
                left.unlink(missing_ok=True)
            raise
        begun.replace(path)  # a kill before this leaves no study, one after it a whole one
        sync_folder(run_dir)
        return cls.open(run_dir)

    @classmethod
    def open(cls, run_dir: Path, *, read_only: bool = False) -> Self:
        """An existing study.

        Raises:
            StoreError: No study there, not ours, damaged, or of another format.
        """
        path = run_dir / FILE_NAME
        if not path.is_file():
            raise StoreError(
                f"{run_dir}: no {FILE_NAME} here; expected an evomerge run directory."
            )
        connection = _connect_to_read(path) if read_only else _connect(path, journal="WAL")
        store = cls(connection, path)
        with _reported(path):
            version = store._db.execute("PRAGMA user_version").fetchone()[0]
            if version != FORMAT:
                raise StoreError(
                    f"{path}: format {version}, this evomerge reads format {FORMAT}; "
                    "use the version of evomerge that wrote it."
                )
        return store

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # ---- what is fixed or said about the study as a whole

    def meta(self, key: str) -> Any:  # noqa: ANN401 - any JSON value
        """The JSON value under a key, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(row[0]) if row else None

    def set_meta(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
        """Write a JSON value under a key."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _json(value)))

    # ---- trials

    def add_trials(self, trials: Sequence[Trial], *, asked: int | None = None) -> None:
        """Record new open trials, and, for candidates, the ask that they came from.

        Args:
            trials: All open, numbers not used before.
            asked: How many candidates the optimizer was asked for; None for other trials.
        """
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO trials (number, kind, name, genome, recipe, status, asked_at) "
                "VALUES (?, ?, ?, ?, ?, 'open', ?)",
                [
                    (
                        t.number,
                        t.kind,
                        t.name,
                        _json(t.genome),
                        _json(t.recipe.to_plain()),
                        t.asked_at,
                    )
                    for t in trials
                ],
            )
            if asked is not None:
                _add_event(db, Event("ask", asked, tuple(t.number for t in trials)))

    def finish_trial(self, trial: Trial, answers: Answers | None = None) -> None:
        """Record an open trial's end and its new responses; a candidate's end is also a tell.

        Raises:
            StoreError: The trial is unknown or finished already.
        """
        failure = trial.failure
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE trials SET status = ?, estimates = ?, constraints = ?, violation = ?, "
                "stage = ?, reason = ?, timings = ?, item_evaluations = ?, finished_at = ? "
                "WHERE number = ? AND status = 'open'",
                (
                    trial.status,
                    written_estimates(trial.estimates),
                    written_estimates(trial.constraints),
                    trial.violation,
                    failure.stage if failure else None,
                    failure.reason if failure else None,
                    _json(trial.timings),
                    trial.item_evaluations,
                    trial.finished_at,
                    trial.number,
                ),
            ).rowcount
            if changed != 1:
                raise StoreError(f"{self.path}: trial {trial.number} is not open.")
            if answers is not None:
                _add_answers(db, answers)
            self.sessions.note_life(db)
            if trial.kind == "candidate":
                _add_event(db, Event("tell", 1, (trial.number,)))

    def reopen_trial(self, number: int) -> None:
        """Take back the failure of a source or baseline."""
        with self._transaction() as db:
            db.execute(
                "UPDATE trials SET status = 'open', stage = NULL, reason = NULL "
                "WHERE number = ? AND status = 'failed' AND kind != 'candidate'",
                (number,),
            )

    def trials(self) -> list[Trial]:
        """Every trial in order of its number."""
        return [trial_of_row(row) for row in self._all(f"{SELECT_TRIALS} ORDER BY number")]

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            StoreError: No trial has this number.
        """
        row = self._one(f"{SELECT_TRIALS} WHERE number = ?", (number,))
        if row is None:
            last = self._one("SELECT max(number) FROM trials")
            raise StoreError(
                f"{self.path}: no trial {number}; trials are numbered 1 to "
                f"{last[0] if last else 0}."
            )
        return trial_of_row(row)

    def events(self) -> list[Event]:
        """Every ask and tell in order."""
        rows = self._all("SELECT kind, count, trials FROM events ORDER BY sequence")
        return [Event(kind, count, tuple(json.loads(trials))) for kind, count, trials in rows]

    # ---- item responses

    def add_responses(self, answers: Answers | None, trial: Trial | None = None) -> None:
        """Keep a recipe's responses to items not answered before.

        Args:
            answers: None where every item was answered before.
            trial: The open trial that they bring forward, with its item evaluations and
                timings so far; None where they are none of its search score.
        """
        with self._transaction() as db:
            if answers is not None:
                _add_answers(db, answers)
            if trial is not None:
                db.execute(
                    "UPDATE trials SET item_evaluations = ?, timings = ? "
                    "WHERE number = ? AND status = 'open'",
                    (trial.item_evaluations, _json(dict(trial.timings)), trial.number),
                )
            self.sessions.note_life(db)

    def responses(self, recipe: str, settings: str, versions: Mapping[str, str]) -> Responses:
        """All known responses of a recipe to these task versions under these settings."""
        rows = self._all(
            "SELECT task, version, items, answers FROM responses "
            "WHERE recipe = ? AND settings = ? ORDER BY rowid",
            (recipe, settings),
        )
        known: dict[str, ItemResponses] = {}
        for task, version, items, answers in rows:
            if versions.get(task) == version:
                values = {metric: tuple(v) for metric, v in json.loads(answers).items()}
                chunk = ItemResponses(tuple(json.loads(items)), values)
                known[task] = known[task].joined(chunk) if task in known else chunk
        return known

    def count_responses(self, asks: Mapping[str, int] | None = None) -> int:
        """Item evaluations behind all answers, given how often a task's items are asked."""
        rows = self._all("SELECT task, sum(json_array_length(items)) FROM responses GROUP BY 1")
        return sum(int(count) * (asks or {}).get(task, 1) for task, count in rows)

    # ---- plumbing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _reported(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back on a full disk
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with _reported(self.path):
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:  # noqa: ANN401 - a row
        with _reported(self.path):
            return self._db.execute(sql, values).fetchone()


def _connect(path: Path, journal: Literal["DELETE", "WAL"] = "DELETE") -> sqlite3.Connection:
    with _reported(path):
        db = _opened(path, "mode=rwc")
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("PRAGMA synchronous = FULL")
        return db


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Even to a reader SQLite shares memory in a file beside the study, if it can."""
    with _reported(path):
        db = _opened(path, "mode=ro")
        try:
            db.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            db.close()
            log = path.with_name(f"{path.name}-wal")
            if os.access(path.parent, os.W_OK):
                raise
            if log.exists() and log.stat().st_size:
                raise StoreError(
                    f"{path}: its last changes are still in {log.name}, which cannot be read "
                    "in a folder that is read-only; copy the whole run directory elsewhere."
                ) from None
            return _opened(path, "mode=ro&immutable=1")  # nobody can write there
        return db


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: the study's database failed: {error}. Every trial recorded before is "
            "kept; free the disk or fix the folder's permissions, then resume."
        ) from error


def _add_answers(db: sqlite3.Connection, answers: Answers) -> None:
    db.executemany(
        "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                answers.recipe,
                task,
                answers.versions[task],
                answers.settings,
                _json(r.items),
                _json(dict(r.values)),
            )
            for task, r in answers.responses.items()
        ],
    )


def _add_event(db: sqlite3.Connection, event: Event) -> None:
    db.execute(
        "INSERT INTO events (kind, count, trials) VALUES (?, ?, ?)",
        (event.kind, event.count, _json(event.trials)),
    )


def _json(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    return None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False)
