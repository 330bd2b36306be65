import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.dimension import choose_dimensions
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_matrix import ResponseMatrix


def matrix(models, items, dims, seed=0, families=None):
    rng = np.random.default_rng(seed)
    slopes = np.full((items, 1), 1.5) if dims == 1 else np.zeros((items, dims))
    if dims > 1:  # every item needs one ability only
        slopes[np.arange(items), np.arange(items) % dims] = 2.5
    truth = ItemParameters(slopes, rng.normal(size=items))
    p = truth.probabilities(rng.normal(size=(models, dims)))
    return ResponseMatrix(
        tuple(f"m{k}" for k in range(models)),
        tuple(str(k) for k in range(items)),
        (rng.random(p.shape) < p).astype(float),
        families or (),
    )


@pytest.mark.parametrize("dims", [1, 2])
def test_the_number_that_made_the_answers_is_chosen(dims):
    chosen = choose_dimensions(matrix(80, 150, dims), [4, 2, 1], np.random.default_rng(0))
    assert chosen.candidates == (1, 2, 4)
    assert chosen.dims == dims
    assert chosen.accuracy_error.shape == chosen.log_likelihood.shape == (3,)
    assert (chosen.accuracy_error > 0).all()
    assert (chosen.log_likelihood < 0).all()


def test_more_dimensions_than_there_are_gain_little_and_lose_to_the_smaller():
    chosen = choose_dimensions(matrix(60, 100, 1), [1, 3], np.random.default_rng(0))
    assert chosen.dims == 1
    assert chosen.log_likelihood[1] < chosen.log_likelihood[0] + 0.01


def test_the_same_generator_gives_the_same_choice():
    responses = matrix(30, 60, 2)
    one, two = (choose_dimensions(responses, [1, 2], np.random.default_rng(3)) for _ in "ab")
    np.testing.assert_array_equal(one.log_likelihood, two.log_likelihood)
    np.testing.assert_array_equal(one.accuracy_error, two.accuracy_error)


def test_missing_answers_are_neither_seen_nor_predicted():
    responses = matrix(40, 80, 1)
    values = responses.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.4] = np.nan
    holed = ResponseMatrix(responses.models, responses.items, values)
    chosen = choose_dimensions(holed, [1, 2], np.random.default_rng(0))
    assert np.isfinite(chosen.log_likelihood).all()
    assert chosen.log_likelihood[0] > np.log(0.5)


def test_families_are_held_out_together():
    """Copies would otherwise tell their twin's answers through the items' fit."""
    rng = np.random.default_rng(1)
    values = np.repeat((rng.random((10, 80)) < 0.5).astype(float), 4, axis=0)
    models, items = (
        tuple(f"{kind}{k}" for k in range(n)) for kind, n in (("m", 40), ("i", 80))
    )
    twins = ResponseMatrix(models, items, values, tuple(f"f{k // 4}" for k in range(40)))
    strangers = ResponseMatrix(models, items, values)
    together, apart = (
        choose_dimensions(one, [4], np.random.default_rng(0)).log_likelihood[0]
        for one in (twins, strangers)
    )
    assert together < np.log(0.5) < apart - 0.1  # coin flips cannot be predicted


@pytest.mark.parametrize(
    ("candidates", "families", "said"),
    [
        ([], None, "candidates must be"),
        ([0, 1], None, "candidates must be"),
        ([9], None, "ask for at most 7"),
        ([1], ("one",) * 10, "second family"),
    ],
    ids=["none", "zero", "too many", "one family"],
)
def test_a_choice_that_cannot_be_made_is_refused(candidates, families, said):
    with pytest.raises(ConfigError, match=said):
        choose_dimensions(
            matrix(10, 30, 1, families=families), candidates, np.random.default_rng(0)
        )
