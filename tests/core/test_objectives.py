"""Objectives: names, plain form, and the one place where signs are flipped."""

import json

import pytest

from evomerge.core.objectives import Objective, losses

ACCURACY = Objective("accuracy", {"sum": 0.5, "sort": 0.5})
SIZE = Objective("parameters", {}, "minimize", kind="parameters")


def test_larger_is_better_unless_said_otherwise():
    assert ACCURACY.direction == "maximize"


def test_losses_are_smaller_for_better_values_whatever_the_direction():
    better, worse = losses([ACCURACY, SIZE], [0.9, 100]), losses([ACCURACY, SIZE], [0.8, 200])
    assert better == (-0.9, 100)
    assert all(b < w for b, w in zip(better, worse, strict=True))


def test_a_name_tells_metric_and_tasks():
    assert ACCURACY.name == "accuracy(sum+sort)"
    assert Objective("f1", {"facts": 1.0}).name == "f1(facts)"


def test_an_objective_of_the_recipe_alone_is_named_without_a_task():
    assert SIZE.name == "parameters"


def test_a_value_for_every_objective_is_needed():
    with pytest.raises(ValueError, match="zip"):
        losses([ACCURACY, SIZE], [0.5])


@pytest.mark.parametrize(
    "objective",
    [
        ACCURACY,
        SIZE,
        Objective("flops at 64 tokens", {}, "minimize", kind="flops", context=64),
        Objective("entropy", {"a": 1.0}, "minimize", collapse=0.9),
        Objective(
            "forgetting (acc, base)", {"a": 1.0}, "minimize", "forgetting", "base", "acc"
        ),
    ],
    ids=lambda objective: objective.kind,
)
def test_the_plain_form_is_json_and_gives_the_objective_back(objective):
    plain = json.loads(json.dumps(objective.to_plain()))
    assert Objective.from_plain(plain) == objective


def test_objectives_recorded_without_a_kind_are_means():
    plain = {"metric": "accuracy", "tasks": {"sum": 0.5, "sort": 0.5}, "direction": "maximize"}
    assert Objective.from_plain(plain) == ACCURACY
