import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merging.applied import Keeper, applied, normal


def logarithm(start, end):
    cosine = float((start * end).sum().clamp(-1, 1))
    angle = math.acos(cosine)
    return angle / math.sin(angle) * (end - cosine * start)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tangents_at_the_mean_cancel(count):
    tensors = [t + 1 for t in normal(6, 8, count=count)]
    got = applied("karcher", tensors, max_iter=100, tol=1e-9).double()
    units = [(t / t.norm()).double() for t in tensors]
    assert float(sum(logarithm(got / got.norm(), unit) for unit in units).norm()) < 1e-5


def test_the_mean_has_the_mean_norm():
    tensors = [k * t for k, t in enumerate(normal(6, 8, count=3), 1)]
    norms = [float(t.norm()) for t in tensors]
    assert float(applied("karcher", tensors).norm()) == pytest.approx(sum(norms) / 3)


@given(st.floats(0.05, 3.0))
def test_two_models_meet_halfway_on_the_arc(angle):
    a = torch.tensor([1.0, 0.0, 0.0])
    b = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    half = torch.tensor([math.cos(angle / 2), math.sin(angle / 2), 0.0])
    torch.testing.assert_close(applied("karcher", [a, b]), half)


@given(st.permutations(range(4)))
def test_the_order_of_models_does_not_matter(order):
    tensors = normal(6, 8, count=4)
    got = applied("karcher", [tensors[k] for k in order])
    torch.testing.assert_close(got, applied("karcher", tensors))


def test_more_steps_come_nearer_to_the_mean():
    tensors = normal(9, count=4, seed=3)
    best = applied("karcher", tensors, max_iter=200, tol=1e-12)
    errors = [
        float((applied("karcher", tensors, max_iter=n, tol=0.0) - best).norm())
        for n in range(4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[3]


def test_zero_tensors_have_no_direction_but_count_in_the_norm():
    (a,) = normal(6, 8)
    torch.testing.assert_close(applied("karcher", [a, torch.zeros_like(a)]), a / 2)


def test_zero_tensors_alone_give_zero():
    assert torch.equal(applied("karcher", [torch.zeros(3)] * 3), torch.zeros(3))


def test_identical_models_give_themselves():
    (a,) = normal(6, 8)
    torch.testing.assert_close(applied("karcher", [a, a, a], tol=0.0), a)


def test_opposite_models_give_a_finite_mean():
    (a,) = normal(6, 8)
    torch.testing.assert_close(applied("karcher", [a, -a, a]), a)
    assert applied("karcher", [a, -a]).isfinite().all()


def test_all_settings_share_the_inner_products():
    tensors, once = normal(6, 8, count=3), Keeper()
    for most in (1, 10):
        applied("karcher", tensors, once=once, max_iter=most)
    assert once.made == ["inner products"]
