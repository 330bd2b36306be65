"""Objectives: names, and the one place where signs are flipped."""

import pytest

from evomerge.core.objectives import Objective, losses

ACCURACY = Objective("accuracy", {"sum": 0.5, "sort": 0.5})
SIZE = Objective("parameters", {}, "minimize")


def test_larger_is_better_unless_said_otherwise():
    assert ACCURACY.direction == "maximize"


def test_losses_are_smaller_for_better_values_whatever_the_direction():
    better, worse = losses([ACCURACY, SIZE], [0.9, 100]), losses([ACCURACY, SIZE], [0.8, 200])
    assert better == (-0.9, 100)
    assert all(b < w for b, w in zip(better, worse, strict=True))


def test_a_name_tells_metric_and_tasks():
    assert ACCURACY.name == "accuracy(sum+sort)"
    assert Objective("f1", {"facts": 1.0}).name == "f1(facts)"


def test_a_value_for_every_objective_is_needed():
    with pytest.raises(ValueError, match="zip"):
        losses([ACCURACY, SIZE], [0.5])
