import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.fitness.response_models.factor_model import (
    FactorModel,
    FactorSettings,
    complete_responses,
)
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.response_models.ridge import ForwardRidge, fit_ridge


def pool(rng: np.random.Generator, models: int, items: int) -> np.ndarray:
    ability = rng.normal(size=(models, 2))
    logits = ability @ rng.normal(0.5, 0.7, size=(2, items)) - rng.normal(size=items)
    return (rng.random((models, items)) < 1 / (1 + np.exp(-logits))).astype(float)


SHAPES = st.tuples(st.integers(4, 12), st.integers(5, 15), st.integers(0, 2**32 - 1))


@given(SHAPES, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_factor_weights_are_the_conditional_mean_of_a_brute_force_gaussian(shape, count):
    models, items, seed = shape
    rng = np.random.default_rng(seed)
    model = FactorModel.fit(pool(rng, models, items))
    chosen = rng.choice(items, count, replace=False)
    covariance = model.loadings.T @ model.loadings + np.diag(model.noise)
    mean_of_bank = np.full(items, 1 / items)
    with_bank = covariance @ mean_of_bank
    seen = covariance[np.ix_(chosen, chosen)]
    expected = np.linalg.solve(seen, with_bank[chosen])
    weights, intercept = model.weights(chosen)
    np.testing.assert_allclose(weights, expected, atol=1e-8)
    assert intercept == pytest.approx(model.bank_mean - expected @ model.mean[chosen])
    assert model.bank_variance == pytest.approx(mean_of_bank @ with_bank)
    left = mean_of_bank @ with_bank - with_bank[chosen] @ expected
    assert model.posterior_variance(chosen) == pytest.approx(left, abs=1e-10)


@given(SHAPES)
@settings(max_examples=25, deadline=None)
def test_each_selected_item_leaves_the_least_posterior_variance(shape):
    models, items, seed = shape
    model = FactorModel.fit(pool(np.random.default_rng(seed), models, items))
    order = model.select(4)
    for step in range(4):
        known = order[:step]
        others = [i for i in range(items) if i not in known]
        left = [model.posterior_variance(np.append(known, i).astype(int)) for i in others]
        reached = model.posterior_variance(order[: step + 1])
        assert reached <= min(left) + 1e-10


def test_all_items_answered_leave_no_doubt_and_give_the_mean(rng):
    model = FactorModel.fit(pool(rng, 10, 12))
    weights, intercept = model.weights(np.arange(12))
    np.testing.assert_allclose(weights, 1 / 12, atol=1e-8)
    assert intercept == pytest.approx(0, abs=1e-8)
    assert model.posterior_variance(np.arange(12)) == pytest.approx(0, abs=1e-10)


def test_item_means_are_the_conditional_means_of_unanswered_items(rng):
    model = FactorModel.fit(pool(rng, 12, 9))
    chosen, answers = np.array([1, 4, 6]), np.array([1.0, 0.0, 1.0])
    covariance = model.loadings.T @ model.loadings
    seen = covariance[np.ix_(chosen, chosen)] + np.diag(model.noise[chosen])
    expected = model.mean + covariance[:, chosen] @ np.linalg.solve(
        seen, answers - model.mean[chosen]
    )
    np.testing.assert_allclose(model.item_means(chosen, answers), expected)


def test_without_shrinkage_the_model_has_the_pools_covariance(rng):
    values = pool(rng, 8, 20)
    values = values[:, values.std(axis=0) > 0]
    model = FactorModel.fit(values, FactorSettings(one_factor=0, noise=0, trust=1, rank=99))
    np.testing.assert_allclose(
        model.loadings.T @ model.loadings, np.cov(values.T, bias=True), atol=1e-10
    )
    assert model.bank_mean == pytest.approx(values.mean())


def test_a_model_of_more_models_than_items_has_the_pools_covariance_too(rng):
    values = pool(rng, 40, 6)
    model = FactorModel.fit(values, FactorSettings(one_factor=0, noise=0, trust=1, rank=99))
    np.testing.assert_allclose(
        model.loadings.T @ model.loadings, np.cov(values.T, bias=True), atol=1e-10
    )


def test_completion_keeps_answers_and_beats_the_item_mean(rng):
    ability = rng.normal(size=(60, 2))
    truth = 1 / (1 + np.exp(-ability @ rng.normal(size=(2, 80)) * 2)).round(1)
    hidden = rng.random(truth.shape) < 0.3
    values = np.where(hidden, np.nan, truth)
    filled = complete_responses(values)
    np.testing.assert_array_equal(filled[~hidden], truth[~hidden])
    assert filled.min() >= 0
    assert filled.max() <= 1
    by_item = np.broadcast_to(np.nanmean(values, axis=0), truth.shape)
    error, plain = (np.mean((guess - truth)[hidden] ** 2) for guess in (filled, by_item))
    assert error < 0.5 * plain
    assert np.isnan(values[hidden]).all()


def refitted_residual(chosen, means, fold, penalty):
    """Of a fold, by an explicit ridge fit with a free intercept on the other rows."""
    rest = np.setdiff1d(np.arange(len(chosen)), fold)
    target = means - chosen.mean(axis=1)
    design = np.column_stack([chosen, np.full(len(chosen), 100.0)])
    gram = design[rest].T @ design[rest] + penalty * np.eye(design.shape[1])
    coefficients = np.linalg.solve(gram, design[rest].T @ target[rest])
    return target[fold] - design[fold] @ coefficients


@given(SHAPES, st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=30, deadline=None)
def test_left_out_residuals_are_those_of_refitting(shape, penalty):
    models, items, seed = shape
    rng = np.random.default_rng(seed)
    chosen, means = rng.random((models, items)), rng.random(models)
    folds = family_folds([str(k // 2) for k in range(models)], 3)
    fit = fit_ridge(chosen, means, folds, (penalty,))
    for fold in folds:
        np.testing.assert_allclose(
            fit.residuals[fold], refitted_residual(chosen, means, fold, penalty), atol=1e-6
        )


@given(SHAPES)
@settings(max_examples=20, deadline=None)
def test_forward_selections_error_is_that_of_refitting_with_the_item(shape):
    models, items, seed = shape
    rng = np.random.default_rng(seed)
    values = rng.random((models, items))
    means = values.mean(axis=1)
    folds = family_folds([str(k) for k in range(models)], 3)
    forward = ForwardRidge(values, means, folds, 1.0)
    chosen: list[int] = []
    for _ in range(3):
        errors = forward.errors()
        for item in range(items):
            if item in chosen:
                assert errors[item] == np.inf
                continue
            fit = fit_ridge(values[:, [*chosen, item]], means, folds, (1.0,))
            assert errors[item] == pytest.approx((fit.residuals**2).sum(), rel=1e-5, abs=1e-9)
        chosen.append(int(np.argmin(errors)))
        forward.choose(chosen[-1])


def test_a_ridge_on_all_items_is_the_mean(rng):
    values = pool(rng, 15, 10)
    fit = fit_ridge(values, values.mean(axis=1), family_folds([*map(str, range(15))], 5))
    np.testing.assert_allclose(fit.weights, 0.1, atol=1e-6)
    assert fit.intercept == pytest.approx(0, abs=1e-6)


@given(st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=30), st.integers(2, 6))
def test_folds_hold_whole_families_and_every_row_once(families, count):
    folds = family_folds(families, count)
    assert len(folds) <= count
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(len(families)))
    if len(set(families)) > 1:
        for family in set(families):
            assert sum(any(families[row] == family for row in fold) for fold in folds) == 1


def test_a_single_family_is_held_out_row_by_row():
    assert len(family_folds(["same"] * 6, 3)) == 3


@pytest.fixture
def rng():
    return np.random.default_rng(5)
