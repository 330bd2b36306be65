"""WUDI: the merged task vector solves its least-squares problem."""

import numpy as np
import pytest
from merging.operator_calls import fine_tunes, merged, task_vectors


def residual(found, deltas, weights, ridge):
    """The gradient of the loss, and that of the pull to the sum; both halved."""
    norms = [np.sum(delta**2) for delta in deltas]
    grams = [delta.T @ delta / norm for delta, norm in zip(deltas, norms, strict=True)]
    epsilon = ridge * np.trace(sum(grams)) / grams[0].shape[0]
    loss = sum(
        (found - w * delta) @ g for w, delta, g in zip(weights, deltas, grams, strict=True)
    )
    start = sum(w * delta for w, delta in zip(weights, deltas, strict=True))
    return loss, epsilon * (found - start)


def interference(found, deltas):
    return sum(np.sum(((found - d) @ d.T) ** 2) / np.sum(d**2) for d in deltas)


@pytest.mark.parametrize("shape", [(16, 16), (40, 10), (10, 40)])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 3.0])
def test_it_solves_the_normal_equations(shape, ridge):
    base, models = fine_tunes(shape)
    deltas, weights = task_vectors(base, models), [1.0, 0.5, -2.0]
    found = merged("wudi", models, base, weights=weights, whole={"ridge": ridge})
    found -= base.double().numpy()
    loss, pull = residual(found, deltas, weights, ridge)
    scale = max(np.abs(residual(np.zeros(shape), deltas, weights, ridge)).max(), 1e-12)
    np.testing.assert_allclose((loss + pull) / scale, 0, atol=1e-5)


def test_it_interferes_less_than_the_sum_and_the_less_the_smaller_the_ridge():
    base, models = fine_tunes((24, 16))
    deltas = task_vectors(base, models)
    losses = [interference(sum(deltas), deltas)]
    for ridge in (100.0, 3.0, 0.1, 1e-3):
        found = merged("wudi", models, base, whole={"ridge": ridge}) - base.double().numpy()
        losses.append(interference(found, deltas))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


def test_a_large_ridge_is_task_arithmetic():
    base, models = fine_tunes((12, 8))
    got = merged("wudi", models, base, weights=[1, 2, 3], whole={"ridge": 1000.0})
    want = merged("task_arithmetic", models, base, weights=[1, 2, 3])
    np.testing.assert_allclose(got, want, atol=5e-3)
    assert np.abs(merged("wudi", models, base, weights=[1, 2, 3]) - want).max() > 2e-2


def test_models_that_act_on_different_inputs_are_added():
    base, models = fine_tunes((10, 12), count=2)
    models[0][:, 6:], models[1][:, :6] = base[:, 6:], base[:, :6]
    got = merged("wudi", models, base, whole={"ridge": 1e-3})
    np.testing.assert_allclose(got, models[0] + models[1] - base, atol=2e-3)


@pytest.mark.parametrize("ridge", [1e-6, 3.0])
def test_one_model_of_weight_one_is_itself(ridge):
    base, models = fine_tunes((20, 30), count=1)
    got = merged("wudi", models, base, whole={"ridge": ridge})
    np.testing.assert_allclose(got, models[0], atol=1e-6)


def test_identical_models_are_merged_to_themselves_by_a_small_ridge():
    base, models = fine_tunes((30, 12), count=1)
    got = merged("wudi", models * 3, base, whole={"ridge": 1e-5})
    np.testing.assert_allclose(got, models[0], atol=1e-4)


def test_a_model_that_is_the_base_changes_nothing():
    base, models = fine_tunes((12, 9), count=2)
    got = merged("wudi", [models[0], base, models[1]], base)
    np.testing.assert_allclose(got, merged("wudi", models, base), atol=1e-6)
