"""RecentChanges: what is new in a study since somebody last looked, without its bulk."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from evomerge.core.objectives import Estimate
from evomerge.core.outcomes import Failed
from evomerge.core.worker_state import Incident
from evomerge.store.trials import Kind, Status, estimates_of


@dataclass(frozen=True)
class TrialState:
    """A trial as it stands, without its recipe and genes."""

    number: int
    kind: Kind
    name: str
    status: Status
    estimates: tuple[Estimate, ...]
    """One per objective; empty unless complete."""

    violation: float
    failure: Failed | None
    item_evaluations: int
    finished_at: float | None
    """Seconds since the epoch."""


@dataclass(frozen=True)
class AnswerMark:
    """Where answers of a recipe to a task were written, and one of the items answered."""

    row: int
    """Grows with every answer written."""

    recipe: str
    task: str
    item: int


class RecentChanges:
    """Narrow questions to a study, for those who look at it every second.

    Each takes time in the size of its answer, not of the study.

    Args:
        rows: Runs a query of the study's database.
    """

    def __init__(self, rows: Callable[..., list[Any]]) -> None:
        self._rows = rows

    def trials(self, after: int, waiting: Collection[int]) -> list[TrialState]:
        """Trials that are new, and known ones that may have ended meanwhile.

        Args:
            after: The highest number known.
            waiting: Numbers of the known trials that were open.

        Returns:
            Every trial with a higher number, and those waited for, by number.
        """
        columns = (
            "number, kind, name, status, estimates, violation, stage, reason, "
            "item_evaluations, finished_at"
        )
        found = self._rows(
            f"SELECT {columns} FROM trials WHERE number > ?1 UNION ALL "
            f"SELECT {columns} FROM trials WHERE number <= ?1 AND number IN "
            "(SELECT value FROM json_each(?2)) ORDER BY number",
            (after, json.dumps(list(waiting))),
        )
        return [_state(row) for row in found]

    def answers(self, count: int, before: int | None = None) -> list[AnswerMark]:
        """The latest answers, newest first.

        Args:
            count: How many at most.
            before: Only those written before this row.
        """
        found = self._rows(
            "SELECT rowid, recipe, task, json_extract(items, '$[0]') FROM responses "
            "WHERE ?1 IS NULL OR rowid < ?1 ORDER BY rowid DESC LIMIT ?2",
            (before, count),
        )
        return [AnswerMark(*row) for row in found]

    def incidents(self, count: int) -> tuple[int, list[Incident]]:
        """How many incidents there have been in all sessions, and the latest, newest first."""
        total = self._rows("SELECT coalesce(max(rowid), 0) FROM incidents")[0][0]
        found = self._rows(
            "SELECT at, worker, what, trial FROM incidents ORDER BY rowid DESC LIMIT ?",
            (count,),
        )
        return total, [Incident(*row) for row in found]


def _state(row: tuple[Any, ...]) -> TrialState:
    number, kind, name, status, estimates, violation, stage, reason, items, end = row
    return TrialState(
        number=number,
        kind=kind,
        name=name,
        status=status,
        estimates=estimates_of(estimates),
        violation=violation,
        failure=Failed(stage, reason) if status == "failed" else None,
        item_evaluations=items,
        finished_at=end,
    )
