"""Searches without models, followed by loggers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landscapes import LandscapeEvaluate, LandscapeStudy, meta, objectives

from evomerge.search.budget import Budget
from evomerge.search.observer import Announcement, Observer
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial
from evomerge.tracking.contract import Logger, RunFacts
from evomerge.tracking.registry import make_logger
from evomerge.tracking.run_loggers import RunLoggers

PARAMETERS = {"seed": 3, "optimizer": "nsga2", "operator": "task_arithmetic", "evomerge": "1.0"}
FRONT = "number,accuracy(one)\n9,0.75\n12,0.5\n"


class Killed(BaseException):
    """Ends a session where a real process would just be gone."""


@dataclass
class Followed:
    """A study in a folder, searched session by session."""

    run_dir: Path
    loggers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Options by name."""

    made: Mapping[str, Logger] = field(default_factory=dict)
    """In place of those named."""

    offline: bool = False

    def session(
        self, candidates: int, evaluate: LandscapeEvaluate | None = None, **more: object
    ) -> list[Trial]:
        """Search up to so many candidates; gives all trials."""
        known = (self.run_dir / "study.db").exists()
        self.run_dir.mkdir(exist_ok=True)
        opened = StudyStore.open if known else StudyStore.create
        with opened(self.run_dir, *(() if known else (meta(objectives(), {}),))) as store:
            loggers = self.made or {
                name: make_logger(name, options, offline=self.offline)
                for name, options in self.loggers.items()
            }
            facts = RunFacts("5tudy1d", "landscape", self.run_dir, PARAMETERS)
            with RunLoggers(
                more.pop("observer", Observer()),
                loggers,
                facts,
                store.trials(),
                lambda: store.meta("state"),
            ) as observer:
                observer.announce(Announcement(self.run_dir, objectives(), ()))
                study = LandscapeStudy(
                    store, evaluate=evaluate or LandscapeEvaluate(), observer=observer
                )
                study.search(Budget(candidates=candidates)).run()
                (self.run_dir / "front.csv").write_text(FRONT)
                (self.run_dir / "report.html").write_text("<html></html>")
            return store.trials()


def expected(trials: list[Trial]) -> dict[int, dict[str, float]]:
    """What each trial's own numbers are, by trial."""
    names = [objective.name for objective in objectives()]
    return {
        t.number: {
            f"{kind}/{name}": value
            for name, estimate in zip(names, t.estimates, strict=False)
            for kind, value in (
                ("objectives", estimate.value),
                ("standard errors", estimate.standard_error),
            )
        }
        for t in trials
    }
