"""Which optimizer an experiment gets that names none, and what an optimizer demands of it."""

import pytest
from quickstart import write_experiment

from evomerge.core.errors import ConfigError
from evomerge.experiment.prepare import prepare_file

ONE = [{"maximize": "accuracy", "task": "sort"}]
TWO = [*ONE, {"maximize": "accuracy", "task": "town"}]
OPERATOR_GENE = {"operator": ["linear", "ties"], "experts": {"weight": [0, 1]}}


@pytest.mark.parametrize(
    ("objectives", "space", "chosen"),
    [
        (ONE, "task_arithmetic", "cma_es"),
        (ONE, OPERATOR_GENE, "nsga2"),
        (TWO, "task_arithmetic", "nsga2"),
    ],
)
def test_an_experiment_without_an_optimizer_gets_the_one_that_suits_it(
    tmp_path, objectives, space, chosen
):
    path = write_experiment(tmp_path, objectives=objectives, space=space, optimizer={})
    _, prepared = prepare_file(path)
    assert prepared.spec.optimizer.name == chosen


def test_options_without_a_name_are_those_of_the_chosen_one(tmp_path):
    path = write_experiment(tmp_path, objectives=ONE, optimizer={"sigma": 0.2})
    assert prepare_file(path)[1].spec.optimizer.options == {"sigma": 0.2}
    path = write_experiment(tmp_path / "wrong", objectives=TWO, optimizer={"sigma": 0.2})
    with pytest.raises(ConfigError, match="unknown option of nsga2 'sigma'"):
        prepare_file(path)


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ({"search": [4, 14]}, "search: one number"),
        ({"search": 10, "rotate": True}, "rotate: false"),
    ],
)
def test_m2n2_needs_every_candidate_to_answer_the_same_items(tmp_path, items, named):
    path = write_experiment(tmp_path, fitness={"items": items}, optimizer={"name": "m2n2"})
    with pytest.raises(ConfigError, match=f"m2n2 compares candidates item by item.*{named}"):
        prepare_file(path)
