"""A new experiment file: written for models and tasks that fit, and accepted as it is."""

import shutil

import pytest
from quickstart import TASKS, ZOO

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.experiment.load import load_experiment
from evomerge.experiment.new import NewExperiment, write_experiment
from evomerge.experiment.prepare import prepare


def new(
    experts: dict[str, str], base: str | None = str(ZOO / "base"), **changes: object
) -> NewExperiment:
    given = {"name": "mine", "tasks": ["sort", "town"], "include": [str(TASKS)]} | changes
    return NewExperiment(base=base, experts=experts, **given)


TWO = {"sort": str(ZOO / "sort"), "town": str(ZOO / "town")}


@pytest.mark.parametrize(
    ("written", "space", "optimizer"),
    [
        (new(TWO), "task_arithmetic", "nsga2"),
        (new(TWO, base=None), "slerp", "nsga2"),
        (new(TWO | {"score": str(ZOO / "score")}, base=None), "linear", "nsga2"),
        (new({"no": TWO["sort"], "1e3": TWO["town"]}, name="12"), "task_arithmetic", "nsga2"),
        (new({"one": TWO["sort"]}, tasks=["sort"]), "task_arithmetic", "cma_es"),
    ],
    ids=["base", "two without base", "three without base", "odd names", "one expert and task"],
)
def test_what_is_written_passes_every_check(tmp_path, written, space, optimizer):
    path = write_experiment(tmp_path / "folder, with: #signs", written, offline=True)
    prepared = prepare(load_experiment(path), offline=True)
    spec = prepared.spec
    assert (spec.name, list(spec.models.experts)) == (written.name, list(written.experts))
    assert (spec.space.operator, spec.optimizer.name) == ((space,), optimizer)
    assert list(prepared.tasks) == list(written.tasks)


def test_models_near_the_file_are_named_from_its_place_so_that_both_can_move(tmp_path):
    shutil.copytree(ZOO, tmp_path / "here" / "zoo")
    zoo = tmp_path / "here" / "zoo"
    written = new({"sort": str(zoo / "sort")}, base=str(zoo / "base"))
    path = write_experiment(tmp_path / "here" / "study", written, offline=True)
    assert load_experiment(path).spec.models.all == {
        "base": "../zoo/base",
        "sort": "../zoo/sort",
    }
    (tmp_path / "here").rename(tmp_path / "there")
    prepare(load_experiment(tmp_path / "there" / "study" / "experiment.yaml"), offline=True)


@pytest.mark.parametrize(
    ("written", "error", "message"),
    [
        (new({}), ConfigError, "--expert: "),
        (new({"base": TWO["sort"]}), ConfigError, "--expert: expert names must be"),
        (new({"a": "/nowhere"}), CheckpointError, "--expert a: "),
        (new(TWO, base="/nowhere"), CheckpointError, "--base: "),
        (new(TWO, include=["/nowhere"]), ConfigError, "--include /nowhere: no such folder"),
    ],
    ids=["no expert", "a name", "an expert", "the base", "a folder"],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(tmp_path, written, error, message):
    with pytest.raises(error) as caught:
        write_experiment(tmp_path / "in", written, offline=True)
    assert message in str(caught.value)
    assert not (tmp_path / "in").exists()


def test_an_experiment_is_never_overwritten(tmp_path):
    (tmp_path / "experiment.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_experiment(tmp_path, new(TWO), offline=True)
    assert (tmp_path / "experiment.yaml").read_text() == "mine"
