"""A study that a search seems to be working on: locked, and written to trial by trial."""

from dataclasses import replace
from pathlib import Path
from typing import Self

from report.study_builder import SETTINGS, Builder, Plan

from evomerge.core.objectives import Estimate
from evomerge.core.outcomes import Failed
from evomerge.core.responses import ItemResponses
from evomerge.store.run_lock import RunLock
from evomerge.store.study_store import Answers, StudyStore
from evomerge.store.trials import Trial


class LiveStudy:
    """Writes as a search does; whoever reads the run directory takes it for a running one."""

    def __init__(self, run_dir: Path, **plan: object) -> None:
        fields = {"candidates": 0, "finals": False, "state": "running"} | plan
        self.builder = Builder(Plan(**fields))
        self.run_dir = self.builder.write(run_dir)
        self.begin()

    def begin(self) -> None:
        """A session starts."""
        self.lock = RunLock(self.run_dir)
        self.store = StudyStore.open(self.run_dir)
        self.store.set_meta("state", "running")
        self.store.sessions.start({})

    def ask(self, count: int = 1, name: str = "candidate") -> list[Trial]:
        """New open candidates."""
        known = self.store.trials()
        numbers = range(len(known) + 1, len(known) + 1 + count)
        trials = [
            Trial(n, "candidate", f"{name} {n}", known[0].recipe, "open", genome={})
            for n in numbers
        ]
        self.store.add_trials(trials, asked=count)
        return trials

    def finish(
        self,
        trial: Trial,
        *values: float,
        at: float = 0.0,
        items: int = 40,
        missed: float = 0.0,
    ) -> None:
        """A candidate's end with these scores, missing the constraints by so much."""
        estimates = tuple(Estimate(value, 0.01) for value in values)
        done = replace(
            trial,
            status="complete",
            estimates=estimates,
            violation=missed,
            finished_at=at,
            item_evaluations=items,
        )
        self.store.finish_trial(done)

    def fail(self, trial: Trial, reason: str, at: float = 0.0) -> None:
        """A candidate's end without a score."""
        failure = Failed("evaluate", reason)
        self.store.finish_trial(
            replace(trial, status="failed", failure=failure, finished_at=at)
        )

    def answer(self, split: str, recipe: str) -> None:
        """A recipe answers a split's items, as in the final re-scoring."""
        answers = {
            task: ItemResponses(ids, {"accuracy": (1.0,) * len(ids)})
            for task, ids in self.builder.items[split].items()
        }
        versions = {task: f"v-{task}" for task in answers}
        self.store.add_responses(Answers(recipe, SETTINGS, versions, answers))

    def end(self, state: str | None) -> None:
        """The session ends in this state; None as if it had been killed."""
        if state is not None:
            self.store.set_meta("state", state)
            self.store.sessions.end("over")
        self.store.close()
        self.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        if not self.lock._file.closed:
            self.lock.release()
