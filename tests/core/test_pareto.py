"""Fronts, hypervolume and reference points of loss vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.pareto import front_mask, hypervolume, reference_point

LOSS = st.integers(0, 6).map(float)


def points(objectives: int) -> st.SearchStrategy[np.ndarray]:
    row = st.lists(LOSS, min_size=objectives, max_size=objectives)
    return st.lists(row, min_size=1, max_size=25).map(np.array)


POINTS = st.integers(1, 4).flatmap(points)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(POINTS)
def test_the_front_is_what_no_point_dominates_and_the_first_of_equals(losses):
    expected = [
        not any(dominates(q, p) for q in losses) and not any((q == p).all() for q in losses[:k])
        for k, p in enumerate(losses)
    ]
    assert front_mask(losses).tolist() == expected


@given(POINTS)
def test_some_point_is_always_on_the_front(losses):
    assert front_mask(losses).any()


def test_points_with_a_value_not_finite_are_never_on_the_front():
    losses = np.array([[0.0, np.nan], [-np.inf, 0.0], [1.0, 1.0], [np.inf, 0.0]])
    assert front_mask(losses).tolist() == [False, False, True, False]


def test_a_front_of_nothing_is_empty():
    assert front_mask(np.empty((0, 2))).tolist() == []
    assert front_mask(np.full((2, 2), np.nan)).tolist() == [False, False]


def test_hypervolume_of_a_staircase_is_its_area():
    staircase = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    assert hypervolume(staircase, np.array([3.0, 3.0])) == 3 + 2 + 1


def test_points_at_or_beyond_the_reference_or_not_finite_add_nothing():
    losses = np.array([[1.0, 1.0], [0.0, 3.0], [5.0, -9.0], [np.nan, 0.0], [-np.inf, 0.0]])
    assert hypervolume(losses, np.array([3.0, 3.0])) == 4
    assert hypervolume(losses[1:], np.array([3.0, 3.0])) == 0
    assert hypervolume(np.empty((0, 2)), np.array([3.0, 3.0])) == 0


@given(POINTS)
def test_hypervolume_never_falls_when_a_point_is_added(losses):
    reference = np.full(losses.shape[1], 7.0)
    assert hypervolume(losses, reference) >= hypervolume(losses[:-1], reference) - 1e-9


@given(POINTS)
def test_hypervolume_is_that_of_the_front_alone(losses):
    reference = np.full(losses.shape[1], 7.0)
    front = losses[front_mask(losses)]
    assert hypervolume(front, reference) == pytest.approx(hypervolume(losses, reference))


@given(POINTS)
def test_every_point_lies_inside_its_own_reference_point(losses):
    assert (losses < reference_point(losses)).all()


def test_the_reference_point_is_a_share_of_the_range_beyond_the_worst():
    losses = np.array([[0.0, 5.0], [10.0, 5.0], [np.nan, 99.0]])
    assert reference_point(losses, margin=0.2).tolist() == [12.0, 5.2]


@given(POINTS)
def test_inputs_are_left_unchanged(losses):
    before = losses.copy()
    front_mask(losses)
    hypervolume(losses, reference_point(losses))
    assert (losses == before).all()
