"""Workers that never answer an item twice, whichever of several searches asks."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from evomerge.core.digest import digest
from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe
from evomerge.core.responses import ItemResponses, Responses
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.merging.operators.registry import OPERATORS
from evomerge.store.study_store import Answers, StudyStore
from evomerge.workers.contract import Answered, Job, JobResult, Workers


class SharedAnswers(Workers):
    """Looks answers up in a store that several searches share before a worker is asked.

    Searches with different seeds write different seeds into their recipes. Where no operator
    draws anything, these are the same model and share their answers.

    Args:
        workers: Who answers what is not known; stays open when this is closed.
        store: What has been answered, in any search; only its answers are used.
        versions: Version by task.
    """

    def __init__(
        self, workers: Workers, store: StudyStore, versions: Mapping[str, str]
    ) -> None:
        self._workers = workers
        self._store = store
        self._versions = dict(versions)
        self._ready: deque[tuple[Job, Answered]] = deque()
        self._open: dict[int, tuple[Job, Responses]] = {}
        self.computed = 0
        """Answers that a worker had to give."""

    @property
    @override
    def settings(self) -> Mapping[str, Any]:
        return self._workers.settings

    @property
    @override
    def plan(self) -> tuple[str, ...]:
        return self._workers.plan

    @property
    @override
    def capacity(self) -> int:
        return self._workers.capacity

    @override
    def submit(self, job: Job) -> None:
        known = self._store.responses(
            model_of(job.recipe), digest(dict(self.settings)), self._versions
        )
        missing = {
            task: tuple(i for i in items if task not in known or i not in known[task].items)
            for task, items in job.items.items()
        }
        missing = {task: items for task, items in missing.items() if items}
        if missing:
            self._open[job.number] = (job, known)
            self._workers.submit(replace(job, items=missing))
        else:
            self._ready.append((job, Answered(_only(known, job))))

    @override
    def finished(self, wait: float | None = None) -> tuple[Job, JobResult] | None:
        if self._ready:
            return self._ready.popleft()
        done = self._workers.finished(wait)
        if done is None:
            return None
        job, known = self._open.pop(done[0].number)
        result = done[1]
        if isinstance(result, Failed):
            return job, result
        settings = digest(dict(self.settings))
        fresh = Answers(model_of(job.recipe), settings, self._versions, result.responses)
        self._store.add_responses(fresh)
        self.computed += sum(len(r.items) for r in result.responses.values())
        return job, replace(result, responses=_only(_joined(known, result.responses), job))

    @override
    def states(self) -> tuple[WorkerState, ...]:
        return self._workers.states()

    @override
    def incidents(self) -> tuple[Incident, ...]:
        return self._workers.incidents()

    @override
    def close(self) -> None:
        self._ready.clear()


def model_of(recipe: Recipe) -> str:
    """Digest of what a recipe merges to: without its seed where no operator draws."""
    drawing = any(
        rule.operator not in OPERATORS or OPERATORS[rule.operator].stochastic
        for rule in recipe.rules
    )
    return recipe.digest if drawing else replace(recipe, seed=0).digest


def _joined(known: Responses, fresh: Responses) -> dict[str, ItemResponses]:
    joined = dict(known)
    for task, answered in fresh.items():
        joined[task] = joined[task].joined(answered) if task in joined else answered
    return joined


def _only(responses: Responses, job: Job) -> dict[str, ItemResponses]:
    return {task: responses[task].only(items) for task, items in job.items.items()}
