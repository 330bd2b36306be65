"""WIDEN against its formula in numpy."""

import numpy as np
import pytest
import torch
from merging.operator_calls import Keeper, fine_tunes, merged, task_vectors

EMBEDDING = "model.embed_tokens.weight"


def softmax(values):
    grown = np.exp(values - values.max(0))
    return grown / grown.sum(0)


def importance(significance, above_average, calibration):
    scores = softmax(significance)
    limit = above_average * significance.mean(1, keepdims=True)
    return np.where(significance > limit, calibration, scores)


def ranks(changes):
    places = np.argsort(np.argsort(changes, axis=1, kind="stable"), axis=1)
    return places / changes.shape[1]


def widen(base, models, weights, above_average=1.0, calibration=1.0):
    start = base.double().numpy()
    deltas = np.stack(task_vectors(base, models))
    if start.ndim == 1:
        scores = importance(np.abs(deltas), above_average, calibration)
    else:
        columns = start.reshape(len(start), -1)
        lengths, angles = [], []
        for delta in deltas.reshape(len(deltas), *columns.shape):
            model = columns + delta
            norms = np.linalg.norm(columns, axis=0), np.linalg.norm(model, axis=0)
            lengths.append(np.abs(norms[1] - norms[0]))
            angles.append(1 - (columns * model).sum(0) / norms[0] / norms[1])
        both = [ranks(np.stack(part)) for part in (lengths, angles)]
        scores = sum(importance(part, above_average, calibration) for part in both) / 2
        scores = scores.reshape(len(deltas), 1, *start.shape[1:])
    return start + np.einsum("k,k...->...", np.array(weights), scores * deltas)


@pytest.mark.parametrize("shape", [(12, 8), (5, 40), (6, 3, 2, 2), (30,)])
@pytest.mark.parametrize(("above_average", "calibration"), [(1.0, 1.0), (1.5, 0.7), (0.0, 1.0)])
def test_columns_are_weighted_by_their_importance(shape, above_average, calibration):
    base, models = fine_tunes(shape)
    weights = [1.0, 0.5, -0.4]
    whole = {"above_average": above_average, "calibration": calibration}
    got = merged("widen", models, base, weights=weights, whole=whole)
    want = widen(base, models, weights, above_average, calibration)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_an_embedding_has_a_column_for_every_token():
    base, models = fine_tunes((12, 8))
    got = merged("widen", models, base, tensor=EMBEDDING)
    want = widen(base.T, [model.T for model in models], [1.0] * 3).T
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.abs(got - merged("widen", models, base)).max() > 1e-3
    one = [tensor[None] for tensor in (base, *models)]  # as vision models keep positions
    positions = merged("widen", one[1:], one[0], tensor="vit.embeddings.position_embeddings")
    np.testing.assert_array_equal(positions[0], got)


def test_tiny_changes_are_ranked_as_exactly_as_large_ones():
    base, models = fine_tunes((50, 30), size=1e-6, dtype=torch.float64)
    got = merged("widen", [m.double() for m in models], base)
    want = widen(base, models, [1.0] * 3)
    change = np.abs(want - base.numpy()).max()
    np.testing.assert_allclose((got - want) / change, 0, atol=0.2)  # float32 of the result


@pytest.mark.parametrize("tensor", ["x.weight", EMBEDDING])
def test_large_matrices_go_in_blocks_of_rows(tensor):
    base, models = fine_tunes((700, 300), count=2)
    got = merged("widen", models, base, tensor=tensor)
    if tensor == EMBEDDING:
        want = widen(base.T, [model.T for model in models], [1.0] * 2).T
    else:
        want = widen(base, models, [1.0] * 2)
    # Columns that are all but equally important may change places by rounding.
    assert (np.abs(got - want) < 1e-6).mean() > 0.99


@pytest.mark.parametrize("shape", [(20, 30), (30,), ()])
def test_one_model_is_itself(shape):
    base, models = fine_tunes(shape, count=1)
    np.testing.assert_allclose(merged("widen", models, base), models[0], atol=1e-6)


def test_columns_of_zeros_merge():
    base, models = fine_tunes((6, 5), count=2)
    base[:, 1:3] = models[0][:, 2:4] = 0
    assert np.isfinite(merged("widen", models, base)).all()


def test_ranks_are_computed_once_for_all_thresholds():
    base, models = fine_tunes((6, 5))
    keeper = Keeper()
    for limit in (0.5, 1.0, 2.0):
        merged("widen", models, base, whole={"above_average": limit}, once=keeper)
    assert len(keeper.made) == 1
