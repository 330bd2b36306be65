"""Scores of single items: between 0 and 1, larger better, the same when replayed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Failed, Scored
from evomerge.core.responses import ItemResponses
from evomerge.search.item_scores import item_scores, with_item_scores

nats = st.floats(-1e6, 1e6)


def answered(metric, *values):
    return {"t": ItemResponses(tuple(range(len(values))), {metric: tuple(values)})}


def test_shares_are_taken_as_they_are_under_the_objectives_place():
    aims = [Objective("parameters", {}, kind="parameters"), Objective("accuracy", {"t": 1.0})]
    assert item_scores(aims, answered("accuracy", 1.0, 0.25)) == {"1|t|0": 1.0, "1|t|1": 0.25}


def test_what_is_to_be_small_is_turned_round():
    aims = [Objective("refusals", {"t": 1.0}, "minimize")]
    assert item_scores(aims, answered("refusals", 1.0, 0.25)) == {"0|t|0": 0.0, "0|t|1": 0.75}


@pytest.mark.parametrize("metric", ["gold_logprob", "margin"])
@given(low=nats, high=nats)
def test_nats_become_shares_that_rise_with_them(metric, low, high):
    low, high = sorted((low, high))
    scores = item_scores([Objective(metric, {"t": 1.0})], answered(metric, low, high))
    assert 0 <= scores["0|t|0"] <= scores["0|t|1"] <= 1


def test_a_log_probability_becomes_its_probability():
    aims = [Objective("gold_logprob", {"t": 1.0})]
    scores = item_scores(aims, answered("gold_logprob", math.log(0.3)))
    assert scores["0|t|0"] == pytest.approx(0.3)


def test_a_metric_that_is_no_share_is_refused():
    with pytest.raises(TrialError, match="'words' gave 7"):
        item_scores([Objective("words", {"t": 1.0})], answered("words", 7.0))


def test_objectives_without_items_alone_are_refused():
    with pytest.raises(TrialError, match="add one such as accuracy"):
        item_scores([Objective("parameters", {}, kind="parameters")], {})


def test_items_of_other_splits_and_items_not_answered_are_left_out():
    aims = [Objective("accuracy", {"t": 1.0})]
    told = with_item_scores(
        Scored((-0.5,)), aims, answered("accuracy", 1.0, 0.0, 1.0), {"t": (0, 2, 9)}
    )
    assert told.items == {"0|t|0": 1.0, "0|t|2": 1.0}
    assert told.losses == (-0.5,)


def test_a_failure_stays_one():
    assert with_item_scores(Failed("merge", "no"), [], {}, {}) == Failed("merge", "no")
