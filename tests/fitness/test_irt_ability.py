import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.ability import (
    Ability,
    AbilityPrior,
    fit_ability,
    fit_mixture_ability,
)
from evomerge.fitness.irt.expected_score import expected_scores
from evomerge.fitness.irt.information import bank_information
from evomerge.fitness.irt.model import ItemParameters


def simulated(models, items, dims, seed=0):
    rng = np.random.default_rng(seed)
    parameters = ItemParameters(
        rng.lognormal(0, 0.3, size=(items, dims)) * rng.choice([-1, 1, 1], size=(items, dims)),
        rng.normal(size=items),
    )
    theta = rng.normal(size=(models, dims))
    answers = (rng.random((models, items)) < parameters.probabilities(theta)).astype(float)
    return parameters, theta, answers


def log_posterior(parameters, answers, theta, prior):
    z = parameters.logits(theta[None])[0]
    seen = ~np.isnan(answers)
    fit = (answers * z - np.logaddexp(0, z))[seen].sum()
    away = theta - prior.mean
    return fit - 0.5 * away @ np.linalg.solve(prior.covariance, away)


@given(st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_nothing_near_the_fitted_ability_is_more_likely(dims, seed):
    rng = np.random.default_rng(seed)
    parameters, _, _ = simulated(1, 12, dims, seed)
    answers = rng.random((2, 12))
    answers[rng.random((2, 12)) < 0.3] = np.nan
    spread = rng.normal(size=(dims, dims))
    prior = AbilityPrior(rng.normal(size=dims), spread @ spread.T + 0.2 * np.eye(dims))
    fitted = fit_ability(parameters, answers, prior)
    for model in range(2):
        here = log_posterior(parameters, answers[model], fitted.theta[model], prior)
        for _ in range(10):
            aside = fitted.theta[model] + rng.normal(scale=0.05, size=dims)
            assert log_posterior(parameters, answers[model], aside, prior) <= here


def test_the_covariance_is_the_inverse_curvature_at_the_mode():
    parameters, _, answers = simulated(3, 40, 2)
    prior = AbilityPrior.standard(2)
    fitted = fit_ability(parameters, answers, prior)
    step = 1e-4
    units = np.eye(2) * step
    for model in range(3):

        def value(point, answered=answers[model]):
            return log_posterior(parameters, answered, point, prior)

        at = fitted.theta[model]
        curvature = np.array(
            [
                [
                    (
                        value(at + u + v)
                        - value(at + u - v)
                        - value(at - u + v)
                        + value(at - u - v)
                    )
                    / (4 * step**2)
                    for v in units
                ]
                for u in units
            ]
        )
        np.testing.assert_allclose(
            np.linalg.inv(-curvature), fitted.covariance[model], rtol=1e-3, atol=1e-5
        )


def test_abilities_are_recovered_within_their_standard_errors():
    parameters, theta, answers = simulated(400, 300, 2)
    fitted = fit_ability(parameters, answers)
    z = (fitted.theta - theta) / fitted.standard_error
    assert np.corrcoef(fitted.theta.ravel(), theta.ravel())[0, 1] > 0.97
    assert z.std() == pytest.approx(1.0, abs=0.1)
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_all_answers_right_or_wrong_have_a_finite_ability(answer):
    parameters = ItemParameters(np.full((500, 1), 2.0), np.zeros(500))
    fitted = fit_ability(parameters, np.full((1, 500), answer))
    assert np.sign(fitted.theta[0, 0]) == (1 if answer else -1)
    assert 1 < abs(fitted.theta[0, 0]) < 10
    assert 0 < fitted.standard_error[0, 0] < 1


def test_without_answers_the_prior_is_what_is_known():
    prior = AbilityPrior(np.array([1.0, -2.0]), np.array([[2.0, 0.3], [0.3, 1.0]]))
    parameters, _, _ = simulated(1, 5, 2)
    fitted = fit_ability(parameters, np.full((1, 5), np.nan), prior)
    np.testing.assert_allclose(fitted.theta[0], prior.mean)
    np.testing.assert_allclose(fitted.covariance[0], prior.covariance)


def test_unanswered_items_count_for_nothing():
    parameters, _, answers = simulated(4, 30, 2)
    some = answers.copy()
    some[:, 10:] = np.nan
    some[0, 9] = np.nan  # not the same for all
    whole = fit_ability(parameters, some)
    first = fit_ability(parameters.subset(range(10)), some[:, :10])
    np.testing.assert_allclose(whole.theta, first.theta, atol=1e-9)
    np.testing.assert_allclose(whole.covariance, first.covariance, atol=1e-9)


def test_each_model_is_fitted_as_if_alone():
    parameters, _, answers = simulated(6, 20, 2)
    together = fit_ability(parameters, answers).theta
    alone = np.concatenate([fit_ability(parameters, row[None]).theta for row in answers])
    np.testing.assert_allclose(together, alone, atol=1e-8)


def test_graded_answers_at_their_expectation_give_back_the_ability():
    parameters, theta, _ = simulated(5, 80, 2)
    wide = AbilityPrior(np.zeros(2), 1e8 * np.eye(2))
    fitted = fit_ability(parameters, parameters.probabilities(theta), wide)
    np.testing.assert_allclose(fitted.theta, theta, atol=1e-5)


def test_the_population_of_a_pool_holds_its_mean_and_spread():
    theta = np.array([[0.0, 1.0], [2.0, 3.0]])
    prior = AbilityPrior.of(Ability(theta, np.tile(0.5 * np.eye(2), (2, 1, 1))))
    np.testing.assert_allclose(prior.mean, [1.0, 2.0])
    np.testing.assert_allclose(prior.covariance, [[1.5, 1.0], [1.0, 1.5]])


@pytest.mark.parametrize(
    "covariance", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]], [[np.nan, 0], [0, 1]]]
)
def test_an_improper_prior_is_refused(covariance):
    with pytest.raises(ConfigError, match="positive definite"):
        AbilityPrior(np.zeros(2), np.array(covariance))


def test_answers_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="within 0 and 1"):
        fit_ability(simulated(1, 3, 1)[0], np.array([[0.0, 1.0, 1.5]]))


def test_answers_to_another_number_of_items_are_refused():
    with pytest.raises(ValueError, match=r"\(models, 3\)"):
        fit_ability(simulated(1, 3, 1)[0], np.array([[0.0, 1.0]]))


def test_mixture_weights_are_recovered_from_a_full_bank():
    parameters, endpoints, _ = simulated(2, 4000, 3)
    weights = np.array([[0.8, 0.5], [-0.2, 1.1]])  # a merge may be outside its parents
    p = parameters.probabilities(weights @ endpoints)
    answers = (np.random.default_rng(5).random(p.shape) < p).astype(float)
    mixed = fit_mixture_ability(parameters, answers, endpoints)
    spread = np.sqrt(np.diagonal(mixed.weight_covariance, axis1=1, axis2=2))
    assert (np.abs(mixed.weights - weights) < 3 * spread).all()
    assert spread.max() < 0.1
    np.testing.assert_allclose(mixed.ability.theta, mixed.weights @ endpoints)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_mixture_weights_do_not_run_away_when_all_answers_agree(answer):
    parameters, endpoints, _ = simulated(3, 20, 1)
    mixed = fit_mixture_ability(parameters, np.full((1, 20), answer), endpoints)
    assert np.abs(mixed.weights).max() < 5


def test_mixture_weights_without_answers_are_equal():
    parameters, endpoints, _ = simulated(4, 20, 2)
    mixed = fit_mixture_ability(parameters, np.full((1, 20), np.nan), endpoints)
    np.testing.assert_allclose(mixed.weights, 0.25)
    np.testing.assert_allclose(mixed.ability.theta[0], endpoints.mean(axis=0))


def test_the_expected_score_is_the_mean_probability():
    parameters, theta, _ = simulated(3, 50, 2)
    known = Ability(theta, np.zeros((3, 2, 2)))
    scores = expected_scores(parameters, known)
    np.testing.assert_allclose(scores.value, parameters.probabilities(theta).mean(axis=1))
    np.testing.assert_allclose(scores.variance, 0.0)


def test_weights_pick_the_items_that_count():
    parameters, theta, _ = simulated(2, 5, 1)
    known = Ability(theta, np.zeros((2, 1, 1)))
    scores = expected_scores(parameters, known, np.array([0, 0, 1.0, 0, 0]))
    np.testing.assert_allclose(scores.value, parameters.probabilities(theta)[:, 2])


def test_the_variance_of_the_expected_score_is_that_of_drawn_abilities():
    parameters, theta, _ = simulated(1, 200, 2)
    covariance = np.array([[0.02, 0.01], [0.01, 0.03]])
    scores = expected_scores(parameters, Ability(theta, covariance[None]))
    draws = np.random.default_rng(0).multivariate_normal(theta[0], covariance, size=20_000)
    drawn = parameters.probabilities(draws).mean(axis=1)
    assert scores.variance[0] == pytest.approx(drawn.var(), rel=0.05)


def test_the_information_of_the_bank_is_the_inverse_covariance_less_the_prior():
    parameters, _, answers = simulated(3, 60, 2)
    fitted = fit_ability(parameters, answers)
    information = bank_information(parameters, fitted.theta)
    np.testing.assert_allclose(
        np.linalg.inv(information + np.eye(2)), fitted.covariance, rtol=1e-6, atol=1e-9
    )
