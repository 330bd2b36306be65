"""Trials with one recipe take turns, so that answers are asked for once."""

import pytest
from landscapes import LandscapeEvaluate, LandscapeStudy, meta, objectives
from shuffled_workers import ShuffledWorkers

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.search.budget import Budget
from evomerge.search.turns import Turns
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


def trial(number: int, recipe: str) -> Trial:
    made = Recipe((Source(recipe, recipe),), (Rule("linear", {recipe: {}}),))
    return Trial(number, "candidate", f"candidate {number}", made, "open")


def test_a_second_trial_of_a_recipe_begins_when_the_first_has_ended():
    begun = []
    turns = Turns(lambda t: begun.append(t.number) or True)
    for number, recipe in enumerate("aabab", 1):
        turns.begin(trial(number, recipe))
    assert (begun, turns.under_way) == ([1, 3], 2)
    turns.end(1)
    assert (begun, turns.under_way) == ([1, 3, 2], 2)
    turns.end(2)
    turns.end(3)
    assert begun == [1, 3, 2, 4, 5]
    turns.end(4)
    turns.end(5)
    assert turns.under_way == 0
    turns.begin(trial(6, "a"))
    assert begun[-1] == 6


def test_those_that_need_no_answers_let_all_others_of_their_recipe_pass():
    begun = []

    def begin(t: Trial) -> bool:
        begun.append(t.number)
        return t.number == 1

    turns = Turns(begin)
    for number in (1, 2, 3, 4):
        turns.begin(trial(number, "a"))
    turns.end(1)
    assert begun == [1, 2, 3, 4]
    assert turns.under_way == 0


@pytest.mark.parametrize("workers", [2, 5, 9])
def test_equal_recipes_cost_the_same_with_any_number_of_workers(tmp_path, workers):
    """A space of two recipes, proposed over and over."""

    def search(folder, make=None):
        folder.mkdir()
        aims = objectives(2)
        store = StudyStore.create(folder, meta(aims, {}))
        changes = {"workers": make} if make else {}
        LandscapeStudy(
            store,
            "random",
            {},
            aims,
            LandscapeEvaluate(),
            space={
                "operator": "linear",
                "experts": {"weight": 1.0},
                "merge": {"normalize": {"choice": [True, False]}},
            },
            **changes,
        ).search(Budget(candidates=30)).run()
        return [(t.number, t.estimates, t.item_evaluations) for t in store.trials()]

    alone = search(tmp_path / "alone")
    crew = search(tmp_path / "crew", lambda evaluate: ShuffledWorkers(evaluate, workers, 3))
    assert crew == alone
    assert sum(cost > 0 for *_, cost in alone) < 15
