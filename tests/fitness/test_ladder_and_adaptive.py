"""Ladders: fixed, rotating, and adaptive to a candidate's own answers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.adaptive import AdaptiveLadder, AdaptiveTask
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.information import bank_information, next_items
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.ladder import FixedLadder, RotatingLadder
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.scale import Scale

BANK = tuple(range(100, 220, 3))
"""Item numbers of task ``town``, none of which is its column."""

COUNTS = (5, 12, 25)
SORT = {0: (1, 2), 1: (1, 2, 3), 2: (1, 2, 3, 4)}


def parameters(seed: int = 0) -> ItemParameters:
    rng = np.random.default_rng(seed)
    slopes = rng.uniform(0.6, 1.8, size=(len(BANK), 1))
    return ItemParameters(slopes, slopes[:, 0] * rng.normal(0, 1.5, size=len(BANK)))


def fixed() -> FixedLadder:
    order = np.random.default_rng(3).permutation(BANK).tolist()
    return FixedLadder(
        tuple({"town": tuple(order[:n]), "sort": SORT[k]} for k, n in enumerate(COUNTS))
    )


def adaptive(items: ItemParameters | None = None, scale: Scale | None = None) -> AdaptiveLadder:
    task = AdaptiveTask("accuracy", items or parameters(), BANK, scale or Scale())
    return AdaptiveLadder(fixed(), {"town": task})


def answers_of(ability: float, seed: int = 1, items: ItemParameters | None = None) -> Responses:
    """A model's answers to the whole bank."""
    p = (items or parameters()).probabilities(np.array([[ability]]))[0]
    right = np.random.default_rng(seed).random(len(BANK)) < p
    return {
        "town": ItemResponses(BANK, {"accuracy": tuple(map(float, right))}),
        "sort": ItemResponses((1, 2, 3, 4), {"accuracy": (1.0, 0.0, 1.0, 0.0)}),
    }


def asked_by(ladder: AdaptiveLadder, whole: Responses) -> list[Items]:
    """The items of every rung for a model that knows no more than it has been asked."""
    known: dict[str, ItemResponses] = {}
    rungs = []
    for rung in range(ladder.rungs):
        rungs.append(ladder.items(rung, known))
        known = {task: whole[task].only(items) for task, items in rungs[-1].items()}
    return rungs


# ---- fixed and rotating


def test_a_fixed_ladder_is_the_same_for_all():
    ladder = fixed()
    assert ladder.rungs == 3
    for rung in range(3):
        for generation in (0, 7):
            assert ladder.items(rung, answers_of(2.0), generation) == ladder.steps[rung]


def rotating(items: int, counts: tuple[int, ...]) -> RotatingLadder:
    order = tuple(np.random.default_rng(items).permutation(items).tolist())
    return RotatingLadder({"town": order, "sort": (5, 6)}, {"town": counts, "sort": (2,) * 3})


COUNTED = st.integers(9, 40).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(st.integers(1, size), min_size=3, max_size=3, unique=True).map(
            lambda counts: tuple(sorted(counts))
        ),
    )
)


@given(COUNTED, st.integers(0, 100))
def test_each_generations_rungs_are_nested_and_of_the_size_asked_for(counted, generation):
    ladder = rotating(*counted)
    rungs = [ladder.items(k, {}, generation)["town"] for k in range(ladder.rungs)]
    assert [len(set(rung)) for rung in rungs] == list(counted[1])
    assert set(rungs[0]) < set(rungs[1]) < set(rungs[2])
    assert ladder.items(0, {}, generation)["sort"] == (5, 6)


@given(COUNTED)
def test_over_the_generations_every_item_has_its_turn_before_any_has_a_second(counted):
    size, counts = counted
    ladder = rotating(size, counts)
    seen: list[int] = []
    for generation in range(size // counts[0]):
        seen += ladder.items(0, {}, generation)["town"]
    assert len(set(seen)) == len(seen)
    more = ladder.items(0, {}, size // counts[0])["town"]
    assert set(seen) | set(more) == set(range(size))


# ---- adaptive


@given(st.floats(-3, 3), st.integers(0, 50))
def test_adaptive_rungs_are_nested_and_as_large_as_the_fixed_ones(ability, seed):
    rungs = asked_by(adaptive(), answers_of(ability, seed))
    assert [len(rung["town"]) for rung in rungs] == list(COUNTS)
    for lower, higher in pairwise(rungs):
        assert higher["town"][: len(lower["town"])] == lower["town"]
        assert len(set(higher["town"])) == len(higher["town"])
        assert set(higher["town"]) <= set(BANK)


def test_the_first_rung_and_tasks_without_parameters_are_those_of_the_fixed_ladder():
    ladder = adaptive()
    assert ladder.rungs == 3
    assert ladder.items(0, {}) == fixed().items(0, {})
    for rung, items in enumerate(asked_by(ladder, answers_of(0.5))):
        assert items["sort"] == SORT[rung]


@given(st.floats(-3, 3), st.integers(0, 50), st.integers(0, 50))
def test_only_answers_to_a_candidates_own_items_decide(ability, seed, other):
    ladder, whole = adaptive(), answers_of(ability, seed)
    expected = asked_by(ladder, whole)
    strange = answers_of(-ability, other)["town"]
    own = whole["town"].only(expected[1]["town"])
    elsewhere = strange.only([item for item in BANK if item not in expected[1]["town"]])
    known = {"town": elsewhere.joined(own), "sort": whole["sort"]}
    assert ladder.items(2, known) == expected[2]


@given(st.floats(-3, 3), st.integers(0, 50), st.integers(0, 50))
def test_the_order_of_answers_in_the_store_decides_nothing(ability, seed, order):
    ladder, whole = adaptive(), answers_of(ability, seed)
    shuffled = np.random.default_rng(order).permutation(BANK).tolist()
    turned = {"town": whole["town"].only(shuffled), "sort": whole["sort"]}
    assert ladder.items(2, turned) == asked_by(ladder, whole)[2]
    assert ladder.items(2, turned) == adaptive().items(2, turned)


@given(st.floats(-3, 3), st.integers(0, 50))
def test_further_items_are_those_that_tell_most_at_the_ability_shown_so_far(ability, seed):
    whole = answers_of(ability, seed)
    items = parameters()
    found = asked_by(adaptive(), whole)
    columns = [BANK.index(item) for item in found[0]["town"]]
    for rung in (1, 2):
        answers = np.array(whole["town"].values["accuracy"])[columns]
        theta = fit_ability(items.subset(np.array(columns)), answers[None]).theta[0]
        columns += next_items(items, theta, columns, COUNTS[rung] - COUNTS[rung - 1])
        assert found[rung]["town"] == tuple(BANK[column] for column in columns)


def test_a_strong_model_is_asked_harder_questions_than_a_weak_one():
    items = parameters()
    hardness = dict(zip(BANK, items.difficulty / items.discrimination[:, 0], strict=True))
    strong, weak = (
        np.mean([hardness[i] for i in asked_by(adaptive(), answers_of(a))[1]["town"][5:]])
        for a in (2.5, -2.5)
    )
    assert strong > weak + 1


@pytest.mark.parametrize("ability", [-2.5, -1.0, 1.0, 2.5])
def test_adaptive_items_tell_more_of_a_models_ability_than_as_many_fixed_ones(ability):
    items = parameters()

    def information(chosen: tuple[int, ...]) -> float:
        columns = np.array([BANK.index(item) for item in chosen])
        return bank_information(items.subset(columns), np.array([[ability]])).item()

    told = [
        information(asked_by(adaptive(), answers_of(ability, seed))[1]["town"])
        for seed in range(10)
    ]
    assert np.mean(told) > information(fixed().items(1, {})["town"])


def test_a_last_rung_of_all_items_asks_each_once():
    task = AdaptiveTask("accuracy", parameters(), BANK, Scale())
    steps = ({"town": BANK[:4]}, {"town": BANK})
    found = asked_by(AdaptiveLadder(FixedLadder(steps), {"town": task}), answers_of(0.3))
    assert sorted(found[1]["town"]) == sorted(BANK)


def test_values_in_another_unit_choose_the_items_that_they_would_on_the_scale():
    scale, whole = Scale(-9.0, 6.0), answers_of(1.2)
    raw = scale.raw(np.array(whole["town"].values["accuracy"]))
    there = {**whole, "town": ItemResponses(BANK, {"accuracy": tuple(raw.tolist())})}
    assert asked_by(adaptive(scale=scale), there) == asked_by(adaptive(), whole)


def test_parameters_fitted_to_a_calibration_serve_as_true_ones_do():
    truth = parameters()
    rng = np.random.default_rng(5)
    p = truth.probabilities(rng.normal(size=(150, 1)))
    values = (rng.random(p.shape) < p).astype(float)
    names = tuple(map(str, range(150)))
    pool = TaskCalibration(ResponseMatrix(names, tuple(map(str, BANK)), values))
    task = AdaptiveTask.fitted("accuracy", pool, BANK, Scale())
    ladder = AdaptiveLadder(fixed(), {"town": task})
    hardness = dict(zip(BANK, truth.difficulty / truth.discrimination[:, 0], strict=True))
    strong, weak = (
        np.mean([hardness[i] for i in asked_by(ladder, answers_of(a))[1]["town"][5:]])
        for a in (2.5, -2.5)
    )
    assert strong > weak + 1
