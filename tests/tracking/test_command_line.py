"""Loggers through the real command line: checked, killed, resumed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from quickstart import write_experiment

from evomerge.cli.main import main
from evomerge.store.study_store import StudyStore

DEADLINE = 120


def command(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "evomerge", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(*arguments, cwd):
    process = command(*arguments, cwd=cwd)
    out, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, out, errors


def logged_steps(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run_dir / "logs" / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return [event.step for event in read.Scalars("search/item evaluations")]


def test_validate_names_a_missing_library_with_its_line(tmp_path, capfd, monkeypatch):
    path = write_experiment(tmp_path, loggers=["tensorboard", "wandb"])
    monkeypatch.setitem(sys.modules, "wandb", None)  # what makes Python find no such package
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(path)])
    assert ended.value.code == 2
    errors = capfd.readouterr().err
    assert "pip install 'evomerge[wandb]'" in errors
    assert "loggers.1" in errors


@pytest.mark.slow  # a run without a logger is killed in tests/cli/test_kill_and_resume.py
def test_a_run_killed_and_resumed_has_each_trial_once_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra evomerge[tensorboard]")
    path = write_experiment(tmp_path, loggers=["tensorboard"], budget={"candidates": 24})
    run_dir = tmp_path / "run"
    journal = run_dir / "logs" / "tensorboard.logged"
    process = command("run", path, "--out", run_dir, cwd=tmp_path)
    end = time.monotonic() + DEADLINE
    while process.poll() is None and (
        not journal.exists() or journal.read_text().count("\n") < 9
    ):
        assert time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, errors = run("resume", run_dir, cwd=tmp_path)
    assert code == 0, errors
    with StudyStore.open(run_dir, read_only=True) as store:
        numbers = [trial.number for trial in store.trials()]
    assert sorted(logged_steps(run_dir)) == numbers
