import pytest
import torch
from merging.applied import applied, normal

from evomerge.core.errors import TrialError

WEIGHTS = [{"weight": w} for w in (0.2, 0.5, 1.3)]


def mean_direction(tensors, weights):
    mean = sum(w * t / t.norm() for w, t in zip(weights, tensors, strict=True))
    norm = sum(w * t.norm() for w, t in zip(weights, tensors, strict=True))
    return mean / mean.norm() * norm


def test_the_mean_direction_gets_the_mean_norm():
    tensors = normal(5, 7, count=3)
    got = applied("multislerp", tensors, own=WEIGHTS)
    torch.testing.assert_close(got, mean_direction(tensors, [0.1, 0.25, 0.65]))


def test_weights_may_stay_unnormalized():
    tensors = normal(5, 7, count=3)
    got = applied("multislerp", tensors, own=WEIGHTS, normalize_weights=False)
    torch.testing.assert_close(got, mean_direction(tensors, [0.2, 0.5, 1.3]))


def test_task_vectors_are_merged_where_there_is_a_base():
    *tensors, base = normal(5, 7, count=4)
    got = applied("multislerp", tensors, base, WEIGHTS)
    want = base + mean_direction([t - base for t in tensors], [0.1, 0.25, 0.65])
    torch.testing.assert_close(got, want)


def test_directions_that_cancel_give_the_weighted_sum():
    (a,) = normal(5, 7)
    own = [{"weight": 1.0}, {"weight": 1.0}, {"weight": 2.0}]
    got = applied("multislerp", [a, 3 * a, -2 * a], own=own)
    torch.testing.assert_close(got, torch.zeros_like(a), atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_models_that_are_the_base_give_the_base(count):
    (base,) = normal(5, 7)
    assert torch.equal(applied("multislerp", [base] * count, base), base)


def test_a_model_that_is_the_base_adds_no_direction():
    a, base = normal(5, 7, count=2)
    got = applied("multislerp", [a, base], base)
    torch.testing.assert_close(got, base + (a - base) / 2)


def test_one_model_is_itself_whatever_its_weight():
    (a,) = normal(5, 7)
    assert torch.equal(applied("multislerp", [a], own=[{"weight": 0.3}]), a)


def test_weights_that_sum_to_nothing_cannot_be_normalized():
    with pytest.raises(TrialError, match=r"multislerp weights \[1.0, -1.0\] sum to 0"):
        applied("multislerp", normal(5, count=2), own=[{"weight": 1.0}, {"weight": -1.0}])
