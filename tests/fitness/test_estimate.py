import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses
from evomerge.fitness.estimate import Estimator, MeanEstimator

ACCURACY = Objective("accuracy", {"sum": 1.0})


def answers(*values: float) -> ItemResponses:
    return ItemResponses(tuple(range(len(values))), {"accuracy": values})


def test_mean_estimator_is_an_estimator():
    estimator: Estimator = MeanEstimator()
    (estimate,) = estimator.estimate({"sum": answers(1, 0, 1, 1)}, [ACCURACY])
    assert estimate.value == 0.75
    assert estimate.standard_error == pytest.approx(0.25)  # sqrt(.25 / 4)


def test_tasks_are_weighted_and_their_variances_add():
    responses = {"sum": answers(1, 0, 1, 1), "town": answers(0, 0, 1, 0)}
    both = Objective("accuracy", {"sum": 0.75, "town": 0.25})
    (estimate,) = MeanEstimator().estimate(responses, [both])
    assert estimate.value == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert estimate.standard_error == pytest.approx(
        math.sqrt((0.75 * 0.25) ** 2 + (0.25 * 0.25) ** 2)
    )


def test_the_standard_error_is_that_of_drawing_without_replacement():
    population = np.random.default_rng(0).normal(size=30)
    rng = np.random.default_rng(1)
    estimates = [
        MeanEstimator({"sum": 30}).estimate(
            {"sum": answers(*rng.choice(population, 12, replace=False))}, [ACCURACY]
        )[0]
        for _ in range(4000)
    ]
    spread = np.std([e.value for e in estimates])
    claimed = math.sqrt(np.mean([e.standard_error**2 for e in estimates]))
    assert claimed == pytest.approx(spread, rel=0.04)


def test_a_task_answered_in_full_has_no_standard_error():
    (estimate,) = MeanEstimator({"sum": 4}).estimate({"sum": answers(1, 0, 1, 1)}, [ACCURACY])
    assert estimate.standard_error == 0


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.floats(-9, 9))
def test_shifting_every_item_shifts_the_value_and_keeps_the_error(values, shift):
    plain, shifted = (
        MeanEstimator().estimate({"sum": answers(*(v + s for v in values))}, [ACCURACY])[0]
        for s in (0.0, shift)
    )
    assert shifted.value == pytest.approx(plain.value + shift, abs=1e-9)
    assert shifted.standard_error == pytest.approx(plain.standard_error, abs=1e-6)


def test_an_unanswered_task_or_metric_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="unknown task 'sum'; did you mean 'sums'"):
        MeanEstimator().estimate({"sums": answers(1, 0)}, [ACCURACY])
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        MeanEstimator().estimate({"sum": answers(1, 0)}, [Objective("acuracy", {"sum": 1})])


def test_one_item_of_many_is_refused_since_it_has_no_variance():
    with pytest.raises(ConfigError, match="needs at least 2"):
        MeanEstimator().estimate({"sum": answers(1)}, [ACCURACY])
