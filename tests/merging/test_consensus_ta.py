"""Consensus task arithmetic against its formula, entry by entry."""

import numpy as np
import pytest
import torch
from merging.operator_calls import fine_tunes, merged


def consensus(base, models, weights, thresholds, agreement):
    found = base.double().numpy().copy()
    needed = min(agreement, sum(w != 0 for w in weights))
    for place in np.ndindex(found.shape):
        changes = [float(model[place]) - float(base[place]) for model in models]
        own = [w * change for w, change in zip(weights, changes, strict=True)]
        tau = sum(own)
        votes = sum(abs(o) > t * abs(tau - o) for o, t in zip(own, thresholds, strict=True))
        found[place] += tau if votes >= needed else 0
    return found


@pytest.mark.parametrize("shape", [(6, 7), (9,), (2, 3, 4), ()])
@pytest.mark.parametrize("agreement", [0, 1, 2, 2.5, 3, 9])
def test_entries_that_enough_models_need_are_task_arithmetic(shape, agreement):
    base, models = fine_tunes(shape)
    weights, thresholds = [1.0, 0.6, 1.4], [0.2, 0.4, 0.6]
    own = [{"threshold": threshold} for threshold in thresholds]
    got = merged(
        "consensus_ta", models, base, weights=weights, own=own, whole={"agreement": agreement}
    )
    want = consensus(base, models, weights, thresholds, agreement)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_some_entries_are_dropped_and_some_kept_by_default():
    base, models = fine_tunes((30, 30))
    kept = merged("consensus_ta", models, base) != base.double().numpy()
    assert 100 < kept.sum() < 800


def test_a_model_of_weight_zero_does_not_vote():
    base, models = fine_tunes((8, 8))
    got = merged("consensus_ta", models, base, weights=[1.0, 0.0, 0.5])
    left = merged("consensus_ta", [models[0], models[2]], base, weights=[1.0, 0.5])
    np.testing.assert_array_equal(got, left)
    alone = merged("consensus_ta", models, base, weights=[0.0, 0.0, 1.0])
    np.testing.assert_allclose(alone, models[2], atol=1e-6)


def test_one_model_is_itself():
    base, models = fine_tunes((8, 8), count=1)
    np.testing.assert_allclose(merged("consensus_ta", models, base), models[0], atol=1e-6)


def test_no_model_left_is_the_base():
    base = torch.randn(3, 3)
    np.testing.assert_array_equal(merged("consensus_ta", [], base), base)
