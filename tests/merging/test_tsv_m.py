"""TSV-M against its formula in numpy."""

import numpy as np
import pytest
import torch
from merging.operator_calls import Keeper, fine_tunes, merged, task_vectors

from evomerge.merging.operators.tsv_m import orthogonalised


def polar(matrix):
    p, _, qt = np.linalg.svd(matrix, full_matrices=False)
    return p @ qt


def tsv_m(base, models, weights, scale, share=1.0):
    deltas = task_vectors(base, models)
    rank = max(1, int(share * min(base.shape) / len(models)))
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    left = polar(np.hstack([u[:, :rank] for u, _, _ in parts]))
    right = polar(np.vstack([vt[:rank] for _, _, vt in parts]))
    strength = np.concatenate(
        [w * s[:rank] for w, (_, s, _) in zip(weights, parts, strict=True)]
    )
    return base.double().numpy() + scale * (left * strength) @ right


@pytest.mark.parametrize("shape", [(12, 12), (40, 9), (9, 40), (31, 30)])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_it_is_the_whitened_sum_of_leading_triplets(shape, share):
    base, models = fine_tunes(shape)
    weights = [1.0, 0.4, -0.7]
    got = merged(
        "tsv_m", models, base, weights=weights, whole={"lambda": 1.3, "rank_share": share}
    )
    np.testing.assert_allclose(got, tsv_m(base, models, weights, 1.3, share), atol=2e-6)


def test_vectors_of_different_models_come_out_orthogonal():
    base, models = fine_tunes((24, 24))
    first, second, third = orthogonalised([m - base for m in models], 8)
    for a, b in [(first, second), (first, third), (second, third)]:
        assert (a.T @ b).abs().max() < 1e-6
        assert (a @ b.T).abs().max() < 1e-6


def test_the_singular_values_are_the_leading_ones_of_the_models():
    base, models = fine_tunes((24, 24))
    total = merged("tsv_m", models, base) - base.double().numpy()
    leading = [np.linalg.svd(d, compute_uv=False)[:8] for d in task_vectors(base, models)]
    want = np.sort(np.concatenate(leading))[::-1]
    np.testing.assert_allclose(np.linalg.svd(total, compute_uv=False), want, atol=2e-6)


def test_one_model_of_weight_one_is_itself():
    base, models = fine_tunes((20, 30), count=1)
    np.testing.assert_allclose(merged("tsv_m", models, base), models[0], atol=1e-6)


def test_identical_models_give_the_leading_part_they_share():
    base, models = fine_tunes((20, 30), count=1)
    (delta,) = task_vectors(base, models)
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    want = base.double().numpy() + (u[:, :10] * s[:10]) @ vt[:10]
    np.testing.assert_allclose(merged("tsv_m", models * 2, base), want, atol=2e-6)


def test_a_model_that_is_the_base_takes_no_directions_from_the_others():
    base, models = fine_tunes((20, 30), count=2)
    got = merged("tsv_m", [models[0], base, models[1]], base)
    rank = {"rank_share": 2 / 3}
    np.testing.assert_allclose(got, merged("tsv_m", models, base, whole=rank), atol=1e-6)


def test_task_vectors_of_low_rank_in_different_directions_are_kept_whole():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    base = torch.zeros(30, 30)
    models = [
        torch.tensor(orthogonal[:, part] @ np.diag([3.0, 2, 1]) @ orthogonal[part]).float()
        for part in (slice(0, 3), slice(3, 6))
    ]
    np.testing.assert_allclose(merged("tsv_m", models, base), sum(models), atol=1e-6)


def test_another_rank_costs_a_decomposition_and_an_equal_one_does_not():
    base, models = fine_tunes((30, 30))
    keeper = Keeper()
    for share in (1.0, 0.5, 0.51, 1.0):
        merged("tsv_m", models, base, whole={"rank_share": share}, once=keeper)
    assert len(keeper.made) == 2  # ranks 10 and 5


def test_more_models_than_the_matrix_has_rank_still_merge():
    base, models = fine_tunes((2, 5), count=3)
    got = merged("tsv_m", models, base)
    assert np.isfinite(got).all()
    assert np.abs(got - base.numpy()).max() > 0.01
