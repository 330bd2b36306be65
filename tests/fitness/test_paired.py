import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses
from evomerge.fitness.paired import bootstrap_objectives, paired_bootstrap, percentiles


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_value_is_the_weighted_difference_of_means():
    a, b = {"x": [1, 1, 0, 1], "y": [0, 2]}, {"x": [0, 1, 0, 0], "y": [1, 0]}
    interval = paired_bootstrap(a, b, rng(), weights={"x": 0.8, "y": 0.2})
    assert interval.value == pytest.approx(0.8 * 0.5 + 0.2 * 0.5)
    assert interval.low <= interval.value <= interval.high
    assert paired_bootstrap(a, b, rng()).value == pytest.approx(0.5)


def test_a_constant_difference_has_no_width_since_items_are_paired():
    b = rng(1).normal(size=200)
    interval = paired_bootstrap({"x": b + 0.25}, {"x": b}, rng())
    assert (interval.low, interval.high) == pytest.approx((0.25, 0.25))


def test_a_model_against_itself_differs_by_nothing():
    b = rng(1).normal(size=50)
    interval = paired_bootstrap({"x": b}, {"x": b}, rng())
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draws = rng(5)
    covered = 0
    for _ in range(300):
        b = draws.normal(size=40)
        a = b + 0.3 + draws.normal(size=40)
        interval = paired_bootstrap({"x": a}, {"x": b}, draws, resamples=400, level=0.9)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.84 <= covered / 300 <= 0.95


def test_the_width_is_that_of_the_standard_error():
    b = rng(2).normal(size=400)
    a = b + rng(3).normal(size=400)
    interval = paired_bootstrap({"x": a}, {"x": b}, rng(), resamples=4000)
    width = 2 * 1.96 * (a - b).std() / 20
    assert interval.high - interval.low == pytest.approx(width, rel=0.06)


def test_resampling_in_blocks_changes_nothing_about_the_distribution(monkeypatch):
    monkeypatch.setattr("evomerge.fitness.paired._DRAWS_AT_ONCE", 100)
    a = rng(4).normal(size=30)
    interval = paired_bootstrap({"x": a}, {"x": np.zeros(30)}, rng(), resamples=3000)
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * a.std() / np.sqrt(30), rel=0.08
    )


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"x": [1]}, {"y": [1]}, "must name the same tasks"),
        ({}, {}, "at least one"),
        ({"x": [1, 2]}, {"x": [1]}, "2 and 1 item values"),
    ],
    ids=["other tasks", "no task", "other items"],
)
def test_samples_that_do_not_pair_are_refused(a, b, message):
    with pytest.raises(ConfigError, match=message):
        paired_bootstrap(a, b, rng())


def trial(seed: int, items: tuple[int, ...] = tuple(range(25))) -> dict:
    draws = rng(seed)
    return {
        task: ItemResponses(
            items,
            {
                "accuracy": tuple(draws.integers(0, 2, len(items)).astype(float)),
                "margin": tuple(draws.normal(size=len(items))),
            },
        )
        for task in ("x", "y")
    }


OBJECTIVES = [
    Objective("accuracy", {"x": 1.0}),
    Objective("margin", {"x": 0.5, "y": 0.5}, "minimize"),
]


def test_replicates_have_a_row_a_trial_and_a_column_an_objective_around_the_means():
    trials = [trial(s) for s in range(6)]
    replicates = bootstrap_objectives(trials, OBJECTIVES, rng(), resamples=3000)
    assert replicates.shape == (3000, 6, 2)
    for k, one in enumerate(trials):
        accuracy = np.mean(one["x"].values["accuracy"])
        margin = (np.mean(one["x"].values["margin"]) + np.mean(one["y"].values["margin"])) / 2
        assert replicates[:, k].mean(axis=0) == pytest.approx((accuracy, margin), abs=0.02)


def test_all_trials_get_the_same_items_in_a_resample():
    replicates = bootstrap_objectives([trial(1), trial(2), trial(1)], OBJECTIVES, rng())
    assert np.array_equal(replicates[:, 0], replicates[:, 2])
    assert not np.array_equal(replicates[:, 0], replicates[:, 1])


def test_objectives_of_one_task_share_its_resampled_items():
    twice = [OBJECTIVES[0], Objective("accuracy", {"x": 1.0})]
    replicates = bootstrap_objectives([trial(1)], twice, rng())
    assert np.array_equal(replicates[..., 0], replicates[..., 1])


def test_trials_that_answered_other_items_are_refused():
    with pytest.raises(ConfigError, match="trial 1 of 2 answered other items"):
        bootstrap_objectives([trial(1), trial(2, tuple(range(1, 26)))], OBJECTIVES, rng())


def test_percentiles_bound_the_middle_share():
    bounds = percentiles(np.arange(101.0)[:, None] * [1, 2], 0.9)
    assert bounds == pytest.approx(np.array([[5, 10], [95, 190]]))
