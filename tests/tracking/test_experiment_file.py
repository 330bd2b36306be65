"""Loggers in the experiment file: names, options, and libraries that are not there."""

import sys

import pytest
from landscapes import meta, objectives
from quickstart import experiment, write_experiment

from evomerge.core.errors import ConfigError
from evomerge.experiment.load import load_experiment
from evomerge.experiment.loggers import logger_problems, run_parameters, with_loggers
from evomerge.experiment.spec import ExperimentSpec
from evomerge.search.observer import Announcement, Observer
from evomerge.store.study_store import StudyStore
from evomerge.tracking.registry import make_logger


def spec(*loggers) -> ExperimentSpec:
    space = {"operator": "task_arithmetic", "experts": {"weight": [0, 1]}}
    return ExperimentSpec.model_validate(experiment(space=space, loggers=[*loggers]))


def test_a_logger_is_given_by_name_or_with_options(tmp_path):
    given = ["tensorboard", {"name": "wandb", "project": "merges", "mode": "offline"}]
    first, second = load_experiment(write_experiment(tmp_path, loggers=given)).spec.loggers
    assert (first.name, first.options) == ("tensorboard", {})
    assert (second.name, second.options) == ("wandb", {"project": "merges", "mode": "offline"})


def test_loggers_can_be_asked_for_on_the_command_line(tmp_path):
    path = write_experiment(tmp_path)
    assert load_experiment(path).spec.loggers == ()
    (logger,) = load_experiment(path, ["loggers=[tensorboard]"]).spec.loggers
    assert logger.name == "tensorboard"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorbord", "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ({"name": "wandb", "projekt": "x"}, "did you mean 'project'?"),
        ({"name": "tensorboard", "project": "x"}, "project only with wandb"),
        ({"name": "wandb", "uri": "file:///x"}, "uri only with mlflow"),
        ({"name": "wandb", "mode": "of"}, "must be 'online' or 'offline'"),
        ({"name": "mlflow", "uri": "runs"}, "must begin with a scheme"),
        ({"project": "x"}, "this key is missing"),
    ],
)
def test_what_is_wrong_with_a_logger_is_said_with_its_place(tmp_path, given, said):
    path = write_experiment(tmp_path, loggers=["mlflow", given])
    with pytest.raises(ConfigError, match=r"loggers\.1") as caught:
        load_experiment(path)
    assert said in str(caught.value)


def test_a_logger_named_twice_is_refused(tmp_path):
    path = write_experiment(tmp_path, loggers=["wandb", {"name": "wandb", "project": "x"}])
    with pytest.raises(ConfigError, match="named twice"):
        load_experiment(path)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # what makes Python find no such package
    ((place, problem),) = logger_problems(spec(name).loggers)
    assert place == 0
    assert f"pip install 'evomerge[{name}]'" in problem
    with pytest.raises(ConfigError, match="is not installed"):
        make_logger(name, {}, offline=True)


def test_a_database_without_what_mlflow_needs_for_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    logger = {"name": "mlflow", "uri": "sqlite:///runs.db"}
    pytest.importorskip("mlflow", reason="needs the extra evomerge[mlflow]")
    ((_, problem),) = logger_problems(spec(logger).loggers)
    assert "pip install mlflow" in problem


def test_a_study_keeps_one_id_in_the_tools_over_its_sessions(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra evomerge[tensorboard]")
    ids = []
    for _ in range(2):
        known = (tmp_path / "study.db").exists()
        opened = StudyStore.open if known else StudyStore.create
        with opened(tmp_path, *(() if known else (meta(objectives(), {}),))) as store:
            with with_loggers(Observer(), spec("tensorboard"), tmp_path, store) as observer:
                observer.announce(Announcement(tmp_path, objectives(), ()))
            ids.append(store.meta("logging_id"))
    assert ids[0] == ids[1]
    assert len(ids[0]) >= 16


def test_without_loggers_nothing_is_written(tmp_path):
    with StudyStore.create(tmp_path, meta(objectives(), {})) as store:
        with with_loggers(Observer(), spec(), tmp_path, store) as observer:
            observer.announce(Announcement(tmp_path, objectives(), ()))
        assert store.meta("logging_id") is None
    assert not (tmp_path / "logs").exists()


def test_parameters_name_what_a_study_is_made_of():
    parameters = run_parameters(spec())
    assert parameters["optimizer"] == "nsga2"
    assert parameters["optimizer.population"] == 6
    assert parameters["budget.candidates"] == 8
    assert parameters["operator"] == "task_arithmetic"
    assert parameters["seed"] == 5
