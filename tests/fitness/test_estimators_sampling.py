"""Estimators that rest on the random draw of items alone: mean and prediction-powered."""

import numpy as np
import pytest
from estimator_pools import calibration_of, responses
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.estimators.item_predictors import (
    EndpointItems,
    FactorItems,
    IrtItems,
)
from evomerge.fitness.estimators.mean import SampleMean
from evomerge.fitness.estimators.prediction_powered import PredictionPowered
from evomerge.fitness.estimators.sampling_design import SamplingDesign
from evomerge.fitness.selection.registry import select

BANK = 150
DRAWS = 600


class Useless:
    """Predictions that have nothing to do with the model."""

    def predict(self, items, answers):
        return np.random.default_rng(7).random(BANK)


class Oracle:
    """Knows the responses up to some noise."""

    def __init__(self, truth):
        self.truth = np.clip(truth + np.random.default_rng(1).normal(0, 0.2, BANK), 0, 1)

    def predict(self, items, answers):
        return self.truth


class Overfitted:
    """Repeats the answers that it was shown and predicts right answers elsewhere."""

    def predict(self, items, answers):
        guess = np.ones(BANK)
        guess[items] = answers
        return guess


@pytest.fixture(scope="module")
def pool():
    return responses(np.random.default_rng(0), 41, BANK)


def drawn(estimator, truth, draws=DRAWS):
    """Values and standard errors over random draws of 20 items."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(draws):
        items = rng.permutation(BANK)[:20]
        found.append(estimator.estimate(items, truth[items]))
    return np.array([e.value for e in found]), np.array([e.standard_error for e in found])


@pytest.fixture(scope="module")
def simulated(pool):
    """Values and standard errors of each estimator for the last model of the pool."""
    known = calibration_of(pool[:40])
    simple = SamplingDesign.simple(BANK)
    predictors = {
        "useless": Useless(),
        "oracle": Oracle(pool[40]),
        "overfitted": Overfitted(),
        "factor": FactorItems(known),
        "irt": IrtItems(known),
        "endpoints": EndpointItems(known),
    }
    found = {
        name: drawn(PredictionPowered(p, simple), pool[40], DRAWS if name != "irt" else 200)
        for name, p in predictors.items()
    }
    return found | {"mean": drawn(SampleMean(simple), pool[40])}


@pytest.mark.parametrize(
    "name", ["mean", "useless", "oracle", "overfitted", "factor", "endpoints", "irt"]
)
def test_unbiased_and_honest_whatever_the_predictions_are(pool, simulated, name):
    truth = pool[40].mean()
    values, errors = simulated[name]
    assert abs(values.mean() - truth) < 3.5 * values.std() / np.sqrt(len(values)) + 0.002
    assert np.mean(np.abs(values - truth) <= 1.96 * errors) >= 0.92
    claimed = np.sqrt(np.mean(errors**2)) / values.std()
    assert 0.93 < claimed < 1.2


def test_useless_predictions_cost_next_to_nothing_and_good_ones_help(simulated):
    spread = {name: values.std() for name, (values, _) in simulated.items()}
    assert spread["useless"] < 1.05 * spread["mean"]
    assert spread["overfitted"] < 1.05 * spread["mean"]
    assert spread["factor"] < 0.97 * spread["mean"]
    assert spread["oracle"] < 0.6 * spread["mean"]


@pytest.mark.parametrize("n", [2, 4, 11, 20])
def test_strata_keep_the_mean_unbiased_and_its_error_honest(pool, n):
    truth, known = pool[40], calibration_of(pool[:40])
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(DRAWS):
        chosen = select("stratified", known, n, rng)
        # ties in difficulty fall at random, so each draw has its own strata
        estimator = SampleMean(SamplingDesign.of(chosen, BANK))
        found = estimator.estimate(chosen.order, truth[chosen.order])
        values.append(found.value)
        errors.append(found.standard_error)
    assert abs(np.mean(values) - truth.mean()) < 3.5 * np.std(values) / np.sqrt(DRAWS) + 0.002
    assert np.sqrt(np.mean(np.square(errors))) > 0.93 * np.std(values)


def test_strata_make_the_error_of_a_typical_model_smaller(pool):
    truth, known = pool[40], calibration_of(pool[:40])
    rng = np.random.default_rng(3)
    missed = []
    predictor = FactorItems(known)
    for _ in range(DRAWS):
        chosen = select("stratified", known, 20, rng)
        estimator = PredictionPowered(predictor, SamplingDesign.of(chosen, BANK))
        missed.append(estimator.estimate(chosen.order, truth[chosen.order]).value)
    plain, _ = drawn(SampleMean(SamplingDesign.simple(BANK)), truth)
    assert abs(np.mean(missed) - truth.mean()) < 0.012
    assert np.std(missed) < 0.93 * np.std(plain)


def test_equal_answers_are_no_proof():
    design = SamplingDesign.simple(BANK)
    found = SampleMean(design).estimate(np.arange(5), np.ones(5))
    assert found.value == 1
    assert found.standard_error > 0.1
    more = SampleMean(design).estimate(np.arange(140), np.ones(140))
    assert more.standard_error < 0.01


@given(
    st.lists(st.integers(0, 4), min_size=6, max_size=30),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_joined_strata_hold_enough_answers_and_neighbours_only(strata, n, seed):
    _, numbered = np.unique(strata, return_inverse=True)
    design = SamplingDesign(numbered)
    items = np.random.default_rng(seed).permutation(len(strata))[:n]
    joined = design.collapsed(items)
    assert np.bincount(joined[items]).min() >= 2
    assert joined.max() + 1 == len(np.bincount(joined))
    by_stratum = [joined[numbered == s] for s in range(numbered.max() + 1)]
    assert all(len(set(part.tolist())) == 1 for part in by_stratum)
    assert (np.diff([part[0] for part in by_stratum]) >= 0).all()


def test_one_item_of_many_is_refused(pool):
    simple = SamplingDesign.simple(BANK)
    predictor = EndpointItems(calibration_of(pool[:40]))
    for estimator in (SampleMean(simple), PredictionPowered(predictor, simple)):
        with pytest.raises(ConfigError, match="needs at least 2"):
            estimator.estimate(np.array([3]), np.array([1.0]))


def test_endpoints_whose_responses_mix_linearly_are_followed(pool):
    known = calibration_of(pool[:40])
    rows = pool[list(known.endpoints)]
    merged = np.clip(rows[0] * 0.8 + rows[1] * 0.3 - rows[2] * 0.1, 0, 1)
    items = np.random.default_rng(0).permutation(BANK)[:40]
    guess = EndpointItems(known).predict(items, merged[items])
    assert np.corrcoef(guess, merged)[0, 1] > 0.98


def test_without_telling_answers_a_merge_is_expected_to_do_what_its_parents_do(pool):
    known = calibration_of(pool[:40])
    average = pool[list(known.endpoints)].mean(axis=0)
    item = int(np.argmin(np.abs(average - 1)))
    guess = EndpointItems(known).predict(np.array([item]), np.array([1.0]))
    np.testing.assert_allclose(guess, average, atol=1e-9)
