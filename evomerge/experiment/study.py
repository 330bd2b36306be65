"""Study: a search with its history, as Python and the command line see it."""

from pathlib import Path

import pandas as pd

from evomerge.core.recipe import Recipe
from evomerge.report.frames import front_frame, trials_frame
from evomerge.report.summary import Summary, summarize
from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


class Study:
    """A study on disk, finished or not; every method reads it as it stands now.

    Args:
        path: The run directory.

    Raises:
        StoreError: There is no study.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._store():
            pass

    def __repr__(self) -> str:
        """The study by its place."""
        return f"Study({str(self.path)!r})"

    def trials(self) -> pd.DataFrame:
        """One row a trial: number, kind, name, status, objectives, genes, timings, reason."""
        with self._store() as store:
            return trials_frame(store)

    def front(self) -> pd.DataFrame:
        """The candidates that no other dominates, in the form of ``trials``."""
        with self._store() as store:
            return front_frame(store)

    def summary(self) -> Summary:
        """The numbers of the report."""
        with self._store() as store:
            return summarize(store)

    def trial(self, number: int) -> Trial:
        """One trial with its recipe.

        Raises:
            StoreError: No trial has this number.
        """
        with self._store() as store:
            return store.trial(number)

    def recipe(self, number: int) -> Recipe:
        """The recipe of a trial."""
        return self.trial(number).recipe

    def end(self) -> str | None:
        """Why its last session ended; None while it goes on and after a kill."""
        with self._store() as store:
            sessions = store.sessions.all()
        return sessions[-1].reason if sessions else None

    def report(self) -> Path:
        """Rebuild report.html, front.csv and the front's recipes; gives the page's path."""
        with self._store() as store:
            write_report(store, self.path)
        return self.path / "report.html"

    def _store(self) -> StudyStore:
        return StudyStore.open(self.path, read_only=True)
