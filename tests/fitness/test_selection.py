import numpy as np
import pytest
from estimator_pools import KINDS, calibration, calibration_of, responses

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.anchors import anchor_weights
from evomerge.fitness.selection.k_means import k_means, squared_distances
from evomerge.fitness.selection.registry import SELECTIONS, select

EVERY = pytest.mark.parametrize("name", SELECTIONS)
ANCHORS = ("anchors_irt", "anchors_responses")


@EVERY
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7, 40])
def test_a_selection_names_distinct_items_of_the_bank(name, kind, count):
    found = select(name, calibration(kind), count, np.random.default_rng(1))
    assert found.order.shape == (count,)
    assert len(set(found.order.tolist())) == count
    assert set(found.order.tolist()) <= set(range(40))
    assert found.method == name
    if found.weights is not None:
        assert found.weights.shape == (count,)
        assert found.weights.min() >= 0
        assert found.weights.sum() == pytest.approx(1)


@EVERY
def test_equal_seeds_give_equal_selections_and_leave_other_generators_alone(name):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (
        select(name, calibration("binary"), 9, np.random.default_rng(2)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("name", [n for n in SELECTIONS if n not in ANCHORS])
def test_a_shorter_selection_is_a_prefix_of_a_longer_one(name):
    short, long = (
        select(name, calibration("binary"), n, np.random.default_rng(2)) for n in (6, 20)
    )
    np.testing.assert_array_equal(short.order, long.order[:6])


@EVERY
def test_the_calibration_is_left_as_it_was(name):
    known = calibration("missing")
    before = known.matrix.values.copy()
    select(name, known, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(known.matrix.values, before)


def test_an_unknown_method_and_too_many_items_are_told_together():
    with pytest.raises(ConfigError) as told:
        select("c_optimum", calibration("binary"), 41, np.random.default_rng(0))
    assert "did you mean 'c_optimal'" in str(told.value)
    assert "has 40, so choose 1 to 40" in str(told.value)


def test_strata_differ_in_difficulty_and_every_prefix_holds_their_shares():
    known = calibration("binary", items=103)
    found = select("stratified", known, 103, np.random.default_rng(4))
    means = known.matrix.values.mean(axis=0)
    for stratum in range(4):
        assert means[found.strata == stratum].max() <= means[found.strata == stratum + 1].min()
    shares = np.bincount(found.strata) / 103
    for n in (5, 20, 50, 90):
        held = np.bincount(found.strata[found.order[:n]], minlength=5)
        assert np.abs(held - n * shares).max() <= 1.5


def test_every_item_is_equally_likely_to_be_among_the_first_of_a_stratified_sample():
    known = calibration("binary", items=30)
    rng = np.random.default_rng(0)
    counts = np.zeros(30)
    for _ in range(3000):
        counts[select("stratified", known, 10, rng).order] += 1
    assert np.abs(counts / 3000 - 1 / 3).max() < 0.045


def test_k_means_finds_separate_clusters():
    rng = np.random.default_rng(0)
    middles = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = (middles[:, None] + rng.normal(size=(3, 30, 2))).reshape(-1, 2)
    centres, nearest = k_means(points, 3, rng)
    assert sorted(np.bincount(nearest).tolist()) == [30, 30, 30]
    assert squared_distances(middles, centres).min(axis=1).max() < 0.3
    np.testing.assert_array_equal(nearest, squared_distances(points, centres).argmin(axis=1))


def test_k_means_of_coinciding_points_finds_one_cluster_for_each():
    points = np.repeat([[1.0], [2.0]], 5, axis=0)
    centres, _ = k_means(points, 4, np.random.default_rng(0))
    assert sorted(centres.ravel().tolist()) == [1.0, 2.0]


def test_anchors_stand_for_the_items_that_the_same_models_solve():
    rng = np.random.default_rng(0)
    groups = (rng.random((30, 4)) < 0.5).astype(float)
    owner = np.repeat([0, 1, 2, 3], [10, 20, 30, 40])
    values = groups[:, owner]
    found = select("anchors_responses", calibration_of(values), 4, rng)
    assert sorted(owner[found.order].tolist()) == [0, 1, 2, 3]
    by_owner = dict(zip(owner[found.order].tolist(), found.weights.tolist(), strict=True))
    assert by_owner == pytest.approx({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})


def test_coinciding_anchors_share_their_weight():
    embedding = np.array([[0.0], [0.0], [0.1], [5.0]])
    weights = anchor_weights(embedding, np.array([0, 1, 3]))
    assert weights == pytest.approx([0.375, 0.375, 0.25])


def fitted(values: np.ndarray) -> tuple[ItemParameters, np.ndarray]:
    fit = fit_items(values)
    p = fit.parameters.probabilities(fit.abilities.theta)
    return fit.parameters, (p * (1 - p)).mean(axis=0)


def test_maximum_information_prefers_the_items_that_tell_most():
    known = calibration("binary")
    parameters, variances = fitted(known.matrix.values)
    told = (parameters.discrimination**2).sum(axis=1) * variances
    found = select("max_information", known, 40, np.random.default_rng(0))
    assert (np.diff(told[found.order]) <= 1e-12).all()


def test_each_d_optimal_item_raises_the_determinant_the_most():
    known = calibration("binary")
    parameters, variances = fitted(known.matrix.values)
    order = select("d_optimal", known, 6, np.random.default_rng(0)).order

    def determinant(items) -> float:
        rows = parameters.discrimination[items]
        return float(np.linalg.det(np.eye(2) + (rows * variances[items, None]).T @ rows))

    for step in range(6):
        chosen = order[:step].tolist()
        others = [i for i in range(40) if i not in chosen]
        best = max(determinant([*chosen, i]) for i in others)
        assert determinant(order[: step + 1]) == pytest.approx(best)


def test_greedy_chooses_from_a_large_bank_too():
    values = responses(np.random.default_rng(0), 6, 10_050)
    order = select("greedy", calibration_of(values), 3, np.random.default_rng(0)).order
    means = values.mean(axis=1)
    assert np.corrcoef(values[:, order].mean(axis=1), means)[0, 1] > 0.8


@pytest.mark.parametrize("name", ["c_optimal", "greedy"])
def test_chosen_items_say_more_of_the_bank_mean_than_random_ones(name):
    values = responses(np.random.default_rng(3), 80, 200)
    known = calibration_of(values[:60])
    order = select(name, known, 10, np.random.default_rng(0)).order
    truth = values[60:].mean(axis=1)
    rng = np.random.default_rng(1)
    by_chance = [
        np.corrcoef(values[60:, rng.choice(200, 10, replace=False)].mean(axis=1), truth)[0, 1]
        for _ in range(50)
    ]
    assert np.corrcoef(values[60:, order].mean(axis=1), truth)[0, 1] > np.mean(by_chance)
