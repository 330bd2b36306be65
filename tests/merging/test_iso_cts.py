"""Iso-CTS against its formula in numpy."""

import numpy as np
import pytest
from merging.operator_calls import Keeper, fine_tunes, merged, task_vectors

from evomerge.merging.operators.iso_cts import ranks


def polar(matrix):
    p, _, qt = np.linalg.svd(matrix, full_matrices=False)
    return p @ qt


def iso_cts(deltas, common, own):
    u, s, vt = np.linalg.svd(sum(deltas), full_matrices=False)
    lefts, values, rights = [u[:, :common]], [s[:common]], [vt[:common]]
    for delta in deltas:
        rest = delta - lefts[0] @ lefts[0].T @ delta
        u, s, vt = np.linalg.svd(rest, full_matrices=False)
        lefts.append(u[:, :own])
        values.append(s[:own])
        rights.append(vt[:own])
    mean = np.concatenate(values).mean()
    return mean * polar(np.hstack(lefts)) @ polar(np.vstack(rights))


@pytest.mark.parametrize("shape", [(20, 20), (40, 15), (15, 40)])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.0])
def test_common_and_own_directions_are_made_equally_strong(shape, share):
    base, models = fine_tunes(shape)
    deltas = task_vectors(base, models)
    common, own = ranks(min(shape), 3, share)
    got = merged("iso_cts", models, base, whole={"common_share": share, "lambda": 0.7})
    want = base.double().numpy() + 0.7 * iso_cts(deltas, common, own)
    np.testing.assert_allclose(got, want, atol=3e-6)
    found = np.linalg.svd(got - base.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(found, found[0], rtol=1e-4)


def test_with_all_of_the_rank_in_common_it_is_iso_c():
    base, models = fine_tunes((20, 12))
    got = merged("iso_cts", models, base, whole={"common_share": 1.0})
    np.testing.assert_allclose(got, merged("iso_c", models, base), atol=1e-6)


@pytest.mark.parametrize(
    ("rank", "models", "share", "want"),
    [
        (576, 3, 0.8, (459, 39)),
        (10, 3, 0.8, (7, 1)),
        (1, 3, 0.8, (1, 0)),
        (2, 3, 0.0, (2, 0)),
        (9, 3, 0.0, (0, 3)),
    ],
)
def test_ranks_are_divided_evenly_among_the_models(rank, models, share, want):
    assert ranks(rank, models, share) == want


def test_shares_of_equal_ranks_cost_one_decomposition():
    base, models = fine_tunes((20, 20))
    keeper = Keeper()
    for share in (0.8, 0.81, 0.5, 0.8):
        merged("iso_cts", models, base, whole={"common_share": share}, once=keeper)
    assert len(keeper.made) == 2
