"""Smoothing over genomes, and the finalists that it chooses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.core.objectives import Estimate, Objective
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.search.finalists import best, finalists
from evomerge.search.smoothing import smoothed
from evomerge.spaces.genes import FloatGene
from evomerge.store.trials import Trial

GENES = (FloatGene("x", 0.0, 1.0), FloatGene("y", 0.0, 1.0))
RECIPE = Recipe((Source("a", "/a", "f"),), (Rule("passthrough", {"a": {}}),))


def trial(number: int, point, values, error: float) -> Trial:
    return Trial(
        number=number,
        kind="candidate",
        name=f"candidate {number}",
        recipe=replace(RECIPE, seed=number),
        status="complete",
        genome={"x": float(point[0]), "y": float(point[1])},
        estimates=tuple(Estimate(float(v), error) for v in values),
    )


def hill(points: np.ndarray) -> np.ndarray:
    return np.exp(-8 * ((points - 0.6) ** 2).sum(axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_noise_that_neighbours_contradict_is_taken_out(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((120, 2))
    truth = hill(points)
    noisy = truth + rng.normal(0, 0.15, 120)
    made = smoothed(points, noisy, np.full(120, 0.15))
    assert np.abs(made - truth).mean() < 0.6 * np.abs(noisy - truth).mean()


def test_values_without_error_stay_as_they_are():
    rng = np.random.default_rng(0)
    points = rng.random((40, 2))
    values = hill(points)
    assert smoothed(points, values, np.zeros(40)) == pytest.approx(values, abs=2e-3)


@pytest.mark.parametrize("values", [np.full(20, 0.5), np.arange(4.0)])
def test_too_few_or_equal_values_are_left_alone(values):
    points = np.random.default_rng(0).random((len(values), 2))
    assert (smoothed(points, values, np.full(len(values), 0.1)) == values).all()


def test_a_lucky_candidate_among_poor_neighbours_is_no_finalist():
    rng = np.random.default_rng(1)
    points = rng.random((100, 2))
    values = hill(points) + rng.normal(0, 0.03, 100)
    poor = int(np.argmin(hill(points)))
    values[poor] = 1.2  # the best value of all, by luck
    trials = [
        trial(k, p, [v], 0.3) for k, (p, v) in enumerate(zip(points, values, strict=True))
    ]
    chosen = finalists(trials, [Objective("accuracy", {"t": 1.0})], GENES, 5)
    assert poor not in chosen
    assert hill(points)[chosen].mean() > 0.8


def test_exact_scores_choose_the_front_first():
    rng = np.random.default_rng(2)
    points = rng.random((60, 2))
    values = np.stack([points[:, 0], 1 - points[:, 0] ** 2 - points[:, 1]], axis=1)
    trials = [trial(k, p, v, 0.0) for k, (p, v) in enumerate(zip(points, values, strict=True))]
    goals = [Objective("accuracy", {"s": 1.0}), Objective("accuracy", {"t": 1.0})]
    losses = {k: tuple(-v) for k, v in enumerate(values)}
    assert finalists(trials, goals, GENES, 6) == best(losses, 6)


def test_the_order_in_which_trials_are_listed_changes_nothing():
    rng = np.random.default_rng(3)
    points = rng.random((30, 2))
    values = rng.random((30, 1)).round(1)  # with ties
    trials = [trial(k, p, v, 0.1) for k, (p, v) in enumerate(zip(points, values, strict=True))]
    goals = [Objective("accuracy", {"t": 1.0})]
    shuffled = [trials[k] for k in rng.permutation(30)]
    assert finalists(trials, goals, GENES, 7) == finalists(shuffled, goals, GENES, 7)


def test_a_recipe_proposed_again_takes_no_place_of_another():
    first = trial(3, (0.2, 0.2), [0.9], 0.1)
    again = [replace(trial(k, (0.2, 0.2), [0.9], 0.1), recipe=first.recipe) for k in (5, 8, 9)]
    others = [trial(k, (0.1 * k, 0.5), [0.1 * k], 0.1) for k in (4, 6)]
    goals = [Objective("accuracy", {"t": 1.0})]
    assert finalists([*again, *others, first], goals, (), 3) == [3, 4, 6]


def test_without_genes_that_tell_of_others_scores_are_taken_as_they_are():
    rng = np.random.default_rng(1)
    points = rng.random((100, 2))
    values = hill(points) + rng.normal(0, 0.03, 100)
    trials = [
        trial(k, p, [v], 0.3) for k, (p, v) in enumerate(zip(points, values, strict=True))
    ]
    chosen = finalists(trials, [Objective("accuracy", {"t": 1.0})], (), 5)
    assert chosen == sorted(np.argsort(-values)[:5].tolist())


def test_without_candidates_there_are_no_finalists():
    assert finalists([], [Objective("accuracy", {"t": 1.0})], GENES, 7) == []


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25),
    st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_the_best_hold_no_point_while_leaving_out_one_that_dominates_it(points, limit):
    numbered = {k: (float(a), float(b)) for k, (a, b) in enumerate(points)}
    chosen = best(numbered, limit)
    assert len(chosen) == min(limit, len(numbered))
    for inside in chosen:
        for outside in set(numbered) - set(chosen):
            a, b = numbered[outside], numbered[inside]
            assert not (a[0] <= b[0] and a[1] <= b[1] and a != b)
