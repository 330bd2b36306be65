"""Values of any metric put into 0…1 and taken back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.objectives import Estimate
from evomerge.fitness.scale import Scale

UNBOUNDED = st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=20).map(np.array)
SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array)


@given(SCORES)
def test_scores_within_0_and_1_stay_as_they_are(values):
    scale = Scale.of(values)
    assert scale == Scale()
    np.testing.assert_array_equal(scale.applied(values), values)


@given(UNBOUNDED)
def test_a_scale_holds_the_values_that_it_was_made_for_with_room_beside_them(values):
    scale = Scale.of(values)
    applied = scale.applied(values)
    assert ((applied >= 0) & (applied <= 1)).all()
    if scale != Scale() and np.ptp(values) > 1e-3:
        assert applied.min() == pytest.approx(0.25, abs=1e-6)
        assert applied.max() == pytest.approx(0.75, abs=1e-6)


@given(UNBOUNDED)
def test_what_was_put_on_a_scale_comes_back_in_its_own_unit(values):
    scale = Scale.of(values)
    np.testing.assert_allclose(scale.raw(scale.applied(values)), values, atol=1e-7)


@given(UNBOUNDED)
def test_a_mean_taken_on_the_scale_is_the_mean_in_the_metrics_unit(values):
    scale = Scale.of(values)
    applied = scale.applied(values)
    error = float(applied.std(ddof=1))
    found = scale.undone(Estimate(float(applied.mean()), error))
    assert found.value == pytest.approx(values.mean(), abs=1e-7)
    assert found.standard_error == pytest.approx(values.std(ddof=1), abs=1e-7)


@given(UNBOUNDED, st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5).map(np.array))
def test_any_value_lands_within_0_and_1_and_keeps_its_order(values, others):
    applied = Scale.of(values).applied(np.sort(others))
    assert ((applied >= 0) & (applied <= 1)).all()
    assert (np.diff(applied) >= 0).all()


def test_a_model_somewhat_better_than_any_before_is_not_cut_off():
    seen = np.array([-8.0, -5.0, -3.0, -2.0])
    scale = Scale.of(seen)
    np.testing.assert_allclose(scale.raw(scale.applied(np.array([-0.5, -10.0]))), [-0.5, -10.0])
    assert scale.raw(scale.applied(np.array([-500.0])))[0] == -11.0


def test_values_that_are_all_the_same_make_a_scale_too():
    scale = Scale.of(np.array([-4.0, -4.0]))
    assert scale.undone(Estimate(float(scale.applied(np.array([-4.0]))[0]), 0.0)).value == -4.0
