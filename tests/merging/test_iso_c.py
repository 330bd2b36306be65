"""Iso-C against its formula in numpy."""

import numpy as np
import pytest
import torch
from merging.operator_calls import fine_tunes, merged, task_vectors


@pytest.mark.parametrize("shape", [(12, 12), (40, 9), (9, 40)])
def test_the_sum_of_task_vectors_gets_equal_singular_values(shape):
    base, models = fine_tunes(shape)
    u, s, vt = np.linalg.svd(sum(task_vectors(base, models)), full_matrices=False)
    got = merged("iso_c", models, base, whole={"lambda": 1.4}) - base.double().numpy()
    np.testing.assert_allclose(got, 1.4 * s.mean() * u @ vt, atol=2e-6)
    found = np.linalg.svd(got, compute_uv=False)
    np.testing.assert_allclose(found, 1.4 * s.mean(), rtol=1e-5)


def test_a_sum_of_low_rank_stays_of_low_rank_and_as_strong():
    rng = np.random.default_rng(1)
    change = (rng.normal(size=(20, 3)) @ rng.normal(size=(3, 16))).astype("f")
    base = torch.zeros(20, 16)
    got = np.linalg.svd(merged("iso_c", [torch.from_numpy(change)], base), compute_uv=False)
    strength = np.linalg.svd(change, compute_uv=False).sum()
    np.testing.assert_allclose(got[:3], strength / 3, rtol=1e-5)
    np.testing.assert_allclose(got[3:], 0, atol=1e-5)


def test_a_sum_that_cancels_leaves_the_base():
    base = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).mul(64).round() / 64
    change = torch.eye(6) / 4
    got = merged("iso_c", [base + change, base - change], base)
    np.testing.assert_array_equal(got, base)
