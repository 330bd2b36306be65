import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.model import ItemParameters


def some_items(dims, items=7, seed=0):
    rng = np.random.default_rng(seed)
    return ItemParameters(rng.normal(size=(items, dims)), rng.normal(size=items))


def test_the_probability_is_the_logistic_of_slope_times_ability_minus_difficulty():
    items = ItemParameters(np.array([[1.0, -0.5]]), np.array([0.3]))
    expected = 1 / (1 + np.exp(-(1.0 * 2.0 - 0.5 * 1.0 - 0.3)))
    assert items.probabilities(np.array([[2.0, 1.0]]))[0, 0] == pytest.approx(expected)


def test_locations_of_py_irt_and_girth_keep_their_probabilities():
    rng = np.random.default_rng(1)
    slopes, places, theta = (rng.normal(size=shape) for shape in ((5, 3), (5, 3), (4, 3)))
    ours = ItemParameters.from_locations(slopes, places).logits(theta)
    theirs = (slopes[None] * (theta[:, None] - places[None])).sum(axis=2)
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("width", [1, 3])
def test_offsets_of_tinybenchmarks_count_once_for_each_dimension(width):
    rng = np.random.default_rng(2)
    slopes, offsets, theta = (rng.normal(size=s) for s in ((5, 3), (5, width), (4, 3)))
    ours = ItemParameters.from_shared_offsets(slopes, offsets).logits(theta)
    theirs = (slopes[None] * theta[:, None] - offsets[None]).sum(axis=2)
    np.testing.assert_allclose(ours, theirs)


def test_offsets_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"offsets of shape \(5, 2\)"):
        ItemParameters.from_shared_offsets(np.ones((5, 3)), np.ones((5, 2)))


def test_one_dimensional_items_may_come_as_vectors_with_their_locations():
    items = ItemParameters.from_locations(np.array([2.0, 1.0]), np.array([0.5, -1.0]))
    half = items.probabilities(np.array([[0.5], [-1.0]]))
    assert np.diagonal(half) == pytest.approx(0.5)


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_turning_abilities_and_slopes_together_changes_nothing(dims, seed):
    items = some_items(dims, seed=seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(dims, dims)))
    theta = rng.normal(size=(3, dims))
    turned = ItemParameters(items.discrimination @ turn, items.difficulty)
    np.testing.assert_allclose(
        turned.probabilities(theta @ turn), items.probabilities(theta), atol=1e-12
    )


@given(st.floats(-1e6, 1e6))
def test_probabilities_never_reach_0_or_1(theta):
    p = ItemParameters(np.array([[3.0]]), np.array([0.0])).probabilities(np.array([[theta]]))
    assert 0 < p[0, 0] < 1


def test_arrays_read_back_as_the_same_items(tmp_path):
    items = some_items(3)
    np.savez(tmp_path / "items.npz", other=np.ones(2), **items.to_arrays())
    with np.load(tmp_path / "items.npz", allow_pickle=False) as arrays:
        again = ItemParameters.from_arrays(arrays)
    np.testing.assert_array_equal(again.discrimination, items.discrimination)
    np.testing.assert_array_equal(again.difficulty, items.difficulty)


def test_a_missing_array_is_named():
    with pytest.raises(ConfigError, match="'difficulty' is missing, found discrimination"):
        ItemParameters.from_arrays({"discrimination": np.ones((2, 1))})


@pytest.mark.parametrize(
    ("slopes", "difficulty", "said"),
    [
        (np.ones((3, 1)), np.ones(2), "3 discriminations for 2"),
        (np.ones(3), np.ones(3), "discrimination must be 2-dimensional"),
        (np.ones((0, 1)), np.ones(0), "not empty"),
        (
            np.full((2, 1), np.nan),
            np.ones(2),
            "discrimination holds numbers that are not finite",
        ),
    ],
    ids=["counts", "axes", "empty", "nan"],
)
def test_items_that_make_no_sense_are_refused(slopes, difficulty, said):
    with pytest.raises(ConfigError, match=said):
        ItemParameters(slopes, difficulty)


def test_abilities_of_other_dimensions_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match=r"shape \(models, 2\)"):
        some_items(2).probabilities(np.zeros((1, 3)))
