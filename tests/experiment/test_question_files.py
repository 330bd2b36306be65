from pathlib import Path

import pytest
import yaml

from evomerge.core.errors import ConfigError
from evomerge.experiment.load import load_experiment
from evomerge.experiment.places import located, moved, relative_places
from evomerge.experiment.question_files import question_files, task_spec
from evomerge.experiment.spec import ExperimentSpec, TaskUse
from evomerge.fitness.scoring_settings import JsonlFiles

FILES = ("one.jsonl", "a.jsonl", "b.jsonl", "c.jsonl", "samples_x_2026-01-01T00-00-00.jsonl")

USE = [
    {
        "name": "one",
        "jsonl": "data/one.jsonl",
        "until": ".",
        "max_tokens": 5,
        "ignore_case": True,
    },
    {
        "name": "three",
        "jsonl": {
            "search": "data/a.jsonl",
            "validation": "data/b.jsonl",
            "test": "data/c.jsonl",
        },
        "num_fewshot": 2,
    },
    {"name": "logged", "samples": f"data/{FILES[4]}"},
    "plain",
]


@pytest.fixture
def write(tmp_path):
    """Write an experiment in ``study`` that uses some tasks."""

    def write_experiment(use: list) -> Path:
        folder = tmp_path / "study"
        (folder / "data").mkdir(parents=True)
        for name in FILES:
            (folder / "data" / name).touch()
        plain = {
            "name": "study",
            "models": {"experts": {"a": "a", "b": "b"}},
            "space": {"operator": "linear", "experts": {"weight": [0, 1]}},
            "tasks": {"use": use},
            "objectives": [{"maximize": "accuracy", "task": "one"}],
            "budget": {"candidates": 1},
        }
        path = folder / "experiment.yaml"
        path.write_text(yaml.safe_dump(plain))
        return path

    return write_experiment


def test_files_are_found_beside_the_experiment_and_named_absolutely(write):
    path = write(USE)
    spec = located(load_experiment(path))
    data = path.parent.resolve() / "data"
    assert question_files(spec.tasks) == [str(data / name) for name in FILES]
    assert ExperimentSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_file_is_else_found_from_the_working_directory(write, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "q.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    path = write([{"name": "one", "jsonl": "q.jsonl"}, {"name": "two", "jsonl": "gone.jsonl"}])
    found, gone = question_files(located(load_experiment(path)).tasks)
    assert found == str((tmp_path / "here" / "q.jsonl").resolve())
    assert gone == str(path.parent.resolve() / "gone.jsonl")


def test_files_are_found_again_when_run_and_files_have_moved_together(write, tmp_path):
    spec = located(load_experiment(write(USE)))
    run_dir = tmp_path / "study" / "runs" / "study"
    run_dir.mkdir(parents=True)
    relative = relative_places(spec, run_dir)
    new = (tmp_path / "study").rename(tmp_path / "elsewhere").resolve()
    again = moved(spec, new / "runs" / "study", relative)
    assert question_files(again.tasks) == [str(new / "data" / name) for name in FILES]
    assert [task.name for task in again.tasks.use] == ["one", "three", "logged", "plain"]
    assert again.tasks.use[0].max_tokens == 5


def test_tasks_reach_their_loader_with_files_and_options():
    one, three, logged, plain = (
        task_spec(TaskUse(**use if isinstance(use, dict) else {"name": use})) for use in USE
    )
    assert one.jsonl == JsonlFiles({"jsonl": Path("data/one.jsonl")}, (".",), 5, True)
    assert three.jsonl == JsonlFiles(
        {
            s: Path(f"data/{n}.jsonl")
            for s, n in zip(("search", "validation", "test"), "abc", strict=True)
        }
    )
    assert three.num_fewshot == 2
    assert (logged.jsonl, logged.samples) == (None, Path("data") / FILES[4])
    assert plain.in_lm_eval
    assert not any(spec.in_lm_eval for spec in (one, three, logged))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"jsonl": "a", "samples": "b"}, "give one of jsonl and samples"),
        ({"until": "x"}, "until only with 'jsonl'"),
        ({"samples": "a", "max_tokens": 3}, "max_tokens only with 'jsonl'"),
        ({"samples": "a", "num_fewshot": 3}, "num_fewshot only without 'samples'"),
        (
            {"jsonl": {"search": "a", "test": "b"}},
            "tasks.use.0.jsonl.validation: this key is missing",
        ),
        ({"jsonl": 3}, "tasks.use.0.jsonl: must be a mapping, found 3"),
        ({"jsonl": "a", "max_token": 3}, "did you mean 'max_tokens'?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_keys_that_do_not_go_together_are_refused_with_their_line(write, task, expected):
    path = write([{"name": "one", **task}, "two"])
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    (problem,) = caught.value.problems
    assert expected in problem
    assert problem.startswith(f"{path}:")
