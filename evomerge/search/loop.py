"""The search loop: score the baselines, then ask, evaluate, record and tell."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from evomerge.core.errors import TrialError
from evomerge.core.outcomes import Failed, Scored
from evomerge.core.responses import Items, Responses
from evomerge.optimizers.contract import Optimizer
from evomerge.search.asking import Asking, Heard, covers, only
from evomerge.search.budget import OPTIMIZER_FINISHED, Budget, Spent, affordable, exhausted
from evomerge.search.final_scoring import FinalScoring
from evomerge.search.item_scores import with_item_scores
from evomerge.search.measuring import Measuring
from evomerge.search.observer import Observer, Phase, Progress
from evomerge.search.race import BEFORE_ALL, Rivals, barred, hopeless
from evomerge.search.replay import replay
from evomerge.search.scoring import Fitness, Reference, Scoring
from evomerge.search.standings import Standings
from evomerge.spaces.space import SearchSpace
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial, outcome
from evomerge.workers.contract import Answered, Workers

_REPEATS = 200
"""So many known recipes in a row, and a search without a candidate limit is over."""

_ANY = 10**9


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
    """The time of day, for records."""

    steady: Callable[[], float] = time.monotonic
    """Seconds that always go forward, for the budget."""


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
        self._asking = Asking(parts.workers, parts.store, parts.scoring, parts.observer.workers)
        self._first_candidate = 1 + len(parts.space.baselines())
        self._candidates = replay(parts.store, parts.optimizer, parts.scoring)
        self._trials = {trial.number: trial for trial in parts.store.trials()}
        self._standings = Standings(parts.scoring.objectives, [])
        self._rivals = Rivals()
        for trial in self._trials.values():
            self._rank(trial)
        self._use(parts.scoring.fitness or parts.scoring.whole)
        self._calibration = parts.scoring.calibration
        self._rungs: dict[int, int] = {}
        self._due: dict[int, int] = {}  # what first rungs not yet put will cost
        self._search_items = sum(t.item_evaluations for t in self._trials.values())
        self._free_in_a_row = _free_at_the_end(list(self._trials.values()))
        self._minutes_before = parts.store.sessions.seconds_worked() / 60
        self._started = parts.steady()
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
        FinalScoring(
            self._asking,
            self._scoring,
            Measuring(self._scoring, self._scoring.whole, self._source_responses),
            self._parts.space.smooth_genes,
            lambda phase, total: self._begin_phase(phase, 0, total),
            self._report,
        ).run(self._trials)
        self._store.set_meta("state", "finished")
        return reason

    # ---- sources and baselines

    def _score_baselines(self) -> None:
        if not self._trials:
            self._add(
                Trial(number, b.kind, b.name, b.recipe, "open", asked_at=self._parts.clock())
                for number, b in enumerate(self._parts.space.baselines(), 1)
            )
        self._reopen_lost()
        plain = [t for t in self._trials.values() if t.kind != "candidate"]
        waiting = [t for t in plain if t.status == "open"]
        self._begin_phase("sources and baselines", len(plain) - len(waiting), len(plain))
        for wave in self._measuring.waves(waiting):
            self._asking.work_off(wave, self._scoring.items["search"], self._heard_of_plain)
        self._measuring.refuse_lost_references(list(self._trials.values()))
        sources = [t for t in self._trials.values() if t.kind == "source"]
        if all(t.status == "failed" for t in sources):
            reasons = sorted({t.failure.reason for t in sources if t.failure})
            raise TrialError(
                "no source model could be scored, so no merge of them can be judged: "
                + "; ".join(reasons)
            )

    def _reopen_lost(self) -> None:
        """Ask sources and baselines again that an earlier session's workers failed at.

        Only while nothing has been proposed, since candidates race against their scores.
        """
        if self._candidates:
            return
        for trial in list(self._trials.values()):
            if trial.failure is not None and trial.failure.stage == "worker":
                self._store.reopen_trial(trial.number)
                self._trials[trial.number] = replace(trial, status="open", failure=None)

    def _heard_of_plain(self, heard: Heard) -> None:
        self._finish(self._charged(heard), heard, self._scoring.items["search"])

    # ---- candidates

    def _search(self) -> str:
        self._calibrate()
        candidates = [t for t in self._trials.values() if t.kind == "candidate"]
        waiting = [t for t in candidates if t.status == "open"]
        self._due = {t.number: self._first_cost(t) for t in waiting}
        self._begin_phase("search", len(candidates) - len(waiting), self._budget.candidates)

        def supply(count: int) -> list[Trial]:
            taken = waiting[:count]
            del waiting[:count]
            return taken or self._ask(count)

        self._asking.work(supply, self._begin, self._heard)
        return self._why_over()

    def _ask(self, count: int) -> list[Trial]:
        """New open trials, recorded; none when the budget is used up or results are due."""
        spent = self._spent()
        if exhausted(self._budget, spent) or self._parts.optimizer.finished or self._stuck:
            return []
        count = min(count, self._open_places(), affordable(self._budget, spent, self._each()))
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
        self._candidates |= {t.number: c for t, c in zip(trials, candidates, strict=True)}
        self._due |= dict.fromkeys((t.number for t in trials), self._each())
        return self._add(trials, asked=count)

    def _open_places(self) -> int:
        """How many candidates may be asked for; while a calibration is on, only its own."""
        self._calibrate()
        calibration = self._calibration
        return calibration.candidates - len(self._candidates) if calibration else _ANY

    def _calibrate(self) -> None:
        """Make the estimator once all that it is made from have answered."""
        if self._calibration is None:
            return
        first = sorted(self._candidates)[: self._calibration.candidates]
        plain = [t.number for t in self._trials.values() if t.kind != "candidate"]
        trials = [self._trials[number] for number in [*plain, *first]]
        if len(first) < self._calibration.candidates or any(t.status == "open" for t in trials):
            return
        whole = self._scoring.items["search"]
        recipes: dict[str, Trial] = {}  # first proposed are baselines, scored before
        for trial in trials:
            if trial.status == "complete":
                recipes.setdefault(trial.recipe.digest, trial)
        references = [
            Reference(t.name, t.kind, only(self._asking.known(t), whole))
            for t in recipes.values()
        ]
        self._use(self._calibration.fit(references))
        self._calibration = None

    def _each(self) -> int:
        """Item evaluations that a candidate costs at least."""
        return self._scoring.cost(self._fitness.ladder.items(0, {}))

    def _first_cost(self, trial: Trial) -> int:
        """Item evaluations that a candidate's first rung still costs."""
        known = self._asking.known(trial)
        return self._asking.missing_cost(self._items(trial, 0, known), known)

    def _why_over(self) -> str:
        limit = exhausted(self._budget, self._spent())
        if limit is None and self._parts.optimizer.finished:
            return f"{OPTIMIZER_FINISHED}: {self._parts.optimizer.finished}"
        if limit is None and self._stuck:
            return f"nothing new was proposed in the last {_REPEATS} candidates"
        return limit or "what is left of the budget does not pay for one more candidate"

    @property
    def _stuck(self) -> bool:
        """Whether only known recipes are proposed, which an item budget would never end."""
        return self._budget.candidates is None and self._free_in_a_row >= _REPEATS

    def _spent(self) -> Spent:
        minutes = self._minutes_before + (self._parts.steady() - self._started) / 60
        items = self._search_items + self._asking.open_cost + sum(self._due.values())
        return Spent(len(self._candidates), minutes, items)

    # ---- a candidate's way up the rungs

    def _begin(self, trial: Trial) -> bool:
        self._rungs[trial.number] = 0
        self._due.pop(trial.number)  # known, or open from now on
        return self._put(trial)

    def _put(self, trial: Trial) -> bool:
        """Put the items of the trial's rung; tells whether it is open now."""
        known = self._asking.known(trial)
        items = self._items(trial, self._rungs[trial.number], known)
        if self._asking.put(trial, items, known):
            return True
        return self._heard(Heard(trial.number, Answered({}), known))

    def _items(self, trial: Trial, rung: int, known: Responses) -> Items:
        return self._fitness.ladder.items(
            rung, known, self._candidates[trial.number].generation
        )

    def _heard(self, heard: Heard) -> bool:
        """A rung is answered: record the trial's end, or put the next rung."""
        trial = self._charged(heard)
        whole, ladder = self._scoring.items["search"], self._fitness.ladder
        if isinstance(heard.result, Failed) or covers(heard.responses, whole):
            self._finish(trial, heard, whole)
            return False
        rung = self._rungs[trial.number]
        items = self._items(trial, rung, heard.responses)
        if rung + 1 < ladder.rungs:
            further = self._items(trial, rung + 1, heard.responses)
            cost = self._asking.missing_cost(further, heard.responses)
            if self._goes_on(self._ended(trial, heard, items), cost):
                self._store.add_responses(self._asking.answers(trial, heard), trial)
                self._rungs[trial.number] = rung + 1
                return self._put(trial)
        self._finish(trial, heard, items)
        return False

    def _goes_on(self, standing: Trial, cost: int) -> bool:
        """Whether a candidate as it stands may still win, and the budget pays for more."""
        scored, scoring = outcome(standing, self._scoring.objectives), self._scoring
        if isinstance(scored, Failed):
            return False
        if barred(scoring.constraints, standing.constraints, scoring.confidence):
            return False
        limited = replace(self._budget, candidates=None)
        if not affordable(limited, self._spent(), cost):
            return False
        rivals = self._rivals.of(self._candidates[standing.number].known)
        return not hopeless(scored, rivals, scoring.confidence)

    # ---- what a trial has come to

    def _use(self, fitness: Fitness) -> None:
        self._fitness = fitness
        self._measuring = Measuring(
            self._scoring,
            fitness,
            self._source_responses,
            by_item=self._parts.optimizer.learns_from_items,
        )

    def _charged(self, heard: Heard) -> Trial:
        """The trial with what its last answers took."""
        self._parts.observer.check()
        trial = self._trials[heard.number]
        timings = dict(trial.timings)
        if not isinstance(heard.result, Failed):
            for stage, seconds in heard.result.timings.items():
                timings[stage] = timings.get(stage, 0.0) + seconds
        charged = replace(
            trial, item_evaluations=trial.item_evaluations + heard.cost, timings=timings
        )
        self._trials[trial.number] = charged
        self._search_items += heard.cost
        return charged

    def _ended(self, trial: Trial, heard: Heard, items: Items) -> Trial:
        """The trial as it would end with its answers to these items."""
        ended = replace(trial, finished_at=self._parts.clock())
        if isinstance(heard.result, Failed):
            return replace(ended, status="failed", failure=heard.result)
        return self._measuring.ended(ended, only(heard.responses, items))

    def _finish(self, trial: Trial, heard: Heard, items: Items) -> None:
        """Make a trial's end durable, then tell the optimizer."""
        ended = self._ended(trial, heard, items)
        self._store.finish_trial(ended, self._asking.answers(trial, heard))
        self._trials[trial.number] = ended
        self._rungs.pop(trial.number, None)
        self._rank(ended)
        if ended.kind == "candidate":
            aims, optimizer = self._scoring.objectives, self._parts.optimizer
            told = outcome(ended, aims)
            if optimizer.learns_from_items:
                search_items = self._scoring.items["search"]
                told = with_item_scores(told, aims, heard.responses, search_items)
            optimizer.tell({ended.number - self._first_candidate: told})
        self._free_in_a_row = 0 if ended.item_evaluations else self._free_in_a_row + 1
        self._report(ended)

    def _rank(self, trial: Trial) -> None:
        self._standings.add(trial)
        if trial.status == "complete":
            scored = outcome(trial, self._scoring.objectives)
            if isinstance(scored, Scored):
                candidate = self._candidates.get(trial.number)
                self._rivals.add(scored, candidate.id if candidate else BEFORE_ALL)

    def _source_responses(self) -> dict[str, Responses]:
        """What the source models have answered so far, by name."""
        sources = [t for t in self._trials.values() if t.kind == "source"]
        return {t.name: self._asking.known(t) for t in sources if t.status == "complete"}

    # ---- bookkeeping

    def _add(self, trials: Iterable[Trial], asked: int | None = None) -> list[Trial]:
        fresh = list(trials)
        self._store.add_trials(fresh, asked=asked)
        self._trials.update({trial.number: trial for trial in fresh})
        return fresh

    def _begin_phase(self, phase: Phase, done: int, total: int | None) -> None:
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
                nearest=self._standings.nearest,
                item_evaluations=self._asking.answered,
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
