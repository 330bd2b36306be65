"""Searches whose candidates climb rungs: what they are asked, budgets, kills, many workers."""

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from landscapes import (
    ITEMS,
    TASKS,
    LandscapeEvaluate,
    LandscapeStudy,
    landscape_skill,
    meta,
    objectives,
)
from shuffled_workers import ShuffledWorkers

from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Failed, Scored
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.ladder import FixedLadder, RotatingLadder
from evomerge.search.asking import only
from evomerge.search.budget import Budget
from evomerge.search.race import Rivals, hopeless
from evomerge.search.scoring import Fitness
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial, outcome
from evomerge.workers.contract import Evaluate, Job, JobResult, Workers

PLAIN = 7
"""Four sources and three baselines."""

POPULATION = 8
CONFIDENCE = 0.7
RUNGS = (4, 10, 20)
COSTS = tuple(len(TASKS) * count for count in RUNGS)
SIZES = dict.fromkeys(TASKS, 20)
OPTIMIZERS = [("nsga2", {"population": POPULATION}, 2), ("cma_es", {}, 1), ("random", {}, 2)]
VERSIONS = {task: f"v-{task}" for task in TASKS}


def ladder(counts=RUNGS, items=ITEMS["search"]) -> FixedLadder:
    rng = np.random.default_rng(1)
    orders = {task: rng.permutation(listed).tolist() for task, listed in items.items()}
    return FixedLadder(
        tuple({task: tuple(order[:n]) for task, order in orders.items()} for n in counts)
    )


def racing(
    store: StudyStore, optimizer="nsga2", options=None, aims=2, **more
) -> LandscapeStudy:
    mean = MeanEstimator(SIZES, cautious=True)
    return LandscapeStudy(
        store,
        optimizer,
        {"population": POPULATION} if options is None else options,
        objectives(aims),
        estimator=MeanEstimator(SIZES),
        confidence=CONFIDENCE,
        **{"fitness": Fitness(mean, ladder()), **more},
    )


def open_store(run_dir: Path, aims: int = 2) -> StudyStore:
    if (run_dir / "study.db").exists():
        return StudyStore.open(run_dir)
    run_dir.mkdir(exist_ok=True)
    return StudyStore.create(run_dir, meta(objectives(aims), {}))


def candidates(store: StudyStore) -> list[Trial]:
    return [t for t in store.trials() if t.kind == "candidate"]


def content(store: StudyStore) -> list:
    """Everything but times."""
    trials = [
        replace(t, timings=sorted(t.timings), asked_at=0.0, finished_at=None)
        for t in store.trials()
    ]
    answers = [
        {
            task: sorted(zip(r.items, *r.values.values(), strict=True))
            for task, r in store.responses(t.recipe.digest, "s", VERSIONS).items()
        }
        for t in trials
    ]
    return [trials, answers, store.meta("finalists")]


def answered(store: StudyStore, trial: Trial) -> set[tuple[str, int]]:
    """Which search items a trial's recipe has answered."""
    known = store.responses(trial.recipe.digest, "s", VERSIONS)
    return {
        (task, item)
        for task, r in known.items()
        for item in r.items
        if item in ITEMS["search"][task]
    }


def rung_of(store: StudyStore, trial: Trial) -> int:
    """The rung that a trial has climbed to; its answers must be exactly that rung's."""
    held = answered(store, trial)
    steps = [
        {(task, item) for task, items in step.items() for item in items}
        for step in ladder().steps
    ]
    return steps.index(held)


class Killed(BaseException):
    """Ends a search where a real process would just be gone."""


@dataclass
class Listed(LandscapeEvaluate):
    """Notes every item that is asked; dies at a job where told to."""

    dies_at: int = -1
    asked: list[tuple[int, str, str, int]] = field(default_factory=list)
    """Trial, recipe, task and item."""

    def __call__(self, job: Job) -> JobResult:
        if len(self.jobs) == self.dies_at:
            raise Killed
        self.asked += [
            (job.number, job.recipe.digest, task, item)
            for task, items in job.items.items()
            for item in items
        ]
        return super().__call__(job)


# ---- what candidates are asked


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A finished search of nine generations, with all that was asked."""
    listed = Listed()
    with open_store(tmp_path_factory.mktemp("raced") / "run") as store:
        racing(store, evaluate=listed).search(Budget(candidates=9 * POPULATION)).run()
        yield store, listed


def test_the_eliminated_have_answered_lower_rungs_and_survivors_everything(raced):
    store, _ = raced
    reached = Counter(rung_of(store, trial) for trial in candidates(store))
    assert sum(reached.values()) == 9 * POPULATION
    assert min(reached[rung] for rung in range(len(RUNGS))) >= 2


def test_sources_and_baselines_answer_everything(raced):
    store, _ = raced
    plain = [t for t in store.trials() if t.kind != "candidate"]
    assert [rung_of(store, trial) for trial in plain] == [2] * PLAIN
    assert all(e.standard_error == 0 for t in plain for e in t.estimates)


def test_a_candidate_climbs_for_as_long_as_no_earlier_one_beats_it(raced):
    store, _ = raced
    aims = objectives(2)
    mean = MeanEstimator(SIZES, cautious=True)
    rivals = Rivals()
    waiting: list[Scored] = [outcome(t, aims) for t in store.trials() if t.kind != "candidate"]
    stopped = 0
    for place, trial in enumerate(candidates(store)):
        if place % POPULATION == 0:
            for scored in waiting:
                rivals.add(scored, 0)
            waiting = []
        known = store.responses(trial.recipe.digest, "s", VERSIONS)
        reached = rung_of(store, trial)
        for rung in range(min(reached + 1, len(RUNGS) - 1)):
            there = mean.estimate(only(known, ladder().steps[rung]), aims)
            standing = Scored(
                tuple(-e.value for e in there), tuple(e.standard_error for e in there)
            )
            beaten = hopeless(standing, rivals.of(1 + place), CONFIDENCE)
            assert beaten == (rung == reached)
            stopped += beaten
        assert trial.estimates == mean.estimate(only(known, ladder().steps[reached]), aims)
        waiting.append(outcome(trial, aims))
    assert stopped >= 10


def test_nobody_is_asked_an_item_twice(raced):
    _, listed = raced
    times = Counter((recipe, task, item) for _, recipe, task, item in listed.asked)
    assert set(times.values()) == {1}


def test_each_trial_is_charged_for_what_it_was_asked(raced):
    store, listed = raced
    charged = {t.number: t.item_evaluations for t in store.trials() if t.item_evaluations}
    asked = Counter(
        number for number, _, task, item in listed.asked if item in ITEMS["search"][task]
    )
    assert charged == dict(asked)


def test_the_winner_of_a_race_is_as_good_for_far_fewer_items(tmp_path):
    places = (
        ("search", range(200)),
        ("validation", range(200, 300)),
        ("test", range(300, 320)),
    )
    bank = {split: dict.fromkeys(TASKS[:2], tuple(items)) for split, items in places}
    goal = (Objective("accuracy", {"one": 0.5, "two": 0.5}),)
    sizes = dict.fromkeys(TASKS, 200)
    race = Fitness(MeanEstimator(sizes, cautious=True), ladder((10, 40, 200), bank["search"]))
    skill: dict[bool, list[float]] = {True: [], False: []}
    items = Counter()
    for seed, fitness in itertools.product((1, 2, 3), (None, race)):
        run_dir = tmp_path / f"{seed}{fitness is race}"
        run_dir.mkdir()
        with StudyStore.create(run_dir, meta(goal, {})) as store:
            LandscapeStudy(
                store, "cma_es", {}, goal, seed=seed, estimator=MeanEstimator(sizes),
                items=bank, fitness=fitness, confidence=0.75,
            ).search(Budget(candidates=60)).run()  # fmt: skip
            winner = store.trial(store.meta("finalists")["test"][-1])
            skill[fitness is race].append(
                sum(landscape_skill(winner.recipe, number) for number in (1, 2)) / 2
            )
            items[fitness is race] += sum(t.item_evaluations for t in candidates(store))
    assert np.mean(skill[True]) > np.mean(skill[False]) - 0.01
    assert items[True] < 0.5 * items[False]


# ---- failures


def test_a_candidate_that_fails_on_a_higher_rung_keeps_its_answers_and_is_not_asked_again(
    tmp_path,
):
    evaluate = Listed(
        lambda job: "overflow" if job.number > PLAIN and len(job.items["one"]) == 6 else None
    )
    with open_store(tmp_path / "run") as store:
        racing(store, evaluate=evaluate).search(Budget(candidates=20)).run()
        failed = [t for t in candidates(store) if t.status == "failed"]
        assert failed
        assert {t.failure for t in failed} == {Failed("evaluate", "overflow")}
        assert {rung_of(store, t) for t in failed} == {0}
        assert {t.item_evaluations for t in failed} == {COSTS[1]}
        assert all(rung_of(store, t) != 1 for t in candidates(store))


# ---- the item budget


def spent(store: StudyStore) -> int:
    return sum(t.item_evaluations for t in store.trials())


def cut_short(store: StudyStore) -> list[int]:
    """Trials below the last rung that nothing but the budget can have stopped."""
    aims = objectives(2)
    everything = [outcome(t, aims) for t in store.trials() if t.status == "complete"]
    return [
        t.number
        for t in candidates(store)
        if rung_of(store, t) < 2 and not hopeless(outcome(t, aims), everything, CONFIDENCE)
    ]


def test_the_item_budget_holds_wherever_in_a_climb_it_ends(tmp_path):
    cut = 0
    for total in range(1300, 1350, 7):
        with open_store(tmp_path / str(total)) as store:
            racing(store).search(Budget(item_evaluations=total)).run()
            assert total - COSTS[0] < spent(store) <= total
            assert all(t.status == "complete" for t in store.trials())
            cut += bool(cut_short(store))
    assert cut >= 3


@pytest.mark.parametrize("seed", range(4))
def test_the_item_budget_holds_with_several_workers(tmp_path, seed):
    with open_store(tmp_path / "run") as store:
        study = racing(store, workers=lambda evaluate: ShuffledWorkers(evaluate, 4, seed))
        study.search(Budget(item_evaluations=1333)).run()
        assert 1333 - COSTS[0] < spent(store) <= 1333


@pytest.mark.parametrize("dies_at", range(20, 40, 3))
def test_the_item_budget_holds_when_fewer_workers_go_on_with_what_more_had_begun(
    tmp_path, dies_at
):
    budget = Budget(item_evaluations=PLAIN * COSTS[2] + 150)
    with open_store(tmp_path / "run") as store, pytest.raises(Killed):
        racing(
            store,
            evaluate=Listed(dies_at=dies_at - 10),
            workers=lambda evaluate: ShuffledWorkers(evaluate, 6, dies_at),
        ).search(budget).run()
    with open_store(tmp_path / "run") as store:
        racing(store).search(budget).run()
        assert spent(store) <= budget.item_evaluations
        assert all(t.status == "complete" for t in store.trials())


# ---- kills


@pytest.mark.parametrize(("optimizer", "options", "aims"), OPTIMIZERS)
@pytest.mark.parametrize(
    "budget", [Budget(candidates=18), Budget(item_evaluations=PLAIN * COSTS[2] + 333)]
)
def test_killed_at_every_job_a_race_ends_as_if_undisturbed(
    tmp_path, optimizer, options, aims, budget
):
    listed = Listed()
    with open_store(tmp_path / "whole", aims) as whole:
        racing(whole, optimizer, options, aims, evaluate=listed).search(budget).run()
        expected = content(whole)
        assert len({rung_of(whole, t) for t in candidates(whole)}) > 1
    asked = []
    for _ in listed.jobs[:-1]:
        one = Listed(dies_at=1)
        with open_store(tmp_path / "killed", aims) as store, pytest.raises(Killed):
            racing(store, optimizer, options, aims, evaluate=one).search(budget).run()
        asked += one.asked
    with open_store(tmp_path / "killed", aims) as store:
        one = Listed()
        racing(store, optimizer, options, aims, evaluate=one).search(budget).run()
        assert content(store) == expected
        assert asked + one.asked == listed.asked


def test_rotating_generations_answer_their_own_items_also_after_kills(tmp_path):
    orders = {task: tuple(items) for task, items in ITEMS["search"].items()}
    turns = RotatingLadder(orders, dict.fromkeys(TASKS, (4, 10)))
    fitness = Fitness(MeanEstimator(SIZES, cautious=True), turns)
    budget = Budget(candidates=3 * POPULATION)
    with open_store(tmp_path / "whole") as whole:
        racing(whole, fitness=fitness).search(budget).run()
        expected = content(whole)
        climbed = Counter()
        for place, trial in enumerate(candidates(whole)):
            held = answered(whole, trial)
            steps = [turns.items(k, {}, place // POPULATION) for k in (0, 1)]
            rungs = [{(t, i) for t, chosen in step.items() for i in chosen} for step in steps]
            climbed[rungs.index(held)] += 1
        assert min(climbed[0], climbed[1]) >= 2
    for dies_at in (9, 6, 4, 7, 3, 1, 5):
        with open_store(tmp_path / "killed") as store, pytest.raises(Killed):
            racing(store, fitness=fitness, evaluate=Listed(dies_at=dies_at)).search(
                budget
            ).run()
    with open_store(tmp_path / "killed") as store:
        racing(store, fitness=fitness).search(budget).run()
        assert content(store) == expected


# ---- several workers


@pytest.mark.parametrize(("optimizer", "options", "aims"), OPTIMIZERS)
def test_neither_the_number_of_workers_nor_their_order_changes_a_result(
    tmp_path, optimizer, options, aims
):
    budget = Budget(candidates=35)
    with open_store(tmp_path / "one", aims) as store:
        racing(store, optimizer, options, aims).search(budget).run()
        expected = content(store)
    for seed in (1, 2):
        made = []

        def workers(evaluate: Evaluate, seed: int = seed, made: list = made) -> Workers:
            made.append(ShuffledWorkers(evaluate, 4, seed))
            return made[0]

        with open_store(tmp_path / f"four{seed}", aims) as store:
            racing(store, optimizer, options, aims, workers=workers).search(budget).run()
            assert content(store) == expected
        assert made[0].most_open == 4


def test_several_workers_killed_and_resumed_in_another_order_change_nothing(tmp_path):
    budget = Budget(candidates=30)
    with open_store(tmp_path / "one") as store:
        racing(store).search(budget).run()
        expected = content(store)
    for seed, dies_at in enumerate((5, 6, 9, 4, 7, 11, 3, 8)):
        with open_store(tmp_path / "four") as store, pytest.raises(Killed):
            racing(
                store,
                evaluate=Listed(dies_at=dies_at),
                workers=lambda evaluate, seed=seed: ShuffledWorkers(evaluate, 4, seed),
            ).search(budget).run()
    with open_store(tmp_path / "four") as store:
        racing(store, workers=lambda evaluate: ShuffledWorkers(evaluate, 3, 99)).search(
            budget
        ).run()
        assert content(store) == expected


@pytest.mark.parametrize("seed", [1, 4])
def test_which_of_equals_finishes_first_decides_no_finalist(tmp_path, seed):
    few = Fitness(MeanEstimator(SIZES, cautious=True), ladder((3,)))
    finalists = []
    for capacity in (1, 5):
        with open_store(tmp_path / str(capacity)) as store:
            racing(
                store,
                fitness=few,
                seed=seed,
                workers=lambda evaluate, n=capacity: ShuffledWorkers(evaluate, n, seed),
            ).search(Budget(candidates=12)).run()
            finalists.append(store.meta("finalists"))
            scores = [t.values for t in candidates(store)]
    assert len(set(scores)) < len(scores)
    assert finalists[0] == finalists[1]
