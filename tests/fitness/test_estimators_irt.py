"""The IRT family by its definitions."""

import numpy as np
import pytest
from estimator_pools import calibration_of, responses

from evomerge.fitness.estimators.irt import (
    GeneralizedIrt,
    IrtPredictor,
    direct_mean,
    prediction_error,
)
from evomerge.fitness.estimators.mixture_irt import MixtureIrt
from evomerge.fitness.irt.ability import fit_ability, fit_mixture_ability
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.registry import select

ITEMS = np.arange(0, 60, 4)


@pytest.fixture(scope="module")
def known():
    return calibration_of(responses(np.random.default_rng(0), 40, 60))


@pytest.fixture(scope="module")
def parameters(known):
    return fit_items(known.matrix.values).parameters


@pytest.fixture
def answers():
    return responses(np.random.default_rng(8), 5, 60)


def test_equal_responses_are_fitted_once(known):
    assert fit_items(known.matrix.values) is fit_items(known.matrix.values.copy())
    assert fit_items(known.matrix.values[:-1]) is not fit_items(known.matrix.values)


def test_irt_is_the_bank_mean_of_the_probabilities(parameters, answers):
    theta = fit_ability(parameters.subset(ITEMS), answers[:, ITEMS]).theta
    found = IrtPredictor(parameters, answered_count=False).predict(ITEMS, answers[:, ITEMS])
    np.testing.assert_allclose(found, parameters.probabilities(theta).mean(axis=1))


def test_p_irt_replaces_predictions_by_answers_where_there_are_any(parameters, answers):
    theta = fit_ability(parameters.subset(ITEMS), answers[:, ITEMS]).theta
    p = parameters.probabilities(theta)
    unseen = np.setdiff1d(np.arange(60), ITEMS)
    share = len(ITEMS) / 60
    expected = share * answers[:, ITEMS].mean(axis=1) + (1 - share) * p[:, unseen].mean(axis=1)
    found = IrtPredictor(parameters, answered_count=True).predict(ITEMS, answers[:, ITEMS])
    np.testing.assert_allclose(found, expected)


def generalized(known, parameters, selection) -> GeneralizedIrt:
    return GeneralizedIrt(
        IrtPredictor(parameters, answered_count=True),
        direct_mean(known, selection),
        known,
        prediction_error(known),
    )


def test_gp_irt_mixes_p_irt_with_the_anchors_by_lambda(known, parameters, answers):
    chosen = select("anchors_irt", known, 12, np.random.default_rng(0))
    mixed = generalized(known, parameters, chosen)
    seen = answers[:, chosen.order]
    anchored = seen @ chosen.weights
    predicted = IrtPredictor(parameters, answered_count=True).predict(chosen.order, seen)
    bias = prediction_error(known) ** 2
    noise = np.var(known.matrix.values, axis=1).mean() / (4 * 12)
    share = bias / (bias + noise)
    np.testing.assert_allclose(
        mixed.predict(chosen.order, seen), share * anchored + (1 - share) * predicted
    )


def test_gp_irt_trusts_the_answers_alone_as_they_grow_in_number(known, parameters):
    mixed = generalized(known, parameters, Selection(ITEMS))
    shares = [mixed.direct_share(n) for n in (1, 20, 400, 10**7)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] > 0.999


def test_the_prediction_error_is_small_where_the_model_holds_and_large_where_not():
    rng = np.random.default_rng(0)
    holds = responses(rng, 60, 200)
    fails = np.hstack([(rng.random((60, 1)) < 0.5) * np.ones((1, 100)), holds[:, :100]])
    fails = fails[:, rng.permutation(200)]
    fails[:, 1::2] = (rng.random((60, 1)) < 0.5) * np.ones((1, 100))
    assert prediction_error(calibration_of(holds)) < 0.06
    assert prediction_error(calibration_of(fails)) > 0.15


def test_the_prediction_error_does_without_missing_responses():
    values = responses(np.random.default_rng(0), 30, 80)
    values[np.random.default_rng(1).random(values.shape) < 0.3] = np.nan
    assert 0 < prediction_error(calibration_of(values)) < 0.15


def mixture(parameters, endpoints, share=0.0) -> MixtureIrt:
    return MixtureIrt(parameters, endpoints, direct_mean(None, Selection(ITEMS)), share)


def test_mp_irt_predicts_at_the_mixture_of_the_endpoints_abilities(known, parameters, answers):
    endpoints = fit_items(known.matrix.values).abilities.theta[list(known.endpoints)]
    seen = answers[:, ITEMS]
    fitted = fit_mixture_ability(parameters.subset(ITEMS), seen, endpoints)
    p = parameters.probabilities(fitted.weights @ endpoints)
    unseen = np.setdiff1d(np.arange(60), ITEMS)
    share = len(ITEMS) / 60
    expected = share * seen.mean(axis=1) + (1 - share) * p[:, unseen].mean(axis=1)
    np.testing.assert_allclose(mixture(parameters, endpoints).predict(ITEMS, seen), expected)


def test_gmp_irt_is_half_the_mean_and_half_mp_irt(known, parameters, answers):
    endpoints = fit_items(known.matrix.values).abilities.theta[list(known.endpoints)]
    seen = answers[:, ITEMS]
    half = mixture(parameters, endpoints, 0.5).predict(ITEMS, seen)
    whole = mixture(parameters, endpoints).predict(ITEMS, seen)
    np.testing.assert_allclose(half, (seen.mean(axis=1) + whole) / 2)


def test_mp_irt_with_one_endpoint_is_p_irt_of_one_dimension():
    # θ = λ θ_1 with λ ~ N(1, 0.5²) is θ ~ N(θ_1, (0.5 θ_1)²): near N(0, 1) for p-IRT's
    # likelihood of many items to outweigh either prior
    rng = np.random.default_rng(0)
    parameters = ItemParameters(rng.uniform(1, 2, (2000, 1)), rng.normal(size=2000))
    answers = (rng.random((4, 2000)) < 0.6).astype(float)
    items = np.arange(1500)
    merged = MixtureIrt(
        parameters, np.array([[2.0]]), direct_mean(None, Selection(items))
    ).predict(items, answers[:, items])
    alone = IrtPredictor(parameters, answered_count=True).predict(items, answers[:, items])
    np.testing.assert_allclose(merged, alone, atol=1e-3)


def test_a_merge_of_equal_endpoints_that_answers_like_them_scores_like_them(parameters):
    theta = np.array([[0.8, 0.3], [0.8, 0.3]])
    expected = parameters.probabilities(theta)[:1]
    found = mixture(parameters, theta).predict(ITEMS, expected[:, ITEMS])
    assert found[0] == pytest.approx(expected.mean(), abs=0.01)
