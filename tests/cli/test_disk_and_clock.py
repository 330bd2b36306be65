"""A full disk, a read-only one, and a clock that jumps: said plainly, and nothing lost."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import landscapes
import pytest
from landscapes import LandscapeEvaluate, LandscapeStudy, meta, objectives
from quickstart import write_experiment
from study_content import content

import evomerge
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts
from evomerge.store.study_store import StudyStore

CANDIDATES = 14
STORE = 5
HOUR, DAY = 3600.0, 86400.0
MIB = 2**20


def the_error(printed: str) -> str:
    """The one message of a command that failed."""
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    return line


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


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place.mkdir()
    size = f"size={32 * MIB}"
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


def fill(disk: Path, room: int) -> Path:
    """A file that leaves only so many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)
    return filler


def test_a_disk_that_fills_up_ends_the_run_with_its_trials_kept(
    call, experiment, undisturbed, disk
):
    run_dir = disk / "run"
    filler = fill(disk, 500_000)
    stopped = call("run", experiment, "--out", run_dir)
    assert stopped.code == STORE
    assert "Every trial recorded before is kept" in the_error(stopped.err)
    recorded = finished(run_dir)
    assert 0 < recorded < len(undisturbed[0])
    again = call("resume", run_dir)
    assert again.code == STORE
    the_error(again.err)
    assert finished(run_dir) >= recorded
    filler.unlink()
    assert call("resume", run_dir).code == 0
    assert content(run_dir) == undisturbed
    assert not [path for path in run_dir.iterdir() if path.name.startswith(".")]


def test_a_limit_on_the_size_of_files_is_taken_like_a_full_disk(
    call, experiment, undisturbed, tmp_path
):
    run_dir = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        stopped = call("run", experiment, "--out", run_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stopped.code == STORE
    assert "Every trial recorded before is kept" in the_error(stopped.err)
    assert 0 < finished(run_dir) < len(undisturbed[0])
    assert call("resume", run_dir).code == 0
    assert content(run_dir) == undisturbed


@pytest.mark.parametrize("room", [0, 8_192, 20_000, 40_000, 120_000])
def test_a_disk_that_is_full_from_the_start_leaves_no_half_study(
    call, experiment, undisturbed, disk, room
):
    run_dir = disk / "run"
    filler = fill(disk, room)
    refused = call("run", experiment, "--out", run_dir)
    assert refused.code in (1, STORE)
    said = the_error(refused.err)
    assert str(run_dir) in said
    assert "No space left on device" in said or "disk is full" in said
    filler.unlink()
    if (run_dir / "study.db").exists():
        assert call("resume", run_dir).code == 0
        assert content(run_dir) == undisturbed
    assert not list(run_dir.glob(".*"))


# ---- a read-only disk, and a file in the way


@pytest.fixture(scope="module")
def archive(experiment, undisturbed, tmp_path_factory) -> Iterator[Path]:
    """A finished run on a disk that became read-only."""
    with mounted(tmp_path_factory.mktemp("archive") / "disk") as place:
        shutil.copytree(
            experiment.parent / "undisturbed",
            place / "run",
            ignore=shutil.ignore_patterns("*-wal", "*-shm"),
        )
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place


def test_a_new_run_on_a_read_only_disk_is_refused(call, experiment, archive):
    refused = call("run", experiment, "--out", archive / "new")
    assert refused.code == STORE
    assert "Read-only file system; choose another with --out" in the_error(refused.err)


def test_a_run_on_a_read_only_disk_is_not_resumed(call, archive):
    refused = call("resume", archive / "run", "--add", 3)
    assert refused.code == STORE
    assert "cannot write here: Read-only file system" in the_error(refused.err)


def test_a_run_on_a_read_only_disk_can_be_looked_at(call, archive, undisturbed):
    shown = call("status", archive / "run")
    assert shown.code == 0, shown.err
    assert "finished" in shown.out
    assert content(archive / "run") == undisturbed
    report = call("report", archive / "run")
    assert report.code == 1
    assert "Read-only file system" in the_error(report.err)


def test_changes_that_cannot_be_read_on_a_read_only_disk_are_not_left_out(call, tmp_path):
    writer = StudyStore.create(tmp_path, meta(objectives(), {}))
    LandscapeStudy(writer).search(Budget(candidates=3)).run()
    with mounted(tmp_path / "disk") as place:
        for name in ("study.db", "study.db-wal"):
            shutil.copy(tmp_path / name, place / name)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        refused = call("status", place)
    writer.close()
    assert refused.code == STORE
    assert "copy the whole run directory elsewhere" in the_error(refused.err)


def test_a_run_below_a_file_is_refused(call, experiment, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused = call("run", experiment, "--out", tmp_path / "file" / "run")
    assert refused.code == STORE
    assert "Not a directory; choose another with --out" in the_error(refused.err)
    assert (tmp_path / "file").read_text() == "not a folder"


# ---- a clock that jumps


class Clocks:
    """A steady clock, one second a trial, and the time of day, which is set now and then."""

    def __init__(self, jumps: dict[int, float]) -> None:
        self.seconds = 0.0
        self._jumps, self._off = jumps, 0.0

    def evaluate(self, job: object) -> None:
        self.seconds += 1.0
        self._off += self._jumps.get(int(self.seconds), 0.0)

    def steady(self) -> float:
        return self.seconds

    def of_day(self) -> float:
        return 1.7e9 + self.seconds + self._off


JUMPS = {15: -HOUR, 25: DAY + HOUR, 30: -2 * DAY}


def searched(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, jumps: dict[int, float], budget: Budget
) -> list:
    clocks = Clocks(jumps)
    monkeypatch.setattr(
        landscapes, "Parts", partial(Parts, clock=clocks.of_day, steady=clocks.steady)
    )
    run_dir.mkdir()
    with StudyStore.create(run_dir, meta(objectives(), {})) as store:
        evaluate = LandscapeEvaluate(fails=clocks.evaluate)
        LandscapeStudy(store, evaluate=evaluate).search(budget).run()
        return [(t.number, t.genome, t.status, t.estimates) for t in store.trials()]


@pytest.mark.parametrize("minutes", [0.5, 1.0])
def test_minutes_are_counted_by_a_clock_that_nobody_sets(tmp_path, monkeypatch, minutes):
    budget = Budget(minutes=minutes)
    steady = searched(tmp_path / "steady", monkeypatch, {}, budget)
    jumping = searched(tmp_path / "jumping", monkeypatch, JUMPS, budget)
    assert jumping == steady
    assert len(steady) == 60 * minutes


def test_the_time_worked_is_measured_by_a_clock_that_nobody_sets(tmp_path, monkeypatch):
    real = time.time
    off = [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + off[0])
    for jump in (0.0, -HOUR, DAY):
        known = (tmp_path / "study.db").exists()
        opened = StudyStore.open if known else StudyStore.create
        with opened(tmp_path, *(() if known else (meta(objectives(), {}),))) as store:
            store.sessions.start({})
            off[0] = jump
            LandscapeStudy(store).search(Budget(candidates=8)).run()
            store.sessions.end("all done")
            assert 0 < store.sessions.seconds_worked() < 60


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def test_a_run_whose_clock_is_set_back_and_forward_ends_as_if_undisturbed(
    experiment, undisturbed, tmp_path
):
    if FAKETIME is None:
        pytest.skip("needs Debian's package faketime")
    run_dir, offset = tmp_path / "run", tmp_path / "offset"
    offset.write_text("+0s")
    process = subprocess.Popen(
        [sys.executable, "-m", "evomerge", "run", experiment, "--out", run_dir],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for trials, jump in ((3, "-3600s"), (9, "+86400s"), (13, "-7200s")):
        wait_for_trials(process, run_dir, trials)
        offset.write_text(jump)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert content(run_dir) == undisturbed
    with StudyStore.open(run_dir, read_only=True) as store:
        ends = [trial.finished_at for trial in store.trials()]
        assert max(ends) - min(ends) > DAY  # the clock did jump
        assert store.sessions.seconds_worked() < 240


def wait_for_trials(process: subprocess.Popen, run_dir: Path, count: int) -> None:
    end = time.monotonic() + 240
    while process.poll() is None and not (
        (run_dir / "study.db").exists() and finished(run_dir) >= count
    ):
        assert time.monotonic() < end, "the search makes no progress"
        time.sleep(0.01)
