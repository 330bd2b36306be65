"""Constraints: when they are met, by how much they are missed, and their plain form."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.constraints import Constraint, total_violation
from evomerge.core.objectives import Estimate, Objective

ACCURACY = Objective("accuracy", {"town": 1.0})
PARAMETERS = Objective("parameters", {}, "minimize", kind="parameters")

values = st.floats(-1e6, 1e6)
senses = st.sampled_from(["at_most", "at_least"])
scales = st.floats(1e-3, 1e9)


def exact(value: float) -> Estimate:
    return Estimate(value, 0.0)


def keeps(sense: str, value: float, bound: float, scale: float) -> bool:
    """Whether the bound is kept, but for the last digits of a sum."""
    slack = 1e-9 * scale
    return value <= bound + slack if sense == "at_most" else value >= bound - slack


@given(senses, values, values, scales)
def test_the_violation_is_zero_exactly_where_the_bound_is_kept(sense, value, bound, scale):
    missed = Constraint(ACCURACY, sense, bound, scale).violation(exact(value))
    assert math.isfinite(missed)
    assert missed >= 0
    beyond = value - bound if sense == "at_most" else bound - value
    if abs(abs(beyond) - 1e-9 * scale) > 1e-12 * scale:  # off the edge of rounding itself
        assert (missed == 0) == keeps(sense, value, bound, scale)


@given(senses, values, values, values, scales)
def test_farther_from_the_bound_is_never_a_smaller_violation(sense, bound, one, other, scale):
    constraint = Constraint(ACCURACY, sense, bound, scale)
    near, far = sorted((one, other), reverse=sense == "at_least")
    assert constraint.violation(exact(near)) <= constraint.violation(exact(far))


@given(st.lists(st.tuples(senses, values, values, scales), min_size=1, max_size=5))
def test_all_violations_together_are_zero_exactly_where_each_is(listed):
    constraints = [Constraint(ACCURACY, s, bound, scale) for s, bound, _, scale in listed]
    estimates = [exact(value) for _, _, value, _ in listed]
    each = [c.violation(e) for c, e in zip(constraints, estimates, strict=True)]
    assert total_violation(constraints, estimates) == math.fsum(each)
    assert (total_violation(constraints, estimates) == 0) == (not any(each))


def test_a_size_a_tenth_beyond_its_bound_weighs_as_a_tenth_of_a_score():
    size = Constraint(PARAMETERS, "at_most", 1000.0, scale=1000.0)
    score = Constraint(ACCURACY, "at_least", 0.6)
    assert size.violation(exact(1100.0)) == pytest.approx(score.violation(exact(0.5)))


def test_sums_that_round_past_the_bound_still_keep_it():
    lost = Constraint(ACCURACY, "at_most", 0.3, reference="base")
    assert 0.1 + 0.2 > 0.3
    assert lost.violation(exact(0.1 + 0.2)) == 0
    assert lost.violation(exact(0.301)) > 0


@pytest.mark.parametrize("sense", ["at_most", "at_least"])
def test_a_margin_asks_for_more_than_the_bound_and_a_negative_one_for_less(sense):
    away = 0.05 if sense == "at_least" else -0.05  # inside the bound by half an error
    inside, outside = Estimate(0.6 + away, 0.1), Estimate(0.6 - away, 0.1)
    plain = Constraint(ACCURACY, sense, 0.6)
    strict, lenient = (Constraint(ACCURACY, sense, 0.6, margin=m) for m in (1.0, -1.0))
    assert plain.violation(inside) == 0 < plain.violation(outside)
    assert strict.violation(inside) == pytest.approx(0.05)
    assert lenient.violation(outside) == 0


def test_only_what_is_beyond_the_bound_by_more_than_chance_is_surely_missed():
    guard = Constraint(ACCURACY, "at_least", 0.6)
    assert not guard.surely_missed(Estimate(0.5, 0.1), 1.28)
    assert guard.surely_missed(Estimate(0.4, 0.1), 1.28)
    assert guard.surely_missed(exact(0.59), 1.28)
    assert not guard.surely_missed(exact(0.6), 1.28)
    assert not guard.surely_missed(Estimate(0.9, 0.0), 1.28)


def test_a_loss_is_measured_against_the_reference_item_by_item():
    lost = Constraint(ACCURACY, "at_most", 0.02, reference="base")
    assert lost.is_loss
    assert (lost.measured.kind, lost.measured.of) == ("forgetting", "accuracy")
    assert lost.measured.reference == "base"
    assert f"{lost.name} {lost.limit}" == "loss of accuracy(town) against base at most 0.02"


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(ACCURACY, "at_least", 0.6, margin=1.0),
        Constraint(ACCURACY, "at_most", 0.02, reference="base"),
        Constraint(PARAMETERS, "at_most", 75.0, 75.0, 0.0, "base", 0.75, 100.0),
    ],
    ids=["score", "loss", "size"],
)
def test_the_plain_form_is_json_and_gives_the_constraint_back(constraint):
    plain = json.loads(json.dumps(constraint.to_plain()))
    assert Constraint.from_plain(plain) == constraint


def test_a_share_is_told_as_that():
    size = Constraint(PARAMETERS, "at_most", 75.0, 75.0, 0.0, "base", 0.75, 100.0)
    assert f"{size.name} {size.limit}" == "parameters at most 75% of base's"
    assert size.of_recipe
