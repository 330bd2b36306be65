"""Searches with constraints: feasible candidates first, from the race to the final front."""

from dataclasses import replace

import numpy as np
import pytest
from landscapes import ITEMS, TASKS, LandscapeStudy, landscape_skill, meta, objectives

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.outcomes import Scored
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.ladder import FixedLadder
from evomerge.search.budget import Budget
from evomerge.search.finalists import finalists
from evomerge.search.race import BEFORE_ALL, Rivals, barred
from evomerge.search.scoring import Fitness
from evomerge.search.standings import Standings
from evomerge.spaces.genes import FloatGene
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial, outcome

PLAIN = 7
GENES = (FloatGene("x", 0.0, 1.0),)
RECIPE = Recipe((Source("a", "a"),), (Rule("linear", {"a": {}}),))
GOAL = (Objective("accuracy", {"one": 1.0}),)
PARAMETERS = Objective("parameters", {}, "minimize", kind="parameters")
GUARD = Constraint(Objective("accuracy", {"two": 1.0}), "at_least", 0.6)
LOSS = Constraint(Objective("accuracy", {"two": 1.0}), "at_most", 0.4, reference="e2")
SIZE = Constraint(PARAMETERS, "at_most", 1.0, 1.0)
RUNGS = (4, 20)


def trial(number, value, missed=0.0, kind="candidate", constraints=()) -> Trial:
    return Trial(
        number, kind, f"t{number}", replace(RECIPE, seed=number), "complete", {"x": number / 100},
        estimates=(Estimate(value, 0.1),), constraints=constraints, violation=missed,
    )  # fmt: skip


def weight(_: Objective, recipe: Recipe) -> float:
    """Stands for a size that the recipe alone decides."""
    given = recipe.rules[0].models
    return sum(float(p.get("weight", 1.0)) for p in given.values())


def study(store, *constraints, aims=GOAL, **more) -> LandscapeStudy:
    return LandscapeStudy(
        store, "nsga2", {"population": 8}, aims, constraints=constraints,
        recipe_value=weight, **more,
    )  # fmt: skip


def opened(run_dir, aims=GOAL) -> StudyStore:
    run_dir.mkdir(exist_ok=True)
    return StudyStore.create(run_dir, meta(aims, {}))


def skill(found: Trial, task: str) -> float:
    return landscape_skill(found.recipe, TASKS.index(task) + 1)


# ---- parts


def test_an_infeasible_trial_never_leads_whatever_its_scores():
    trials = [
        trial(1, 0.9, missed=0.1, kind="source"),
        trial(2, 0.8, missed=0.2),
        trial(3, 0.1),
    ]
    standings = Standings(GOAL, trials)
    assert standings.front == (3,)
    assert standings.best == ((0.1, 3),)
    assert standings.nearest is None


def test_while_nothing_is_feasible_the_least_violating_candidate_is_told():
    standings = Standings(GOAL, [trial(1, 0.9, 0.01, kind="source"), trial(2, 0.9, 0.3)])
    standings.add(trial(3, 0.1, missed=0.2))
    assert standings.front == ()
    assert np.isnan(standings.best[0][0])
    assert standings.nearest == (0.2, 3)


def test_the_optimizer_is_told_the_violation_with_true_losses():
    assert outcome(trial(1, 0.9, missed=0.3), GOAL) == Scored((-0.9,), (0.1,), 0.3)


def test_finalists_are_feasible_ones_first_then_the_nearest():
    feasible = [trial(k, 0.1 * k) for k in range(1, 4)]
    missing = [trial(10 + k, 0.9, missed=0.1 * k) for k in range(1, 4)]
    assert finalists([*missing, *feasible], GOAL, GENES, 2) == [2, 3]
    assert finalists([*missing, *feasible], GOAL, GENES, 5) == [1, 2, 3, 11, 12]
    assert finalists(missing, GOAL, GENES, 2) == [11, 12]


def test_what_a_recipe_alone_decides_takes_no_finalist_s_place_where_some_are_feasible():
    too_large = trial(5, 0.9, 0.1, constraints=(Estimate(1.1, 0.0),))
    assert finalists([trial(1, 0.2), too_large], GOAL, GENES, 4, [SIZE]) == [1]
    assert finalists([too_large], GOAL, GENES, 4, [SIZE]) == [5]


def test_nobody_races_against_what_misses_a_constraint():
    rivals = Rivals()
    rivals.add(Scored((-0.9,), (0.0,), violation=0.1), BEFORE_ALL)
    rivals.add(Scored((-0.2,), (0.0,)), 0)
    assert [r.losses for r in rivals.of(1)] == [(-0.2,)]


def test_a_guard_is_barred_by_more_than_chance_a_size_at_once():
    border, lost = Estimate(0.5, 0.1), Estimate(0.3, 0.1)
    assert not barred([GUARD], [border], 0.9)
    assert barred([GUARD], [lost], 0.9)
    assert barred([GUARD, SIZE], [border, Estimate(1.001, 0.0)], 0.9)


# ---- whole searches


def test_the_winner_keeps_the_guard_that_it_loses_without_the_constraint(tmp_path):
    winners = []
    for constraints in ((), (GUARD,), (LOSS,)):
        with opened(tmp_path / str(len(winners))) as store:
            study(store, *constraints).search(Budget(candidates=120)).run()
            winners.append(store.trial(store.meta("finalists")["test"][-1]))
    alone, guarded, kept = winners
    assert skill(alone, "two") < 0.5
    assert skill(alone, "one") > 0.9
    for winner in (guarded, kept):
        assert skill(winner, "two") > 0.5
        assert winner.feasible


def test_a_loss_is_the_mean_difference_to_the_reference_on_the_same_items(tmp_path):
    with opened(tmp_path / "run") as store:
        study(store, LOSS).search(Budget(candidates=10)).run()
        trials = store.trials()
        known = {
            t.number: store.responses(t.recipe.digest, "s", {k: f"v-{k}" for k in TASKS})
            for t in trials
        }
    items = ITEMS["search"]["two"]
    (reference,) = (t for t in trials if t.name == "e2")
    before = np.array(known[reference.number]["two"].only(items).values["accuracy"])
    assert reference.constraints[0] == Estimate(0.0, 0.0)
    for each in trials:
        now = np.array(known[each.number]["two"].only(items).values["accuracy"])
        lost = before - now
        assert each.constraints[0].value == pytest.approx(lost.mean())
        error = lost.std(ddof=1) / np.sqrt(len(lost))
        assert each.constraints[0].standard_error == pytest.approx(error)
        assert each.violation == pytest.approx(max(0.0, lost.mean() - 0.4))


def test_a_recipe_beyond_its_size_answers_the_first_rung_and_no_more(tmp_path):
    rungs = tuple({t: i[:count] for t, i in ITEMS["search"].items()} for count in RUNGS)
    sizes = dict.fromkeys(TASKS, 20)
    fitness = Fitness(MeanEstimator(sizes, cautious=True), FixedLadder(rungs))
    with opened(tmp_path / "run") as store:
        study(store, SIZE, fitness=fitness, confidence=0.99).search(Budget(candidates=60)).run()
        candidates = [t for t in store.trials() if t.kind == "candidate"]
        finals = store.meta("finalists")["validation"]
    too_large = [t for t in candidates if weight(PARAMETERS, t.recipe) > 1]
    assert len(too_large) > 5
    for each in too_large:
        assert each.item_evaluations in (0, RUNGS[0] * len(TASKS))  # 0: known recipe
        assert each.violation == pytest.approx(weight(PARAMETERS, each.recipe) - 1)
        assert each.status == "complete"
        assert each.number not in finals
    small = [t for t in candidates if t not in too_large]
    assert max(t.item_evaluations for t in small) > RUNGS[0] * len(TASKS)


def test_where_items_rotate_past_the_reference_s_the_loss_is_of_both_estimates(tmp_path):
    rungs = ({t: i[:10] for t, i in ITEMS["search"].items()},)
    answered = {**ITEMS, "search": {t: i[10:] for t, i in ITEMS["search"].items()}}
    fitness = Fitness(MeanEstimator(), FixedLadder(rungs))
    with opened(tmp_path / "run") as store:
        search = study(store, LOSS, fitness=fitness, items=answered)
        search.search(Budget(candidates=6)).run()
        trials = store.trials()
        known = {
            t.number: store.responses(t.recipe.digest, "s", {k: f"v-{k}" for k in TASKS})
            for t in trials
        }
    (reference,) = (t for t in trials if t.name == "e2")
    there = known[reference.number]["two"].only(ITEMS["search"]["two"][10:])
    before = np.mean(there.values["accuracy"])
    for each in trials[PLAIN:]:
        own = known[each.number]["two"].only(ITEMS["search"]["two"][:10]).values["accuracy"]
        assert each.constraints[0].value == pytest.approx(before - np.mean(own))


def test_a_search_without_a_feasible_candidate_ends_with_the_nearest(tmp_path):
    never = replace(GUARD, bound=2.0)
    with opened(tmp_path / "run", objectives()) as store:
        study(store, never, aims=objectives()).search(Budget(candidates=20)).run()
        trials = {t.number: t for t in store.trials()}
        final = store.meta("finalists")
    shown = [n for n in final["test"] if trials[n].kind == "candidate"]
    nearest = min(t.violation for t in trials.values() if t.kind == "candidate")
    asked = [n for n in final["validation"] if trials[n].kind == "candidate"]
    assert shown
    assert min(trials[n].violation for n in asked) == nearest
    assert all(not t.feasible for t in trials.values())
