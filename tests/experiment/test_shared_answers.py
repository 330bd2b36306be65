"""Workers that share answers between searches compute none of them twice."""

from dataclasses import replace

import pytest
from landscapes import LandscapeEvaluate, parameter_space, source_models

from evomerge.core.recipe import Rule
from evomerge.experiment.shared_answers import SharedAnswers, model_of
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Evaluation, Job
from evomerge.workers.inline import InlineWorkers

VERSIONS = {"one": "v", "two": "v"}


@pytest.fixture
def store(tmp_path):
    with StudyStore.create(tmp_path, {}) as opened:
        yield opened


@pytest.fixture
def evaluate():
    return LandscapeEvaluate()


@pytest.fixture
def shared(store, evaluate):
    return SharedAnswers(InlineWorkers(lambda _: Evaluation(evaluate)), store, VERSIONS)


def recipe(seed=11, operator="task_arithmetic"):
    models = replace(source_models(), seed=seed)
    space = parameter_space(models)
    made = space.decode({gene.name: gene.from_unit(0.4) for gene in space.genes})
    if operator == "task_arithmetic":
        return made
    rules = [Rule(operator, {"e1": {"weight": 0.4}, "e2": {"weight": 0.4}})]
    return models.recipe(rules)


def answered(workers, job):
    workers.submit(job)
    done, result = workers.finished()
    assert done == job
    return result.responses


def test_items_that_another_search_has_put_are_looked_up(shared, evaluate, store):
    first = answered(shared, Job(3, recipe(), {"one": (0, 1, 2), "two": (5,)}))
    asked = Job(7, recipe(), {"one": (4, 2, 0)})
    second = answered(shared, asked)
    assert second["one"].items == (4, 2, 0)
    assert second["one"].values["accuracy"][1:] == (
        first["one"].values["accuracy"][2],
        first["one"].values["accuracy"][0],
    )
    assert evaluate.jobs == [3, 7]
    assert shared.computed == 5
    answered(shared, replace(asked, number=8))
    assert evaluate.jobs == [3, 7]
    assert store.count_responses() == 5


def test_answers_equal_those_without_sharing(shared, evaluate):
    items = {"one": tuple(range(12)), "two": tuple(range(6))}
    answered(shared, Job(1, recipe(), {"one": (3, 9), "two": (0,)}))
    alone = evaluate(Job(2, recipe(), items)).responses
    assert answered(shared, Job(2, recipe(), items)) == alone


def test_a_failure_is_passed_on_and_asked_again(store):
    evaluate = LandscapeEvaluate(fails=lambda job: "no luck" if job.number == 1 else None)
    workers = SharedAnswers(InlineWorkers(lambda _: Evaluation(evaluate)), store, VERSIONS)
    workers.submit(Job(1, recipe(), {"one": (0,)}))
    job, failed = workers.finished()
    assert (job.number, failed.reason) == (1, "no luck")
    assert answered(workers, Job(2, recipe(), {"one": (0,)}))["one"].items == (0,)


def test_recipes_of_other_seeds_are_one_model_unless_an_operator_draws():
    assert recipe(seed=1).digest != recipe(seed=2).digest
    assert model_of(recipe(seed=1)) == model_of(recipe(seed=2))
    drawn = [model_of(recipe(seed, "dare_linear")) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
