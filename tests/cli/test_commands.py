"""Every command once, as a user would call them one after the other."""

from pathlib import Path

import pytest
import yaml
from quickstart import TASKS, ZOO, write_experiment

SMALL = ("-o", "fitness.items={search: 8, validation: 8, test: 8}", "-o", "budget.candidates=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("commands")


def init(call, folder: Path, *more: str):
    return call(
        "init", folder, "--base", ZOO / "base", "--expert", f"sort={ZOO / 'sort'}",
        "--expert", f"town={ZOO / 'town'}", "--include", TASKS, "--task", "sort",
        "--task", "town", *more,
    )  # fmt: skip


def test_init_writes_a_commented_experiment_that_validate_accepts(call, tmp_path):
    made = init(call, tmp_path / "mine")
    path = tmp_path / "mine" / "experiment.yaml"
    assert made.code == 0, made.err
    assert f"evomerge validate {path}" in made.out
    text = path.read_text()
    assert text.count("#") > 10
    assert yaml.safe_load(text)["optimizer"] == {"name": "nsga2", "population": 24}
    checked = call("validate", path)
    assert checked.code == 0, checked.err
    assert f"{path}: valid" in checked.out


def test_init_of_one_task_chooses_the_optimizer_for_one_objective(call, tmp_path):
    made = call(
        "init", tmp_path / "one", "--expert", f"a={ZOO / 'sort'}",
        "--expert", f"b={ZOO / 'town'}", "--include", TASKS, "--task", "town",
    )  # fmt: skip
    assert made.code == 0, made.err
    written = yaml.safe_load((tmp_path / "one" / "experiment.yaml").read_text())
    assert written["optimizer"] == {"name": "cma_es"}
    assert "base" not in written["models"]
    assert call("validate", tmp_path / "one" / "experiment.yaml").code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--task", "twon"), "did you mean 'town'?"),
        (("--expert", "x"), "expected NAME=PLACE"),
        (("--expert", "x=/nowhere"), "no such folder"),
        (("--include", "/nowhere"), "no such folder"),
        (("--expert", f"base={ZOO / 'sort'}"), "not 'base'"),
    ],
)
def test_init_refuses_what_it_cannot_find_and_writes_nothing(call, tmp_path, more, said):
    made = init(call, tmp_path / "mine", *more)
    assert made.code in (2, 4)
    assert said in made.err
    assert "Traceback" not in made.err
    assert not (tmp_path / "mine").exists()


def test_init_does_not_overwrite_an_experiment(call, tmp_path):
    init(call, tmp_path / "mine")
    before = (tmp_path / "mine" / "experiment.yaml").read_text()
    again = init(call, tmp_path / "mine")
    assert again.code == 2
    assert "exists already" in again.err
    assert (tmp_path / "mine" / "experiment.yaml").read_text() == before


def test_a_run_from_init_to_export(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init(call, tmp_path / "mine")
    run = call("run", "mine/experiment.yaml", *SMALL)
    assert run.code == 0, run.err
    assert "candidate" in run.out
    assert "evomerge resume runs/mine --add" in run.out
    assert "evomerge export runs/mine" in run.out
    assert "search 3/3" in run.err

    status = call("status", "runs/mine")
    assert status.code == 0
    assert "3 of 3 candidates done" in status.out

    Path("runs/mine/report.html").unlink()
    report = call("report", "runs/mine")
    assert report.out.strip() == "runs/mine/report.html"
    assert Path("runs/mine/report.html").stat().st_size > 100_000

    more = call("resume", "runs/mine", "--add", "2")
    assert more.code == 0, more.err
    assert "5 of 5 candidates done" in call("status", "runs/mine").out

    exported = call("export", "runs/mine", "model", "--trial", "8")
    assert exported.code == 0, exported.err
    assert Path("model/model.safetensors").exists()
    merged = call("merge", "model/recipe.yaml", "again")
    assert merged.code == 0, merged.err
    refused = call("merge", "model/recipe.yaml", "again")
    assert refused.code == 5
    assert "exists already" in refused.err


def test_a_second_run_of_one_experiment_takes_a_new_run_directory(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_experiment(tmp_path / "in", budget={"candidates": 1})
    for name in ("small", "small-2"):
        assert call("run", path).code == 0
        assert (tmp_path / "runs" / name / "study.db").exists()


def test_a_resumed_run_that_is_finished_says_so_and_adds_nothing(call, tmp_path):
    path = write_experiment(tmp_path / "in", budget={"candidates": 2})
    call("run", path, "--out", tmp_path / "run")
    again = call("resume", tmp_path / "run")
    assert again.code == 0
    assert "2 of 2 candidates done" in call("status", tmp_path / "run").out


def test_one_objective_with_cma_es_runs_to_a_report(call, tmp_path):
    path = write_experiment(
        tmp_path / "in",
        objectives=[{"maximize": "accuracy", "tasks": {"sort": 2, "town": 1}}],
        optimizer={"name": "cma_es"},
        budget={"candidates": 5},
    )
    run = call("run", path, "--out", tmp_path / "run")
    assert run.code == 0, run.err
    assert (tmp_path / "run" / "report.html").exists()


def test_help_of_every_command_shows_its_options(call):
    shown = call("--help")
    for name in ("run", "resume", "status", "report", "validate", "merge", "export", "init"):
        assert f"\n  {name} " in shown.out
        assert "Usage: evomerge" in call(name, "--help").out
