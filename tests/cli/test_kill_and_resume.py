"""The real command line, killed with SIGKILL and resumed, ends as if undisturbed."""

import random
import signal
from pathlib import Path

import pytest
from command_line import DEADLINE, command, finished_trials, wait_for_trials
from quickstart import write_experiment

import evomerge
from evomerge.store.study_store import StudyStore

OPTIMIZERS = {
    "nsga2": {"optimizer": {"name": "nsga2", "population": 6}},
    "cma_es": {
        "optimizer": {"name": "cma_es"},
        "objectives": [{"maximize": "gold_logprob", "tasks": ["sort", "town"]}],
    },
    "m2n2": {"optimizer": {"name": "m2n2", "population": 5}},  # which learns from items
    "within constraints": {
        "optimizer": {"name": "nsga2", "population": 6},
        "constraints": [
            {"keep": "accuracy", "task": "town", "lose_at_most": 0.2, "reference": "town"}
        ],
    },
}
CANDIDATES = 22


def content(run_dir: Path) -> list:
    with StudyStore.open(run_dir, read_only=True) as store:
        trials = [
            (t.number, t.kind, t.name, t.genome, t.recipe.digest, t.status, t.estimates)
            for t in store.trials()
        ]
        trials += [(t.number, t.constraints, t.violation) for t in store.trials()]
        answers = [
            store.responses(
                t.recipe.digest,
                store.meta("settings_digest"),
                {task: bank["version"] for task, bank in store.meta("banks").items()},
            )
            for t in store.trials()
        ]
        return [trials, answers, store.meta("finalists"), store.meta("state")]


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(n, marks=[pytest.mark.slow] if n != "nsga2" else []) for n in OPTIMIZERS],
)
def test_a_run_killed_several_times_equals_an_undisturbed_one(tmp_path, optimizer):
    changes = OPTIMIZERS[optimizer] | {"budget": {"candidates": CANDIDATES}}
    experiment = write_experiment(tmp_path, **changes)
    undisturbed = evomerge.run(experiment, out=tmp_path / "undisturbed")

    killed = tmp_path / "killed"
    moments = sorted(random.Random(optimizer).sample(range(2, CANDIDATES + 5), 2))
    arguments = ["run", str(experiment), "--out", str(killed)]
    for moment in moments:
        process = command(*arguments, cwd=tmp_path)
        wait_for_trials(process, killed, moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        arguments = ["resume", str(killed)]
    assert finished_trials(killed) < CANDIDATES + 6
    process = command(*arguments, cwd=tmp_path)
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    assert content(killed) == content(undisturbed.path)
    assert (killed / "report.html").stat().st_size > 100_000
    assert f"evomerge resume {killed} --add" in output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_stopped_run_keeps_its_trials_and_says_how_to_go_on(tmp_path, number, code):
    experiment = write_experiment(tmp_path, budget={"candidates": 500})
    run_dir = tmp_path / "run"
    process = command("run", str(experiment), "--out", str(run_dir), cwd=tmp_path)
    wait_for_trials(process, run_dir, 8)
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert f"evomerge resume {run_dir}" in errors
    assert (run_dir / "report.html").exists()
    with StudyStore.open(run_dir, read_only=True) as store:
        assert store.meta("state") == "interrupted"
        done = [t for t in store.trials() if t.status == "complete"]
        assert len(done) >= 8


def test_a_second_process_on_one_run_is_refused_and_disturbs_nothing(tmp_path):
    experiment = write_experiment(tmp_path, budget={"candidates": 500})
    run_dir = tmp_path / "run"
    first = command("run", str(experiment), "--out", str(run_dir), cwd=tmp_path)
    try:
        wait_for_trials(first, run_dir, 3)
        second = command("resume", str(run_dir), cwd=tmp_path)
        _, errors = second.communicate(timeout=DEADLINE)
        assert second.returncode == 5
        assert "another process is working on this run" in errors
        status = command("status", str(run_dir), cwd=tmp_path)
        shown, _ = status.communicate(timeout=DEADLINE)
        assert status.returncode == 0
        assert "running" in shown
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
