import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.answer_blocks import AnswerBlocks, Nodes
from evomerge.fitness.irt.fit import FitSettings, fit_1pl, fit_2pl
from evomerge.fitness.irt.item_prior import ItemPrior
from evomerge.fitness.irt.model import ItemParameters


def pool(models, items, dims=1, seed=0, slope=None):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(models, dims))
    theta = (theta - theta.mean(axis=0)) @ np.linalg.inv(
        np.linalg.cholesky(np.cov(theta.T, bias=True).reshape(dims, dims))
    ).T
    slopes = (
        rng.uniform(0.6, 2.0, size=(items, dims))
        if dims == 1
        else rng.normal(0.6, 0.9, size=(items, dims))
    )
    if slope is not None:
        slopes[:] = slope
    truth = ItemParameters(slopes, rng.normal(scale=1.2, size=items))
    p = truth.probabilities(theta)
    return truth, theta, (rng.random(p.shape) < p).astype(float)


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_two_parameters_and_abilities_are_recovered():
    truth, theta, answers = pool(600, 150)
    fit = fit_2pl(answers)
    assert fit.converged
    assert correlation(fit.parameters.discrimination, truth.discrimination) > 0.93
    assert fit.parameters.discrimination.mean() == pytest.approx(
        truth.discrimination.mean(), rel=0.05
    )
    assert np.abs(fit.parameters.difficulty - truth.difficulty).mean() < 0.12
    assert correlation(fit.abilities.theta, theta) > 0.98
    z = (fit.abilities.theta - theta) / fit.abilities.standard_error
    assert z.std() == pytest.approx(1.0, abs=0.12)


def test_one_slope_for_all_items_is_recovered():
    truth, theta, answers = pool(600, 60, slope=1.4)
    fit = fit_1pl(answers)
    assert np.ptp(fit.parameters.discrimination) == 0
    assert fit.parameters.discrimination[0, 0] == pytest.approx(1.4, rel=0.06)
    assert np.abs(fit.parameters.difficulty - truth.difficulty).mean() < 0.12
    assert correlation(fit.abilities.theta, theta) > 0.95


def test_two_dimensions_are_recovered_up_to_a_rotation():
    truth, theta, answers = pool(400, 300, dims=2)
    fit = fit_2pl(answers, 2)
    left, _, right = np.linalg.svd(fit.abilities.theta.T @ theta)
    turn = left @ right
    assert correlation(fit.abilities.theta @ turn, theta) > 0.97
    assert correlation(fit.parameters.discrimination @ turn, truth.discrimination) > 0.96
    assert correlation(fit.parameters.difficulty, truth.difficulty) > 0.98


def test_five_dimensions_predict_better_than_one_where_there_are_five():
    truth, theta, answers = pool(300, 400, dims=5)
    p = truth.probabilities(theta)
    errors = []
    for dims in (1, 5):
        fit = fit_2pl(answers, dims)
        errors.append(np.abs(fit.parameters.probabilities(fit.abilities.theta) - p).mean())
    assert errors[1] < 0.4 * errors[0]


def test_dimensions_come_in_order_of_their_share_with_positive_slopes():
    _, _, answers = pool(200, 200, dims=3)
    fit = fit_2pl(answers, 3)
    slopes = fit.parameters.discrimination
    products = slopes.T @ slopes
    shares = np.diagonal(products)
    assert (np.diff(shares) <= 0).all()
    assert (slopes.sum(axis=0) >= 0).all()
    np.testing.assert_allclose(products - np.diag(shares), 0, atol=1e-8 * shares[0])


def test_the_pool_has_mean_0_and_about_unit_spread():
    _, _, answers = pool(300, 200, dims=2)
    abilities = fit_2pl(answers, 2).abilities
    np.testing.assert_allclose(abilities.theta.mean(axis=0), 0, atol=0.05)
    spread = np.cov(abilities.theta.T, bias=True) + abilities.covariance.mean(axis=0)
    np.testing.assert_allclose(spread, np.eye(2), atol=0.1)


def test_fitting_twice_gives_the_same_bits_and_leaves_global_generators_alone():
    _, _, answers = pool(60, 80, dims=2)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = fit_2pl(answers, 2), fit_2pl(answers, 2)
    np.testing.assert_array_equal(
        first.parameters.discrimination, second.parameters.discrimination
    )
    np.testing.assert_array_equal(first.abilities.theta, second.abilities.theta)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_two_threads_give_the_bits_of_one():
    _, _, answers = pool(100, 6000)
    one, two = (fit_2pl(answers, 1, FitSettings(threads=n)) for n in (1, 2))
    np.testing.assert_array_equal(one.parameters.difficulty, two.parameters.difficulty)
    np.testing.assert_array_equal(one.abilities.theta, two.abilities.theta)


def test_the_order_of_models_does_not_matter():
    _, _, answers = pool(80, 60)
    order = np.random.default_rng(1).permutation(80)
    settings = FitSettings(tolerance=1e-6)
    fit, mixed = fit_2pl(answers, 1, settings), fit_2pl(answers[order], 1, settings)
    np.testing.assert_allclose(mixed.abilities.theta, fit.abilities.theta[order], atol=1e-3)
    np.testing.assert_allclose(
        mixed.parameters.difficulty, fit.parameters.difficulty, atol=1e-3
    )


def test_missing_answers_are_left_out_rather_than_counted_as_wrong():
    truth, theta, answers = pool(500, 120)
    rng = np.random.default_rng(1)
    answers[rng.random(answers.shape) < 0.4] = np.nan
    fit = fit_2pl(answers)
    assert correlation(fit.abilities.theta, theta) > 0.97
    assert (fit.parameters.difficulty - truth.difficulty).mean() == pytest.approx(0, abs=0.06)
    assert correlation(fit.parameters.difficulty, truth.difficulty) > 0.98


def test_items_that_only_strong_models_answered_are_not_taken_for_easy():
    truth, theta, answers = pool(600, 120)
    weak = theta[:, 0] < 0
    answers[np.ix_(weak, np.arange(60))] = np.nan
    fit = fit_2pl(answers)
    bias = fit.parameters.difficulty[:60] - truth.difficulty[:60]
    assert abs(bias.mean()) < 0.15
    naive = -np.log(np.nanmean(answers, axis=0)[:60] / (1 - np.nanmean(answers, axis=0)[:60]))
    assert abs((naive - truth.difficulty[:60]).mean()) > 0.5


def test_graded_answers_give_the_items_that_their_means_follow():
    truth, theta, _ = pool(150, 100)
    rng = np.random.default_rng(2)
    graded = rng.binomial(10, truth.probabilities(theta)) / 10
    fit = fit_2pl(graded)
    assert correlation(fit.parameters.discrimination, truth.discrimination) > 0.95
    assert correlation(fit.parameters.difficulty, truth.difficulty) > 0.99
    assert correlation(fit.abilities.theta, theta) > 0.99


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("models", [8, 12])
def test_few_models_give_sane_items(models, dims):
    truth, theta, answers = pool(models, 300)
    fit = fit_2pl(answers, dims)
    assert fit.converged
    assert np.abs(fit.parameters.discrimination).max() < 6
    assert np.abs(fit.parameters.difficulty).max() < 10
    p = truth.probabilities(theta)
    shrunk = np.abs(fit.parameters.probabilities(fit.abilities.theta) - p).mean()
    assert shrunk < 0.8 * np.abs(answers.mean(axis=0) - p).mean()


def test_items_all_right_or_all_wrong_are_finite_and_extreme():
    _, _, answers = pool(100, 50)
    answers[:, 0], answers[:, 1] = 1.0, 0.0
    difficulty = fit_2pl(answers).parameters.difficulty
    assert difficulty[0] == difficulty.min()
    assert difficulty[1] == difficulty.max()
    assert np.abs(difficulty).max() < 10


def test_models_that_are_perfectly_ordered_give_finite_items():
    steps = (np.arange(60)[:, None] > np.linspace(0, 60, 400)[None]).astype(float)
    fit = fit_2pl(steps)
    assert np.isfinite(fit.parameters.discrimination).all()
    assert 3 < np.abs(fit.parameters.discrimination).max() < 10
    assert spearmanr(fit.abilities.theta[:, 0], np.arange(60)).statistic > 0.99


def test_models_that_answer_alike_give_finite_items():
    rng = np.random.default_rng(0)
    clump = np.tile(rng.integers(0, 2, 200), (15, 1))
    others = pool(30, 200)[2]
    fit = fit_2pl(np.concatenate([clump, others]).astype(float), 2)
    assert np.abs(fit.parameters.discrimination).max() < 6
    assert np.isfinite(fit.abilities.theta).all()


def pools_that_say_little():
    rng = np.random.default_rng(0)
    holes = np.where(rng.random((30, 40)) < 0.9, np.nan, 1.0 * (rng.random((30, 40)) < 0.5))
    holes[:, 0] = holes[0] = 1.0
    return {
        "identical models": np.tile(rng.integers(0, 2, 40).astype(float), (10, 1)),
        "everything right": np.ones((10, 40)),
        "everything wrong": np.zeros((6, 9)),
        "three models": np.array([[1.0, 0, 1], [0, 1, 1], [1, 0, 0]]),
        "mostly missing": holes,
        "always half right": np.full((5, 6), 0.5),
        "more models than answers tell": 1.0 * (rng.random((500, 3)) < 0.5),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values", pools_that_say_little().values(), ids=pools_that_say_little()
)
def test_pools_that_say_little_give_finite_items_without_a_warning(values):
    for fit in (fit_1pl(values), fit_2pl(values, 1), fit_2pl(values, 2)):
        assert np.abs(fit.parameters.discrimination).max() < 6
        assert np.abs(fit.parameters.difficulty).max() < 10
        assert np.isfinite(fit.abilities.theta).all()
        assert np.isfinite(fit.abilities.standard_error).all()
        overall = fit.parameters.probabilities(fit.abilities.theta).mean()
        assert overall == pytest.approx(np.nanmean(values), abs=0.1)


def test_the_items_prior_is_their_scatter_plus_their_uncertainty():
    rng = np.random.default_rng(0)
    truth = np.array([[0.6, 0.2], [0.2, 1.5]])
    noise = np.array([[0.3, -0.1], [-0.1, 0.4]])
    items = rng.multivariate_normal([1.0, -0.5], truth, size=20_000)
    # posterior means shrink towards the prior mean; their covariances make up for it
    gain = truth @ np.linalg.inv(truth + noise)
    seen = items + rng.multivariate_normal([0, 0], noise, size=len(items))
    means = (seen - [1.0, -0.5]) @ gain.T + [1.0, -0.5]
    covariances = np.tile(truth - gain @ truth, (len(items), 1, 1))
    prior = ItemPrior.empirical(means, covariances, models=100_000)
    np.testing.assert_allclose(prior.mean, [1.0, -0.5], atol=0.05)
    np.testing.assert_allclose(prior.covariance, truth, atol=0.05)


def test_an_item_prior_of_other_dimensions_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="3 coefficients, not 2"):
        fit_2pl(np.eye(4), 1, FitSettings(prior=ItemPrior.flat(2)))


def test_items_that_strong_models_fail_have_negative_slopes():
    truth, _, _ = pool(10, 60)
    slopes = truth.discrimination.copy()
    slopes[:4] *= -1
    turned = ItemParameters(slopes, truth.difficulty)
    theta = np.random.default_rng(4).normal(size=(500, 1))
    p = turned.probabilities(theta)
    answers = (np.random.default_rng(5).random(p.shape) < p).astype(float)
    found = fit_2pl(answers).parameters.discrimination[:, 0]
    assert (found[:4] < 0).all()
    assert (found[4:] > 0).all()


def test_shrinking_beats_a_flat_prior_where_models_are_few():
    truth, theta, answers = pool(40, 300)
    p = truth.probabilities(theta)
    errors = []
    for prior in (None, ItemPrior.flat(1)):
        fit = fit_2pl(answers, 1, FitSettings(prior=prior))
        errors.append(np.abs(fit.parameters.probabilities(fit.abilities.theta) - p).mean())
    assert errors[0] < 0.95 * errors[1]


@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_derivatives_are_those_of_the_log_likelihood(dims, nodes, missing, seed):
    rng = np.random.default_rng(seed)
    answers = rng.random((4, 5))
    if missing:
        answers[0, 1] = answers[3, 2] = np.nan
    blocks = AnswerBlocks(answers, nodes, 1)
    points = rng.normal(size=(4, nodes, dims))
    weights = rng.dirichlet(np.ones(nodes), size=4)
    beta = rng.normal(size=(5, dims + 1))

    def value(coefficients, at=points):
        return float((weights * blocks.log_likelihoods(coefficients, at)).sum())

    gradient, hessian = blocks.item_derivatives(beta, Nodes(points, weights))
    step = 1e-5
    for item in range(5):
        for k in range(dims + 1):
            up, down = beta.copy(), beta.copy()
            up[item, k] += step
            down[item, k] -= step
            slope = (value(up) - value(down)) / (2 * step)
            assert gradient[item, k] == pytest.approx(slope, abs=1e-6)
            bent = [blocks.item_derivatives(b, Nodes(points, weights))[0] for b in (up, down)]
            curvature = (bent[0] - bent[1])[item] / (2 * step)
            np.testing.assert_allclose(hessian[item, k], -curvature, atol=1e-6)

    theta = points[:, 0]
    gradient, hessian = blocks.ability_derivatives(beta, theta)
    for k in range(dims):
        move = np.zeros(dims)
        move[k] = step
        ups, downs = (
            blocks.log_likelihoods(beta, (theta + sign * move)[:, None])[:, 0]
            for sign in (1, -1)
        )
        np.testing.assert_allclose(gradient[:, k], (ups - downs) / (2 * step), atol=1e-6)
        up, down = (blocks.ability_derivatives(beta, theta + s * move)[0] for s in (1, -1))
        np.testing.assert_allclose(hessian[:, k], -(up - down) / (2 * step), atol=1e-6)


def test_single_precision_of_large_pools_agrees_with_double():
    truth, theta, answers = pool(150, 3000, dims=2)
    answers[0, :7] = np.nan
    beta = np.column_stack([truth.discrimination, truth.difficulty])
    nodes = Nodes(theta[:, None], np.ones((150, 1)))
    double, single = AnswerBlocks(answers, 1, 1), AnswerBlocks(answers, 1000, 1)
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    for blocks in zip(
        (*double.item_derivatives(beta, nodes), *double.ability_derivatives(beta, theta)),
        (*single.item_derivatives(beta, nodes), *single.ability_derivatives(beta, theta)),
        strict=True,
    ):
        np.testing.assert_allclose(blocks[1], blocks[0], rtol=1e-4, atol=1e-2)
    likelihoods = [b.log_likelihoods(beta, theta[:, None]) for b in (double, single)]
    np.testing.assert_allclose(likelihoods[1], likelihoods[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "dims", "said"),
    [
        (np.zeros((3, 9)), 3, "at least 4 models"),
        (np.zeros((9, 9)), 0, "dims must be at least 1"),
        (np.full((9, 9), 2.0), 1, "within 0 and 1"),
        (np.where(np.arange(9) == 4, np.nan, np.zeros((9, 9))), 1, "no answer"),
        (np.zeros(9), 1, "shape"),
    ],
    ids=["few models", "no dimension", "values", "empty item", "no matrix"],
)
def test_answers_that_cannot_be_fitted_are_refused(values, dims, said):
    with pytest.raises(ConfigError, match=said):
        fit_2pl(values, dims)
