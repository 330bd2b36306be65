"""A full disk, a read-only one, and a clock that jumps: said plainly, and nothing lost."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from quickstart import write_experiment

import evomerge
from evomerge.store.study_store import StudyStore

CANDIDATES = 14
STORE = 5
HOUR, DAY = 3600.0, 86400.0
MIB = 2**20


def run(*arguments: object, cwd: Path, **more: object) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "evomerge", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **{"env": {**os.environ, "OMP_NUM_THREADS": "1"}} | more,
    )
    assert "Traceback" not in done.stderr
    return done


def errors(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error:")]


def content(run_dir: Path) -> list:
    """Everything that a search decides, without times."""
    with StudyStore.open(run_dir, read_only=True) as store:
        trials = store.trials()
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        settings = store.meta("settings_digest")
        return [
            [
                (t.number, t.kind, t.name, t.genome, t.recipe.digest, t.status, t.estimates)
                for t in trials
            ],
            [store.responses(t.recipe.digest, settings, versions) for t in trials],
            store.meta("finalists"),
            store.meta("state"),
        ]


def finished(run_dir: Path) -> int:
    with sqlite3.connect(run_dir / "study.db") as db:
        return db.execute("SELECT count(*) FROM trials WHERE status != 'open'").fetchone()[0]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    return write_experiment(folder, budget={"candidates": CANDIDATES})


@pytest.fixture(scope="module")
def undisturbed(experiment) -> list:
    return content(evomerge.run(experiment, out=experiment.parent / "undisturbed").path)


# ---- a full disk


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={32 * MIB}", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {made.stderr if made else 'no mount'}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, room: int) -> Path:
    """A file that leaves only so many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)
    return filler


def test_a_disk_that_fills_up_ends_the_run_with_its_trials_kept(
    experiment, undisturbed, disk, tmp_path
):
    run_dir = disk / "run"
    filler = fill(disk, 500_000)
    done = run("run", experiment, "--out", run_dir, cwd=tmp_path)
    assert done.returncode == STORE, done.stderr
    assert len(errors(done)) == 1
    assert "Every trial recorded before is kept" in errors(done)[0]
    recorded = finished(run_dir)
    assert 0 < recorded < len(undisturbed[0])
    again = run("resume", run_dir, cwd=tmp_path)
    assert again.returncode == STORE, again.stderr
    assert finished(run_dir) >= recorded
    filler.unlink()
    assert run("resume", run_dir, cwd=tmp_path).returncode == 0
    assert content(run_dir) == undisturbed
    assert not [path for path in run_dir.iterdir() if path.name.startswith(".")]


def test_a_limit_on_the_size_of_files_ends_the_run_with_its_trials_kept(
    experiment, undisturbed, tmp_path
):
    run_dir = tmp_path / "run"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

    done = run("run", experiment, "--out", run_dir, cwd=tmp_path, preexec_fn=limited)
    assert done.returncode == STORE, done.stderr
    assert len(errors(done)) == 1
    assert 0 < finished(run_dir) < len(undisturbed[0])
    assert run("resume", run_dir, cwd=tmp_path).returncode == 0
    assert content(run_dir) == undisturbed
