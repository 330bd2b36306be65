"""The search loop: score the baselines, then ask, evaluate, record and tell."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective, losses
from evomerge.core.outcomes import Failed
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.estimate import Estimator
from evomerge.optimizers.contract import Optimizer
from evomerge.search.budget import Budget, Spent, affordable, exhausted
from evomerge.search.finalists import spread, undominated
from evomerge.search.observer import Observer, Phase, Progress
from evomerge.search.replay import replay
from evomerge.search.standings import Standings
from evomerge.spaces.space import SearchSpace
from evomerge.store.study_store import Answers, StudyStore
from evomerge.store.trials import Trial, outcome
from evomerge.workers.contract import Answered, Job, JobResult, Workers

_REPEATS = 200
"""So many known recipes in a row, and a search without a candidate limit is over."""


@dataclass(frozen=True)
class Scoring:
    """How responses are identified and what they are turned into."""

    objectives: tuple[Objective, ...]
    estimator: Estimator
    items: Mapping[str, Items]
    """Chosen items by split: search, validation, test."""

    versions: Mapping[str, str]
    """Version by task."""

    settings: str
    """Digest of the evaluation settings."""

    finalists: int = 16
    """How many of the best candidates are re-scored on validation items."""


@dataclass(frozen=True)
class Parts:
    """What a search works with."""

    space: SearchSpace
    optimizer: Optimizer
    """Fresh: the search itself brings it to where the recorded history ends."""

    scoring: Scoring
    workers: Workers
    store: StudyStore
    observer: Observer
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class _Pending:
    """A trial whose result is awaited."""

    known: Responses
    """Answered before."""

    cost: int
    """Items put to it now."""


class Search:
    """One session of a study, from wherever it stands to the end of its budget.

    Args:
        parts: What to work with.
        budget: The hard total over all sessions.

    Raises:
        StoreError: The recorded history cannot be replayed.
    """

    def __init__(self, parts: Parts, budget: Budget) -> None:
        self._parts = parts
        self._scoring = parts.scoring
        self._store = parts.store
        self._budget = budget
        self._first_candidate = 1 + len(parts.space.baselines())
        self._asked = replay(parts.store, parts.optimizer, parts.scoring.objectives)
        self._trials = {trial.number: trial for trial in parts.store.trials()}
        self._standings = Standings(parts.scoring.objectives, list(self._trials.values()))
        self._free_in_a_row = _free_at_the_end(list(self._trials.values()))
        self._minutes_before = parts.store.seconds_worked() / 60
        self._started = parts.clock()
        self._pending: dict[int, _Pending] = {}
        self._unscored: list[tuple[int, str, str]] = []
        self._answered = parts.store.count_responses()
        self._search_items = sum(t.item_evaluations for t in self._trials.values())
        self._phase: tuple[Phase, int, int | None] = ("search", 0, None)

    def run(self) -> str:
        """Go on until the budget is used up; gives the reason for the end.

        Raises:
            TrialError: No source model could be scored.
            StoreError: The run directory cannot be written any more.
        """
        self._store.set_meta("state", "running")
        self._score_baselines()
        reason = self._search()
        self._score_finalists()
        self._store.set_meta("state", "finished")
        return reason

    # ---- sources and baselines

    def _score_baselines(self) -> None:
        if not self._trials:
            self._add(
                Trial(number, b.kind, b.name, b.recipe, "open", asked_at=self._parts.clock())
                for number, b in enumerate(self._parts.space.baselines(), 1)
            )
        plain = [t for t in self._trials.values() if t.kind != "candidate"]
        waiting = [t for t in plain if t.status == "open"]
        self._begin("sources and baselines", len(plain) - len(waiting), len(plain))
        self._work_off(waiting, "search", self._record)
        sources = [t for t in self._trials.values() if t.kind == "source"]
        if all(t.status == "failed" for t in sources):
            reasons = sorted({t.failure.reason for t in sources if t.failure})
            raise TrialError(
                "no source model could be scored, so no merge of them can be judged: "
                + "; ".join(reasons)
            )

    # ---- candidates

    def _search(self) -> str:
        candidates = [t for t in self._trials.values() if t.kind == "candidate"]
        waiting = [t for t in candidates if t.status == "open"]
        self._begin("search", len(candidates) - len(waiting), self._budget.candidates)
        open_jobs = {t.number for t in waiting if self._submit(t, "search", self._record)}
        while True:
            while len(open_jobs) < self._parts.workers.capacity:
                asked = self._ask(self._parts.workers.capacity - len(open_jobs))
                if not asked:
                    break
                open_jobs |= {
                    t.number for t in asked if self._submit(t, "search", self._record)
                }
            if not open_jobs:
                return self._why_over()
            job, result = self._parts.workers.finished()
            open_jobs.discard(job.number)
            self._record(self._trials[job.number], result)

    def _ask(self, count: int) -> list[Trial]:
        """New open trials, recorded; none when the budget is used up or results are due."""
        spent = self._spent()
        if exhausted(self._budget, spent) or self._parts.optimizer.finished or self._stuck:
            return []
        each = sum(map(len, self._scoring.items["search"].values()))
        count = min(count, affordable(self._budget, spent, each))
        if count == 0:
            return []
        candidates = self._parts.optimizer.ask(count)
        trials = [
            Trial(
                number=self._first_candidate + c.id,
                kind="candidate",
                name=f"candidate {c.id + 1}",
                recipe=self._parts.space.decode(c.genome),
                status="open",
                genome=c.genome,
                asked_at=self._parts.clock(),
            )
            for c in candidates
        ]
        self._asked += len(trials)
        return self._add(trials, asked=count)

    def _why_over(self) -> str:
        limit = exhausted(self._budget, self._spent())
        if limit is None and self._parts.optimizer.finished:
            return f"the optimizer has finished: {self._parts.optimizer.finished}"
        if limit is None and self._stuck:
            return f"nothing new was proposed in the last {_REPEATS} candidates"
        return limit or "what is left of the budget does not pay for one more candidate"

    @property
    def _stuck(self) -> bool:
        """Whether only known recipes are proposed, which an item budget would never end."""
        return self._budget.candidates is None and self._free_in_a_row >= _REPEATS

    def _spent(self) -> Spent:
        minutes = self._minutes_before + (self._parts.clock() - self._started) / 60
        items = self._search_items + sum(p.cost for p in self._pending.values())
        return Spent(self._asked, minutes, items)

    # ---- finalists

    def _score_finalists(self) -> None:
        """Re-score the best candidates on validation items, what stands there on test items."""
        plain = [
            t.number
            for t in self._trials.values()
            if t.kind != "candidate" and t.status == "complete"
        ]
        confirmed = self._rescored([*plain, *self._chosen()], "validation")
        points = {n: self._split_losses(n, "validation") for n in confirmed if n not in plain}
        final = [*(n for n in confirmed if n in plain), *undominated(points)]
        tested = self._rescored(final, "test")
        self._store.set_meta("finalists", {"validation": confirmed, "test": tested})
        self._store.set_meta("unscored", self._unscored)

    def _chosen(self) -> list[int]:
        """The search front; with one objective its single best is not trusted alone."""
        limit = self._scoring.finalists
        if len(self._scoring.objectives) == 1:
            done = [t for t in self._trials.values() if t.kind == "candidate" and t.estimates]
            return [t.number for t in sorted(done, key=self._losses_of)[:limit]]
        return spread(
            {n: self._losses_of(self._trials[n]) for n in self._standings.front}, limit
        )

    def _rescored(self, numbers: Sequence[int], split: Phase) -> list[int]:
        """Put a split's items to trials; gives those that answered them all."""
        self._begin(split, 0, len(numbers))
        self._work_off([self._trials[n] for n in numbers], split, self._keep)
        failed = {number for number, where, _ in self._unscored if where == split}
        return [number for number in numbers if number not in failed]

    def _keep(self, trial: Trial, result: JobResult) -> None:
        """Store a finished trial's further responses; one that fails on them drops out."""
        self._answered += self._pending.pop(trial.number).cost
        if isinstance(result, Failed):
            self._unscored.append((trial.number, self._phase[0], result.reason))
        elif result.responses:
            self._store.add_responses(self._answers(trial, result.responses))
        self._report(trial)

    def _split_losses(self, number: int, split: str) -> tuple[float, ...]:
        trial = self._trials[number]
        estimates = self._scoring.estimator.estimate(
            _only(self._stored(trial), self._scoring.items[split]), self._scoring.objectives
        )
        return losses(self._scoring.objectives, [e.value for e in estimates])

    def _losses_of(self, trial: Trial) -> tuple[float, ...]:
        return losses(self._scoring.objectives, trial.values)

    # ---- jobs

    def _work_off(
        self,
        waiting: Sequence[Trial],
        split: str,
        record: Callable[[Trial, JobResult], None],
    ) -> None:
        """Submit as many at once as the workers take; record each as it ends."""
        queue = list(waiting)
        open_jobs = 0
        while queue or open_jobs:
            while queue and open_jobs < self._parts.workers.capacity:
                open_jobs += self._submit(queue.pop(0), split, record)
            if open_jobs:
                job, result = self._parts.workers.finished()
                open_jobs -= 1
                record(self._trials[job.number], result)

    def _submit(
        self, trial: Trial, split: str, record: Callable[[Trial, JobResult], None]
    ) -> bool:
        """Submit what is not answered yet; where all is known, record that and say False."""
        known = self._stored(trial)
        missing = {
            task: tuple(sorted(set(items) - set(known[task].items if task in known else ())))
            for task, items in self._scoring.items[split].items()
        }
        missing = {task: items for task, items in missing.items() if items}
        self._pending[trial.number] = _Pending(known, sum(map(len, missing.values())))
        if not missing:
            record(trial, Answered({}))
            return False
        self._parts.workers.submit(Job(trial.number, trial.recipe, missing))
        return True

    def _record(self, trial: Trial, result: JobResult) -> None:
        """Make a trial's end durable, then tell the optimizer."""
        finished, answers = self._finished(trial, result)
        self._store.finish_trial(finished, answers)
        self._trials[trial.number] = finished
        if finished.kind == "candidate":
            told = outcome(finished, self._scoring.objectives)
            self._parts.optimizer.tell({finished.number - self._first_candidate: told})
        self._standings.add(finished)
        self._free_in_a_row = 0 if finished.item_evaluations else self._free_in_a_row + 1
        self._report(finished)

    def _finished(self, trial: Trial, result: JobResult) -> tuple[Trial, Answers | None]:
        pending = self._pending.pop(trial.number)
        self._answered += pending.cost
        self._search_items += pending.cost
        now = self._parts.clock()
        ended = replace(trial, item_evaluations=pending.cost, finished_at=now)
        if isinstance(result, Failed):
            return replace(ended, status="failed", failure=result), None
        answers = self._answers(trial, result.responses) if result.responses else None
        everything = dict(pending.known)
        for task, fresh in result.responses.items():
            everything[task] = everything[task].joined(fresh) if task in everything else fresh
        try:
            chosen = _only(everything, self._scoring.items["search"])
            estimates = self._scoring.estimator.estimate(chosen, self._scoring.objectives)
        except TrialError as error:
            failure = Failed("score", str(error))
            return replace(ended, status="failed", failure=failure), answers
        scored = tuple(estimates)
        timings = dict(result.timings)
        return replace(ended, status="complete", estimates=scored, timings=timings), answers

    def _answers(self, trial: Trial, responses: Responses) -> Answers:
        scoring = self._scoring
        return Answers(trial.recipe.digest, scoring.settings, scoring.versions, responses)

    def _stored(self, trial: Trial) -> Responses:
        return self._store.responses(
            trial.recipe.digest, self._scoring.settings, self._scoring.versions
        )

    # ---- bookkeeping

    def _add(self, trials: Iterable[Trial], asked: int | None = None) -> list[Trial]:
        fresh = list(trials)
        self._store.add_trials(fresh, asked=asked)
        self._trials.update({trial.number: trial for trial in fresh})
        return fresh

    def _begin(self, phase: Phase, done: int, total: int | None) -> None:
        self._phase = (phase, done, total)
        self._parts.observer.phase(phase, done, total)

    def _report(self, trial: Trial) -> None:
        phase, done, total = self._phase
        self._phase = (phase, done + 1, total)
        self._parts.observer.progress(
            Progress(
                phase=phase,
                done=done + 1,
                total=total,
                trial=trial,
                front=self._standings.front,
                best=self._standings.best,
                item_evaluations=self._answered,
            )
        )


def _free_at_the_end(trials: Sequence[Trial]) -> int:
    """How many trials at the end of the history cost no item evaluation."""
    count = 0
    for trial in reversed(trials):
        if trial.item_evaluations or trial.status == "open":
            break
        count += 1
    return count


def _only(responses: Responses, items: Items) -> dict[str, ItemResponses]:
    return {task: responses[task].only(chosen) for task, chosen in items.items()}
