"""DC-Merge against its steps in numpy."""

import numpy as np
import pytest
import torch
from merging.operator_calls import fine_tunes, merged, task_vectors

from evomerge.merging.operators.dc_merge import elected, smoothed


def polar(matrix):
    p, _, qt = np.linalg.svd(matrix, full_matrices=False)
    return p @ qt


def even(values, rho):
    line = np.linspace(min(rho, values[0] / values[-1]), 1, len(values))
    return line / line.sum() * values.sum()


def dc_merge(base, models, weights, density, rho=None):
    """One entry after the other where the election is concerned."""
    deltas = task_vectors(base, models)
    count = len(deltas)
    rank = max(1, min(base.shape) // count)
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    left = polar(np.hstack([u[:, :rank] for u, _, _ in parts]))
    right = polar(np.vstack([vt[:rank] for _, _, vt in parts]))
    cores = []
    for u, s, vt in parts:
        strength = s[:rank] if rho is None else even(s[:rank], rho)
        core = left.T @ (u[:, :rank] * strength) @ vt[:rank] @ right.T
        kept = max(1, int(density * min(base.shape) ** 2))
        cores.append(core * (np.abs(core) >= np.sort(np.abs(core).ravel())[-kept]))
    core = np.zeros_like(cores[0])
    for i, j in np.ndindex(*core.shape):
        sign = np.sign(sum(c[i, j] for c in cores))
        agree = [k for k in range(count) if cores[k][i, j] * sign > 0]
        if agree and i // rank == j // rank:
            core[i, j] = sum(weights[k] * cores[k][i, j] for k in agree) / len(agree)
    return base.double().numpy() + left @ core @ right


@pytest.mark.parametrize("shape", [(12, 12), (30, 9), (9, 30)])
@pytest.mark.parametrize("density", [0.03, 0.2, 1.0])
def test_it_follows_the_steps_without_smoothing(shape, density):
    base, models = fine_tunes(shape)
    weights = [1.0, 0.5, -0.5]
    got = merged("dc_merge", models, base, weights=weights, whole={"kept": density})
    np.testing.assert_allclose(got, dc_merge(base, models, weights, density), atol=3e-6)


@pytest.mark.parametrize("rho", [1.0, 1.2, 5.0])
def test_it_follows_the_steps_with_smoothing(rho):
    base, models = fine_tunes((24, 15))
    whole = {"smooth": True, "rho": rho, "kept": 0.1}
    got = merged("dc_merge", models, base, whole=whole)
    np.testing.assert_allclose(got, dc_merge(base, models, [1] * 3, 0.1, rho), atol=3e-6)


def test_smoothing_keeps_the_sum_and_bounds_the_ratio():
    values = torch.tensor([9.0, 3.0, 1.0, 0.5])
    found = smoothed(values, 5.0)
    assert float(found.sum()) == pytest.approx(13.5)
    assert float(found[0] / found[-1]) == pytest.approx(5.0)
    assert found.diff().diff().abs().max() < 1e-6
    assert float(smoothed(torch.tensor([2.0, 1.0]), 5.0)[0]) == pytest.approx(2.0)
    torch.testing.assert_close(smoothed(values, 1.0), torch.full((4,), 13.5 / 4))


def test_opposite_entries_of_equal_size_elect_nothing():
    core = torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    for part in elected([core, -core], 1):
        assert not part.any()


def test_task_vectors_of_low_rank_in_different_directions_are_kept_whole():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    base = torch.zeros(12, 12)
    models = [
        torch.tensor(orthogonal[:, part] @ np.diag([3.0, 2]) @ orthogonal[part]).float()
        for part in (slice(0, 2), slice(2, 4))
    ]
    got = merged("dc_merge", models, base, whole={"kept": 2 / 144})  # two entries
    np.testing.assert_allclose(got, sum(models), atol=1e-6)


def test_a_model_that_is_the_base_adds_nothing_to_the_bases():
    base, models = fine_tunes((12, 12), count=2)
    got = merged("dc_merge", [models[0], base, models[1]], base, whole={"kept": 1.0})
    assert np.isfinite(got).all()
    assert np.abs(got - base.numpy()).max() > 0.01
