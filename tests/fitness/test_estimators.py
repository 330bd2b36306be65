import numpy as np
import pytest
from estimator_pools import KINDS, calibration, calibration_of, responses

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.contract import BankMeanEstimator
from evomerge.fitness.estimators.registry import ESTIMATORS, fit_estimator
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.registry import SELECTIONS, select

EVERY = pytest.mark.parametrize("name", ESTIMATORS)
CALIBRATED = ("anchors", "irt", "p_irt", "gp_irt", "mp_irt", "gmp_irt", "ridge", "factor")
EVERY_CALIBRATED = pytest.mark.parametrize("name", CALIBRATED)


def fitted(
    name: str, known: TaskCalibration, count: int = 12, seed: int = 0
) -> tuple[BankMeanEstimator, Selection]:
    rng = np.random.default_rng(seed)
    chosen = select(ESTIMATORS[name].selection, known, count, rng)
    return fit_estimator(name, known, chosen, rng), chosen


def one_model(items: int = 40, seed: int = 9) -> np.ndarray:
    return responses(np.random.default_rng(seed), 1, items)[0]


def test_every_estimators_own_selection_exists():
    assert {entry.selection for entry in ESTIMATORS.values()} <= set(SELECTIONS)


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_within_what_is_possible_and_have_a_positive_error(name, kind):
    estimator, chosen = fitted(name, calibration(kind))
    answers = one_model()
    for n in (3, 8, 12):
        items = chosen.order[:n]
        found = estimator.estimate(items, answers[items])
        known = answers[items].sum() / 40
        if n > 6 or name in CALIBRATED:  # the mean of few answers may be impossible
            assert known - 1e-9 <= found.value <= known + 1 - n / 40 + 1e-9
        assert 0 < found.standard_error < 1


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_all_items_answered_give_the_exact_mean_without_error(name, kind):
    estimator, _ = fitted(name, calibration(kind))
    answers = one_model().round(1) * 0.7
    order = np.random.default_rng(0).permutation(40)
    found = estimator.estimate(order, answers[order])
    assert found.value == pytest.approx(answers.mean(), abs=1e-12)
    assert found.standard_error == 0
    assert not estimator.extrapolates(order, answers[order])


@EVERY
def test_equal_seeds_give_equal_estimates_and_leave_other_generators_alone(name):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    answers = one_model()
    found = []
    for _ in range(2):
        estimator, chosen = fitted(name, calibration("binary"), seed=5)
        found.append(estimator.estimate(chosen.order, answers[chosen.order]))
    assert found[0] == found[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@EVERY_CALIBRATED
def test_the_order_of_the_answers_does_not_matter(name):
    estimator, chosen = fitted(name, calibration("binary"))
    answers = one_model()
    items, turned = chosen.order[:8], chosen.order[:8][::-1]
    first = estimator.estimate(items, answers[items])
    second = estimator.estimate(turned, answers[turned])
    assert first.value == pytest.approx(second.value)
    assert first.standard_error == pytest.approx(second.standard_error)


@EVERY
@pytest.mark.parametrize(
    ("items", "answers", "told"),
    [
        ([1, 2, 2], [1, 0, 1], "twice"),
        ([1, 40], [1, 0], "within 0 and 39"),
        ([-1, 3], [1, 0], "within 0 and 39"),
        ([1, 2], [1], "as many answers"),
        ([], [], "at least one"),
        ([1, 2], [np.nan, 1], "not finite"),
    ],
)
def test_answers_that_cannot_be_are_refused(name, items, answers, told):
    estimator, _ = fitted(name, calibration("binary"))
    with pytest.raises(ValueError, match=told):
        estimator.estimate(np.array(items), np.array(answers))


@EVERY
def test_the_calibration_is_left_as_it_was(name):
    known = calibration("missing")
    before = known.matrix.values.copy()
    estimator, chosen = fitted(name, known)
    estimator.estimate(chosen.order, one_model()[chosen.order])
    np.testing.assert_array_equal(known.matrix.values, before)


@EVERY_CALIBRATED
def test_better_answers_mean_a_better_bank(name):
    estimator, chosen = fitted(name, calibration("binary", models=40))
    items = chosen.order
    worst, best = (
        estimator.estimate(items, np.full(len(items), score)).value for score in (0.0, 1.0)
    )
    assert best > worst + 0.3


@EVERY_CALIBRATED
def test_errors_shrink_with_more_items(name):
    values = responses(np.random.default_rng(2), 60, 120)
    estimator, chosen = fitted(name, calibration_of(values), count=80)
    answers = one_model(120)
    few, many = (
        estimator.estimate(chosen.order[:n], answers[chosen.order[:n]]) for n in (5, 80)
    )
    assert many.standard_error < 0.75 * few.standard_error


@pytest.mark.parametrize("name", ["factor", "ridge", "p_irt", "anchors"])
def test_errors_are_those_of_models_not_seen(name):
    values = responses(np.random.default_rng(4), 140, 150)
    estimator, chosen = fitted(name, calibration_of(values[:60]), count=15)
    items = chosen.order
    found = [estimator.estimate(items, row[items]) for row in values[60:]]
    missed = np.array([e.value for e in found]) - values[60:].mean(axis=1)
    assert found[0].standard_error == pytest.approx(np.sqrt(np.mean(missed**2)), rel=0.25)
    assert 0.88 <= np.mean(np.abs(missed) <= 1.96 * found[0].standard_error) <= 1


def test_intervals_hold_for_small_pools_too():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(50):
        values = responses(rng, 18, 80)
        estimator, chosen = fitted("factor", calibration_of(values[:8]), count=10)
        for row in values[8:]:
            found = estimator.estimate(chosen.order, row[chosen.order])
            covered.append(abs(found.value - row.mean()) <= 1.96 * found.standard_error)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_relatives_in_the_calibration_do_not_make_errors_look_small():
    rng = np.random.default_rng(6)
    parents = responses(rng, 8, 120)
    copies = np.repeat(parents, 5, axis=0)
    copies = np.where(rng.random(copies.shape) < 0.05, 1 - copies, copies)
    together = ResponseMatrix(
        tuple(str(k) for k in range(40)),
        tuple(str(k) for k in range(120)),
        copies,
        tuple(f"parent {k // 5}" for k in range(40)),
    )
    apart = ResponseMatrix(together.models, together.items, copies)
    errors = []
    for matrix in (together, apart):
        estimator, chosen = fitted("factor", TaskCalibration(matrix))
        errors.append(estimator.estimate(chosen.order, np.ones(12)).standard_error)
    assert errors[0] > 1.3 * errors[1]


@pytest.mark.parametrize("name", ["factor", "ridge", "p_irt"])
def test_other_items_than_the_selected_have_an_error_of_their_own(name):
    known = calibration("binary", models=40, items=120)
    estimator, chosen = fitted(name, known)
    answers = one_model(120)
    spread = known.matrix.values.std(axis=0)
    others = np.setdiff1d(np.arange(120), chosen.order)
    dull = others[np.argsort(spread[others])[:12]]
    own, other = (
        estimator.estimate(items, answers[items]).standard_error
        for items in (chosen.order, dull)
    )
    assert other > own


def test_more_items_than_were_selected_are_answered_too():
    estimator, chosen = fitted("factor", calibration("binary"), count=5)
    answers = one_model()
    more = np.append(chosen.order, np.setdiff1d(np.arange(40), chosen.order)[:20])
    fewer = estimator.estimate(chosen.order, answers[chosen.order])
    assert estimator.estimate(more, answers[more]).standard_error < fewer.standard_error


def test_given_items_are_kept_in_cross_validation():
    known = calibration("binary")
    given = Selection(np.array([3, 1, 4, 15, 9, 2]))
    estimator = fit_estimator("factor", known, given, np.random.default_rng(0))
    assert estimator.estimate(given.order, np.ones(6)).standard_error > 0


def test_a_model_beyond_the_calibration_is_told():
    values = np.clip(responses(np.random.default_rng(0), 30, 60), 0, 1)
    values[:, :30] = np.random.default_rng(1).random((30, 30)) < 0.3
    estimator, chosen = fitted("factor", calibration_of(values), count=20)
    inside = values[3, chosen.order]
    assert not estimator.extrapolates(chosen.order, inside)
    assert estimator.extrapolates(chosen.order, np.ones(20))


@EVERY_CALIBRATED
def test_too_few_models_are_refused_with_what_to_do(name):
    values = responses(np.random.default_rng(0), 3, 40)
    known = TaskCalibration(calibration_of(values).matrix, (0,))
    with pytest.raises(ConfigError, match="needs at least 4"):
        fitted(name, known)


@pytest.mark.parametrize("name", [n for n, e in ESTIMATORS.items() if e.needs_endpoints])
def test_estimators_of_merges_need_the_endpoints(name):
    known = TaskCalibration(calibration("binary").matrix)
    with pytest.raises(ConfigError, match="names no endpoints"):
        fitted(name, known)


@pytest.mark.parametrize("name", ["mean", "ppi", "ppi_irt", "ppi_endpoints"])
@pytest.mark.parametrize("method", ["c_optimal", None])
def test_estimators_of_random_samples_refuse_chosen_items(name, method):
    chosen = Selection(np.arange(9), method=method)
    with pytest.raises(ConfigError, match="no random sample"):
        fit_estimator(name, calibration("binary"), chosen, np.random.default_rng(0))


def test_anchors_refuse_items_without_places():
    chosen = Selection(np.arange(9), method="random")
    with pytest.raises(ConfigError, match="gives items no weights"):
        fit_estimator("anchors", calibration("binary"), chosen, np.random.default_rng(0))


def test_an_unknown_estimator_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="did you mean 'factor'"):
        fit_estimator(
            "factors", calibration("binary"), Selection(np.arange(3)), np.random.default_rng(0)
        )


def test_an_item_that_only_held_out_models_answered_does_no_harm():
    values = responses(np.random.default_rng(0), 12, 30)
    values[1:, 7] = np.nan
    values[0, 3] = np.nan
    for name in ("factor", "ridge", "gp_irt"):
        estimator, chosen = fitted(name, calibration_of(values))
        found = estimator.estimate(chosen.order, np.ones(12))
        assert 0 < found.standard_error < 1
