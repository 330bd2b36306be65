import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merging.applied import Keeper, applied, normal

ROWS = st.lists(
    st.tuples(*[st.integers(-256, 256).map(lambda n: n / 32)] * 4), min_size=1, max_size=30
)


def sce(models, base, share=1.0):
    deltas = np.array([m - base for m in models], dtype=np.float64)
    if share < 1:
        variance = deltas.var(0)
        count = int(np.count_nonzero(variance) * share)
        kept = np.argsort(-variance, kind="stable")[:count]
        deltas *= np.isin(np.arange(base.size), kept)
    masses = (deltas**2).mean(1)
    weights = masses / masses.sum() if masses.sum() >= 1e-6 else np.full(len(masses), 1 / 3)
    sign = np.where(deltas.sum(0) >= 0, 1, -1)
    agree = np.sign(deltas) == sign
    mixed = (weights[:, None] * agree * deltas).sum(0)
    return base + mixed / np.maximum((weights[:, None] * agree).sum(0), 1e-6)


@given(ROWS)
def test_weights_follow_from_the_size_of_task_vectors(entries):
    *models, base = np.array(entries, np.float32).T
    got = applied("sce", models, base).numpy()
    np.testing.assert_allclose(got, sce(models, base), atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_only_entries_of_large_variance_are_merged(share):
    *models, base = (t.numpy() for t in normal(200, count=4))
    got = applied("sce", models, base, select_topk=share).numpy()
    np.testing.assert_allclose(got, sce(models, base, share), atol=1e-5)
    assert np.count_nonzero(got != base) <= int(200 * share)


def test_of_equal_variances_the_first_are_kept():
    base = torch.zeros(6)
    models = [torch.tensor([1.0, 0, 1, 1, 0, 1]), torch.zeros(6)]
    got = applied("sce", models, base, select_topk=0.5)
    assert got.tolist() == [1, 0, 1, 0, 0, 0]


def test_models_that_are_the_base_give_the_base():
    (base,) = normal(4, 6)
    assert torch.equal(applied("sce", [base, base], base, select_topk=0.5), base)
    assert torch.equal(applied("sce", [base], base), base)


def test_entries_on_which_models_agree_exactly_are_not_said_to_vary():
    change, base = normal(50, count=2)
    models = [base + change] * 3
    assert torch.equal(applied("sce", models, base, select_topk=0.9), base)


def test_lambda_scales_and_costs_no_new_mean_squares():
    *models, base = normal(4, 6, count=4)
    once = Keeper()
    one = applied("sce", models, base, once=once)
    two = applied("sce", models, base, once=once, lambda_=2.0)
    torch.testing.assert_close(two - base, 2 * (one - base))
    assert once.made == ["mean squares"]
