import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merging.applied import applied, normal


def at_angle(cosine, count):
    """Unit vectors with the same cosine between any two."""
    gram = torch.full((count, count), cosine, dtype=torch.float64).fill_diagonal_(1.0)
    return list(torch.linalg.cholesky(gram).float())


@given(st.floats(0.01, 0.99), st.integers(2, 5))
def test_the_share_of_the_mean_task_vector_follows_the_angle(cosine, count):
    base = torch.linspace(-1, 1, count)
    tensors = [base + d for d in at_angle(cosine, count)]
    share = count * cosine / (1 + (count - 1) * cosine)
    want = base + share * (sum(tensors) / count - base)
    torch.testing.assert_close(
        applied("model_stock", tensors, base), want, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("cosine", [-0.1, -0.3, -0.499999])
def test_task_vectors_that_point_apart_leave_the_base(cosine):
    base = torch.linspace(-1, 1, 3)
    tensors = [base + d for d in at_angle(cosine, 3)]
    assert torch.equal(applied("model_stock", tensors, base), base)


def test_each_row_has_its_own_share_if_filters_are_asked_for():
    base = torch.zeros(2, 2)
    near, far = at_angle(0.9, 2), at_angle(0.2, 2)
    tensors = [torch.stack([near[k], far[k]]) for k in range(2)]
    got = applied("model_stock", tensors, base, filter_wise=True)
    for row, cosine in enumerate((0.9, 0.2)):
        want = 2 * cosine / (1 + cosine) * (tensors[0] + tensors[1])[row] / 2
        torch.testing.assert_close(got[row], want)


def test_lambda_scales_the_merged_task_vector():
    *tensors, base = normal(4, 6, count=4)
    one = applied("model_stock", tensors, base) - base
    two = applied("model_stock", tensors, base, lambda_=2.0) - base
    torch.testing.assert_close(two, 2 * one)
    assert float(one.norm()) > 0


@pytest.mark.parametrize("filter_wise", [True, False])
def test_identical_models_are_taken_whole_and_the_base_stays_itself(filter_wise):
    a, base = normal(4, 6, count=2)
    got = applied("model_stock", [a, a, a], base, filter_wise=filter_wise)
    torch.testing.assert_close(got, a)
    assert torch.equal(
        applied("model_stock", [base, base], base, filter_wise=filter_wise), base
    )


def test_the_angle_of_short_task_vectors_is_mergekits():
    base = torch.zeros(3)
    tensors = [1e-4 * d for d in at_angle(0.5, 3)]
    cosine = 0.5 * 1e-8 / 1e-6
    share = 3 * cosine / (1 + 2 * cosine)
    got = applied("model_stock", tensors, base)
    torch.testing.assert_close(got, share * sum(tensors) / 3)
    assert math.isclose(share, 0.015, rel_tol=0.02)
