"""STAR against its formula in numpy."""

import numpy as np
import pytest
from merging.operator_calls import Keeper, fine_tunes, merged, task_vectors


def star(delta, eta):
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    kept = next(r for r in range(1, len(s) + 1) if s[:r].sum() >= eta * s.sum() - 1e-12)
    return (u[:, :kept] * (s[:kept] * s.sum() / s[:kept].sum())) @ vt[:kept], kept


@pytest.mark.parametrize("shape", [(12, 12), (40, 9), (9, 40)])
@pytest.mark.parametrize("eta", [0.0, 0.2, 0.4, 0.9])
def test_task_vectors_are_cut_rescaled_and_averaged(shape, eta):
    base, models = fine_tunes(shape)
    weights = [1.0, 0.5, -0.3]
    got = merged("star", models, base, weights=weights, whole={"eta": eta, "lambda": 2.0})
    parts = [star(delta, eta)[0] for delta in task_vectors(base, models)]
    want = 2 * sum(w * part for w, part in zip(weights, parts, strict=True)) / 3
    np.testing.assert_allclose(got - base.double().numpy(), want, atol=2e-6)


def test_the_sum_of_singular_values_stays():
    base, models = fine_tunes((20, 14), count=1)
    (delta,) = task_vectors(base, models)
    got = np.linalg.svd(merged("star", models, base) - base.numpy(), compute_uv=False)
    assert (got > 1e-4).sum() == star(delta, 0.4)[1] < 14
    assert got.sum() == pytest.approx(np.linalg.svd(delta, compute_uv=False).sum(), rel=1e-4)


def test_all_of_the_sum_is_the_average_of_the_models():
    base, models = fine_tunes((20, 14))
    got = merged("star", models, base, whole={"eta": 1.0})
    np.testing.assert_allclose(got, sum(models) / 3, atol=1e-6)


def test_each_model_is_decomposed_on_its_own():
    base, models = fine_tunes((8, 8))
    keeper = Keeper()
    merged("star", models, base, once=keeper)
    assert [model for _, _, model in keeper.made] == [0, 1, 2]
