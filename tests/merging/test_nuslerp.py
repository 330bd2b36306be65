import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merging.applied import Keeper, applied, normal

WEIGHTS = [{"weight": 0.3}, {"weight": 0.9}]


def arc(a, b, t):
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


@given(st.floats(0, 1))
def test_the_place_on_the_arc_is_the_share_of_the_second_weight(t):
    a, b = normal(5, 7, count=2)
    got = applied("nuslerp", [a, b], own=[{"weight": 1 - t}, {"weight": t}])
    torch.testing.assert_close(got, arc(a, b, t))


def test_task_vectors_are_interpolated_where_there_is_a_base():
    a, b, base = normal(5, 7, count=3)
    got = applied("nuslerp", [a, b], base, WEIGHTS)
    torch.testing.assert_close(got, base + arc(a - base, b - base, 0.75))


def test_rows_and_columns_have_arcs_of_their_own():
    a, b = normal(4, 6, count=2)
    rows = applied("nuslerp", [a, b], own=WEIGHTS, nuslerp_flatten=False)
    columns = applied(
        "nuslerp", [a, b], own=WEIGHTS, nuslerp_flatten=False, nuslerp_row_wise=True
    )
    for k in range(4):
        torch.testing.assert_close(rows[k], arc(a[k], b[k], 0.75))
    for k in range(6):
        torch.testing.assert_close(columns[:, k], arc(a[:, k], b[:, k], 0.75))


def test_columns_of_a_stack_of_matrices_run_along_its_first_dimension():
    a, b = normal(4, 3, 5, count=2)
    got = applied("nuslerp", [a, b], own=WEIGHTS, nuslerp_flatten=False, nuslerp_row_wise=True)
    torch.testing.assert_close(got[:, 1, 2], arc(a[:, 1, 2], b[:, 1, 2], 0.75))


@pytest.mark.parametrize("factor", [2.0, 1.7, -1.0, -1.7])
def test_parallel_and_opposite_tensors_are_interpolated_on_the_line(factor):
    (a,) = normal(5, 7)
    got = applied("nuslerp", [a, factor * a], own=WEIGHTS)
    torch.testing.assert_close(got, 0.25 * a + 0.75 * factor * a)


def test_weights_that_cancel_count_as_equal():
    a, b = normal(5, 7, count=2)
    got = applied("nuslerp", [a, b], own=[{"weight": 1.0}, {"weight": -1.0}])
    torch.testing.assert_close(got, arc(a, b, 0.5))


@pytest.mark.parametrize("flatten", [True, False])
def test_models_that_are_the_base_give_the_base(flatten):
    (base,) = normal(5, 7)
    got = applied("nuslerp", [base, base], base, WEIGHTS, nuslerp_flatten=flatten)
    assert torch.equal(got, base)


def test_other_weights_need_no_new_inner_products():
    a, b = normal(5, 7, count=2)
    once = Keeper()
    for weight in (0.2, 0.8):
        own = [{"weight": 1.0}, {"weight": weight}]
        got = applied("nuslerp", [a, b], own=own, once=once)
        assert torch.equal(got, applied("nuslerp", [a, b], own=own))
    assert once.made == ["inner products"]


def test_kept_inner_products_are_not_taken_for_those_of_task_vectors():
    a, b, base = normal(5, 7, count=3)
    once = Keeper()
    applied("nuslerp", [a, b], once=once)
    got = applied("nuslerp", [a, b], base, once=once)
    assert torch.equal(got, applied("nuslerp", [a, b], base))
