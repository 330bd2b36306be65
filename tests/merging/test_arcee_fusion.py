import numpy as np
import pytest
import torch
from merging.applied import Keeper, applied, normal


def fused(model, base):
    """Written out in float64; also which changes are important."""
    model, base = model.double().numpy(), base.double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) + 1e-8 for x in (model, base))
    importance = abs(model - base) * (p * np.log(p / q)).sum(-1, keepdims=True)
    ordered = np.sort(importance.ravel())
    low, middle, high = (
        ordered[int(share * (ordered.size - 1))] for share in (0.25, 0.5, 0.75)
    )
    important = importance >= middle + 1.5 * (high - low)
    return np.where(important, model, base), important


@pytest.mark.parametrize("shape", [(31,), (8, 30), (3, 5, 7), (300, 700)], ids=str)
def test_important_changes_are_taken_and_the_rest_is_the_base(shape):
    change, base = normal(*shape, count=2)
    model = base + 0.2 * change
    want, important = fused(model, base)
    got = applied("arcee_fusion", [model], base).numpy()
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert 0 < important.mean() < 0.3


def test_near_rows_are_told_apart_by_their_true_divergence():
    change, base = normal(6, 4000, count=2)
    model = 0.02 * base + 1e-4 * change * torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])[:, None]
    want, _ = fused(model, 0.02 * base)
    got = applied("arcee_fusion", [model], 0.02 * base).numpy()
    assert np.count_nonzero(abs(got - want) > 1e-8) <= 2  # at the threshold itself


def test_large_tensors_give_the_same_bits_whatever_the_global_generator_did():
    change, base = normal(1100, 1000, count=2)
    model = base + 0.2 * change
    first = applied("arcee_fusion", [model], base)
    torch.rand(3)
    assert torch.equal(applied("arcee_fusion", [model], base), first)


def test_a_scale_costs_no_new_quantiles():
    model, base = normal(8, 30, count=2)
    once = Keeper()
    one = applied("arcee_fusion", [model], base, once=once)
    two = applied("arcee_fusion", [model], base, once=once, lambda_=2.0)
    assert once.made == ["importance"]
    torch.testing.assert_close(two - base, 2 * (one - base))


def test_a_model_that_is_the_base_gives_the_base():
    (base,) = normal(8, 30)
    assert torch.equal(applied("arcee_fusion", [base], base), base)


def test_rows_of_one_entry_all_move():
    model, base = normal(9, 1, count=2)
    torch.testing.assert_close(applied("arcee_fusion", [model], base), model)
