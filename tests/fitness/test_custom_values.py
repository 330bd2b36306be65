"""What a user's code hands back: every documented form is read, everything else refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective
from evomerge.fitness.custom_task import CustomItems, custom_bank
from evomerge.fitness.custom_values import (
    item_responses,
    number,
    whole_responses,
    whole_score,
)
from evomerge.fitness.estimate import MeanEstimator

FINITE = st.floats(-1e6, 1e6)
TWO = ("score", "cost")


@given(st.dictionaries(st.integers(0, 10**6), st.tuples(FINITE, FINITE), min_size=1))
def test_every_form_of_the_same_answers_gives_the_same_responses(answers):
    items = tuple(answers)
    rows = {item: dict(zip(TWO, pair, strict=True)) for item, pair in answers.items()}
    columns = {name: [pair[k] for pair in answers.values()] for k, name in enumerate(TWO)}
    arrays = {name: np.array(column) for name, column in columns.items()}
    tensors = {
        name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()
    }
    expected = item_responses(rows, items, TWO)
    assert expected.items == items
    assert expected.values == {name: tuple(column) for name, column in columns.items()}
    for form in (columns, arrays, tensors, dict(reversed(rows.items()))):
        assert item_responses(form, items, TWO) == expected


@given(st.lists(FINITE, min_size=1))
def test_one_metric_needs_no_name(values):
    items = tuple(range(5, 5 + len(values)))
    named = item_responses({"score": values}, items, ["score"])
    assert item_responses(values, items, ["score"]) == named
    assert item_responses(dict(zip(items, values, strict=True)), items, ["score"]) == named


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (0.5, r"one value for each of 3 items, found float 0\.5.*names no 'items'"),
        (None, "found NoneType None"),
        ("good", "found str 'good'"),
        ({}, "no value for item 4, 5, 6 of the 3 items"),
        ({4: 1, 6: 1}, "no value for item 5 "),
        ({4: 1, 5: 1, 6: 1, 7: 1}, "values for item 7, which was not asked"),
        ({4: 1, 5: math.nan, 6: 1}, "item 5: score is nan"),
        ({4: 1, 5: "1", 6: 1}, "item 5: score: expected a number, found str '1'"),
        ({4: 1, 5: {"cost": 1}, 6: 1}, "item 5: metric 'score' is missing"),
        ({4: 1, 5: 1, "6": 1}, "expected item numbers as keys, found str '6'"),
        ({"score": [1, 2]}, "expected 3 values, one for each item asked, found 2"),
        ({"score": 1.0}, r"expected 3 values.*found float 1\.0"),
        ({"scores": [1, 2, 3]}, "metric 'score' is missing.*found 'scores'"),
        ({"score": [1, 2, 3], "cost": [1, 2, 3]}, "metric 'cost' is unknown"),
        ({"score": [1, 2, -math.inf]}, "item 6: score is -inf"),
        (np.ones((3, 1)), "found ndarray"),
        ([1, 2], "expected 3 values"),
    ],
)
def test_what_is_no_response_to_every_item_is_refused_with_the_reason(returned, said):
    with pytest.raises(TrialError, match=said):
        item_responses(returned, (4, 5, 6), ["score"])


@pytest.mark.parametrize("one", [1, True, 1.0, np.float32(1), np.bool_(True), torch.tensor(1)])
def test_single_numbers_of_every_library_are_numbers(one):
    assert number(one, "it") == 1.0


def test_a_whole_score_is_exact_unless_an_error_is_given():
    assert whole_score(0.5, ["score"]) == {"score": (0.5, 0.0)}
    assert whole_score({"score": 0.5}, ["score"]) == {"score": (0.5, 0.0)}
    both = {"score": 0.5, "standard_error": 0.1}
    assert whole_score(both, ["score"]) == {"score": (0.5, 0.1)}
    named = {"score": 1, "cost": 2, "standard_error": {"cost": 0.5}}
    assert whole_score(named, TWO) == {"score": (1.0, 0.0), "cost": (2.0, 0.5)}


@pytest.mark.parametrize(
    ("returned", "metrics", "said"),
    [
        ([1.0, 2.0], ["score"], "names its 'items'"),
        (0.5, TWO, "expected score and cost by name"),
        (math.inf, ["score"], "score is inf"),
        ({"standard_error": 0.1}, ["score"], "metric 'score' is missing"),
        ({"score": 1, "standard_error": -1}, ["score"], "cannot be negative"),
        ({"score": 1, "standard_error": math.nan}, ["score"], "standard_error of score is nan"),
        ({"score": 1, "cost": 1, "standard_error": 1}, TWO, "give one by name"),
        ({"score": 1, "standard_error": {"cost": 1}}, ["score"], "no metric of the task"),
    ],
)
def test_what_is_no_whole_score_is_refused_with_the_reason(returned, metrics, said):
    with pytest.raises(TrialError, match=said):
        whole_score(returned, metrics)


@given(FINITE, st.just(0.0) | st.floats(1e-9, 1e3), st.integers(0, 1000))
def test_the_estimate_of_a_whole_score_is_the_score_with_its_standard_error(value, error, seed):
    bank = custom_bank("arena", "x", CustomItems(), 0)
    rng = np.random.default_rng(seed)
    answered = whole_responses({"score": (value, error)}, bank, "validation", rng)
    assert answered.items == bank.items("validation")
    (estimate,) = MeanEstimator().estimate(
        {"arena": answered}, [Objective("score", {"arena": 1.0})]
    )
    scale = abs(value) + error
    assert estimate.value == pytest.approx(value, abs=1e-12 * scale)
    assert estimate.standard_error == pytest.approx(error, abs=1e-12 * scale)


def test_whole_scores_of_two_models_have_independent_errors_on_average():
    bank = custom_bank("arena", "x", CustomItems(), 0)
    rows = np.array(
        [
            whole_responses(
                {"score": (0.0, 1.0)}, bank, "test", np.random.default_rng(k)
            ).values["score"]
            for k in range(400)
        ]
    )
    correlations = np.corrcoef(rows)[np.triu_indices(400, 1)]
    assert abs(correlations.mean()) < 0.01
