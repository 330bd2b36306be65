"""EMR's elected task vector against its formula, entry by entry."""

import numpy as np
import pytest
import torch
from merging.operator_calls import fine_tunes, merged


def elected(changes):
    sign = 1 if sum(changes) >= 0 else -1
    return sign * max([abs(change) for change in changes if change * sign > 0], default=0)


@pytest.mark.parametrize("shape", [(6, 7), (9,), (2, 3, 4), ()])
def test_the_largest_change_with_the_sign_of_the_sum_is_taken(shape):
    base, models = fine_tunes(shape)
    weights = [1.0, 0.6, -1.4]
    got = merged("emr", models, base, weights=weights, whole={"lambda": 0.5})
    for place in np.ndindex(got.shape):
        changes = [float(model[place]) - float(base[place]) for model in models]
        own = [w * change for w, change in zip(weights, changes, strict=True)]
        assert got[place] == pytest.approx(float(base[place]) + 0.5 * elected(own), abs=1e-6)


def test_a_sum_of_zero_counts_as_positive():
    got = merged("emr", [torch.tensor([2.0]), torch.tensor([-2.0])], torch.tensor([0.0]))
    np.testing.assert_array_equal(got, [2.0])


def test_identical_models_are_themselves():
    base, models = fine_tunes((8, 8), count=1)
    np.testing.assert_allclose(merged("emr", models * 3, base), models[0], atol=1e-6)


def test_no_model_left_is_the_base():
    base = torch.randn(3, 3)
    np.testing.assert_array_equal(merged("emr", [], base), base)
