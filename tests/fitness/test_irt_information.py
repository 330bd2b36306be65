import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.fitness.irt.ability import AbilityPrior, fit_ability
from evomerge.fitness.irt.information import bank_information, item_information, next_items
from evomerge.fitness.irt.model import ItemParameters


def some_items(dims, items=30, seed=0):
    rng = np.random.default_rng(seed)
    return ItemParameters(rng.normal(1.0, 0.5, size=(items, dims)), rng.normal(size=items))


def test_the_information_of_one_dimension_is_the_squared_slope_times_the_variance():
    items = some_items(1)
    p = items.probabilities(np.array([[0.7]]))[0]
    expected = items.discrimination[:, 0] ** 2 * p * (1 - p)
    found = item_information(items, np.array([[0.7]]))
    np.testing.assert_allclose(found[0, :, 0, 0], expected)


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_the_information_is_the_expected_squared_slope_of_the_log_likelihood(dims, seed):
    items = some_items(dims, items=4, seed=seed)
    theta = np.random.default_rng(seed).normal(size=(1, dims))
    step = 1e-5

    def log_p(point):
        return np.log(items.probabilities(point)[0])

    def log_q(point):
        return np.log1p(-items.probabilities(point)[0])

    p = items.probabilities(theta)[0]
    ups, downs = (
        np.stack(
            [(f(theta + e) - f(theta - e)) / (2 * step) for e in (np.eye(dims) * step)[:, None]]
        )
        for f in (log_p, log_q)
    )
    expected = np.einsum("di,ei->ide", ups * p, ups)
    expected = expected + np.einsum("di,ei->ide", downs * (1 - p), downs)
    np.testing.assert_allclose(
        item_information(items, theta)[0], expected, rtol=1e-4, atol=1e-7
    )


def test_the_banks_information_is_the_sum_over_items():
    items, theta = some_items(3), np.array([[0.1, -0.3, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        bank_information(items, theta), item_information(items, theta).sum(axis=1)
    )


def test_the_next_item_has_the_largest_fisher_information_of_those_left():
    items, theta = some_items(1), np.array([0.4])
    information = item_information(items, theta[None])[0, :, 0, 0]
    order = np.argsort(-information)
    assert next_items(items, theta, []) == (order[0],)
    assert next_items(items, theta, order[:3]) == (order[3],)
    assert next_items(items, theta, [], count=4) == tuple(order[:4])


@pytest.mark.parametrize("answered", [[], [3, 17]])
def test_the_next_item_gives_the_largest_determinant(answered):
    items, theta = some_items(3), np.array([0.4, -0.2, 0.1])
    prior = AbilityPrior(np.zeros(3), np.diag([1.0, 0.5, 2.0]))
    information = item_information(items, theta[None])[0]
    before = np.linalg.inv(prior.covariance) + information[answered].sum(axis=0)
    gains = [
        -np.inf if k in answered else np.linalg.det(before + information[k]) for k in range(30)
    ]
    assert next_items(items, theta, answered, prior=prior) == (int(np.argmax(gains)),)


def test_a_second_item_is_chosen_as_if_the_first_were_answered():
    items, theta = some_items(2), np.array([0.0, 0.5])
    first, second = next_items(items, theta, [], count=2)
    assert (second,) == next_items(items, theta, [first])
    twice_and_another = ItemParameters(
        np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.9]]), np.zeros(3)
    )
    assert next_items(twice_and_another, np.zeros(2), [], count=2) == (0, 2)


def test_a_dimension_of_which_nothing_is_known_is_asked_about():
    slopes = np.array([[2.0, 0.0]] * 10 + [[0.0, 1.0]])
    items = ItemParameters(slopes, np.zeros(11))
    assert next_items(items, np.zeros(2), [0, 1, 2, 3, 4, 5]) == (10,)


def test_equal_items_are_taken_in_their_order():
    items = ItemParameters(np.ones((5, 1)), np.zeros(5))
    assert next_items(items, np.zeros(1), [0], count=2) == (1, 2)


def test_no_more_items_are_chosen_than_are_left():
    assert len(next_items(some_items(1, items=5), np.zeros(1), [0, 1], count=9)) == 3
    assert next_items(some_items(1, items=2), np.zeros(1), [0, 1]) == ()


def test_adaptive_items_tell_more_than_random_ones():
    rng = np.random.default_rng(3)
    items = ItemParameters(rng.lognormal(0, 0.5, size=(500, 1)), rng.normal(scale=2, size=500))
    theta = rng.normal(size=(40, 1))
    answers = (rng.random((40, 500)) < items.probabilities(theta)).astype(float)
    adaptive = np.full_like(answers, np.nan)
    for model, row in enumerate(answers):
        for _ in range(20):
            now = fit_ability(items, adaptive[[model]]).theta[0]
            chosen = list(next_items(items, now, np.flatnonzero(~np.isnan(adaptive[model]))))
            adaptive[model, chosen] = row[chosen]
    random = np.where(np.arange(500) < 20, answers, np.nan)
    error = [np.abs(fit_ability(items, y).theta - theta).mean() for y in (adaptive, random)]
    assert error[0] < 0.75 * error[1]
