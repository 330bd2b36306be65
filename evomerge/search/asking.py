"""Asking: has items answered by trials' recipes, and never asks what is known."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evomerge.core.outcomes import Failed
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.search.scoring import Scoring
from evomerge.search.turns import Turns
from evomerge.store.study_store import Answers, StudyStore
from evomerge.store.trials import Trial
from evomerge.workers.contract import Answered, Job, JobResult, Workers

_LOOK_SECONDS = 1.0
"""Between looks at the workers."""

_ROWS_A_SECOND = 500.0
"""States of workers written in each second between looks."""


@dataclass(frozen=True)
class Heard:
    """What has come of the items that were put to a trial's recipe."""

    number: int
    result: JobResult

    known: Responses
    """Answered before."""

    cost: int = 0
    """Item evaluations that it took."""

    @property
    def responses(self) -> dict[str, ItemResponses]:
        """All answers, old and new."""
        everything = dict(self.known)
        fresh = {} if isinstance(self.result, Failed) else self.result.responses
        for task, answered in fresh.items():
            everything[task] = (
                everything[task].joined(answered) if task in everything else answered
            )
        return everything


class Asking:
    """The way from trials to their answers.

    Args:
        workers: Who answers.
        store: What has been answered.
        scoring: How answers are identified and what they cost.
        watched: Told about every second how the workers stand and what befell them.
    """

    def __init__(
        self,
        workers: Workers,
        store: StudyStore,
        scoring: Scoring,
        watched: Callable[[Sequence[WorkerState], Sequence[Incident]], None],
    ) -> None:
        self._workers = workers
        self._watched = watched
        self._looked = time.monotonic()
        self.store = store
        """Where the answers are kept."""
        self._scoring = scoring
        self._open: dict[int, tuple[Responses, int]] = {}
        self._open_cost = 0
        self.answered = store.count_responses(scoring.asks)
        """Item evaluations behind everything that the study holds."""

    @property
    def open_cost(self) -> int:
        """Item evaluations under way."""
        return self._open_cost

    def known(self, trial: Trial) -> Responses:
        """What the trial's recipe has answered."""
        return self.store.responses(
            trial.recipe.digest, self._scoring.settings, self._scoring.versions
        )

    def missing_cost(self, items: Items, known: Responses) -> int:
        """Item evaluations that it takes to have these items answered."""
        return self._scoring.cost(_missing(items, known))

    def put(self, trial: Trial, items: Items, known: Responses) -> bool:
        """Have the items answered as far as they are not known; False where all are."""
        missing = _missing(items, known)
        if not missing:
            return False
        cost = self._scoring.cost(missing)
        self._open[trial.number] = (known, cost)
        self._open_cost += cost
        self._workers.submit(Job(trial.number, trial.recipe, missing))
        return True

    def hear(self) -> Heard:
        """Wait for the next trial whose items are answered."""
        self.look()
        while (done := self._workers.finished(_LOOK_SECONDS)) is None:
            self.look()
        job, result = done
        known, cost = self._open.pop(job.number)
        self._open_cost -= cost
        self.answered += cost
        return Heard(job.number, result, known, cost)

    def look(self, *, at_once: bool = False) -> None:
        """Record how the workers stand, if it is time to."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS and not at_once:
            return
        states, incidents = self._workers.states(), self._workers.incidents()
        self.store.sessions.note_workers(states, incidents)
        self._watched(states, incidents)
        # A thousand rows take a moment to write; it stays a small part of the driver's time.
        self._looked = now + len(states) / _ROWS_A_SECOND

    def answers(self, trial: Trial, heard: Heard) -> Answers | None:
        """The new answers with all that identifies them; None without any."""
        if isinstance(heard.result, Failed) or not heard.result.responses:
            return None
        scoring = self._scoring
        return Answers(
            trial.recipe.digest, scoring.settings, scoring.versions, heard.result.responses
        )

    def work(
        self,
        supply: Callable[[int], Sequence[Trial]],
        begin: Callable[[Trial], bool],
        heard: Callable[[Heard], bool],
    ) -> None:
        """Keep the workers busy until the supply is dry and nothing is open.

        Args:
            supply: Gives up to so many trials to begin; none while there are none.
            begin: Begins a trial; tells whether it is open now.
            heard: Takes answers; tells whether their trial is open again.
        """
        turns = Turns(begin)
        while True:
            while turns.under_way < self._workers.capacity:
                fresh = supply(self._workers.capacity - turns.under_way)
                if not fresh:
                    break
                for trial in fresh:
                    turns.begin(trial)
            if not turns.under_way:
                self.look(at_once=True)
                return
            answers = self.hear()
            if not heard(answers):
                turns.end(answers.number)

    def work_off(
        self,
        waiting: Sequence[Trial],
        items: Items,
        heard: Callable[[Heard], object],
    ) -> None:
        """Have the same items answered by each of some trials."""
        queue = list(waiting)

        def supply(count: int) -> list[Trial]:
            taken = queue[:count]
            del queue[:count]
            return taken

        def begin(trial: Trial) -> bool:
            known = self.known(trial)
            is_open = self.put(trial, items, known)
            if not is_open:
                heard(Heard(trial.number, Answered({}), known))
            return is_open

        def closed(answers: Heard) -> bool:
            heard(answers)
            return False

        self.work(supply, begin, closed)


def _missing(items: Items, known: Responses) -> dict[str, tuple[int, ...]]:
    missing = {
        task: tuple(sorted(set(chosen) - set(known[task].items if task in known else ())))
        for task, chosen in items.items()
    }
    return {task: chosen for task, chosen in missing.items() if chosen}


def only(responses: Responses, items: Items) -> dict[str, ItemResponses]:
    """The responses to exactly these items, in their order.

    Raises:
        KeyError: One of them was not answered.
    """
    return {task: responses[task].only(chosen) for task, chosen in items.items()}


def covers(responses: Responses, items: Items) -> bool:
    """Whether all of some items were answered."""
    return not _missing(items, responses)
