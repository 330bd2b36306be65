"""A long run on Ray whose workers are killed at random: what is lost, and what grows.

    python benchmarks/soak.py [--candidates 2000] [--every 12] [--workers 2]

Runs the quickstart's models through the real command line, sends SIGKILL to a random worker
every so many seconds (exponentially distributed), and afterwards the same search undisturbed
with the one worker of its own process. Prints the memory of driver and workers by tenth of the
search, how many kills there were, and whether both studies hold the same trials, answers and
finalists.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "cli"))

from command_line import finished_trials, rows
from quickstart import write_experiment
from test_ray_runs import actors, content


def start(file: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    """The run, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "evomerge", "run", str(file), "--out", str(run_dir)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def mebibytes(process: psutil.Process) -> float:
    """Memory that the process has to itself."""
    try:
        return process.memory_full_info().uss / 2**20
    except psutil.Error:
        return float("nan")


def watch(process: subprocess.Popen[bytes], run_dir: Path, every: float, total: int) -> int:
    """Kill workers until the run ends, and print memory by tenth; gives the kills."""
    rng = random.Random(1)
    driver = psutil.Process(process.pid)
    kills, tenth = 0, 0
    due = time.monotonic() + 30
    while process.poll() is None:
        done = finished_trials(run_dir)
        if done * 10 // total > tenth:
            tenth = done * 10 // total
            crew = ", ".join(f"{mebibytes(actor):.0f}" for actor in actors(driver))
            print(f"{done:6d} trials: driver {mebibytes(driver):.0f} MiB, workers {crew} MiB")
        alive = actors(driver) if time.monotonic() > due and done else []
        if alive:
            rng.choice(alive).send_signal(signal.SIGKILL)
            kills += 1
            due = time.monotonic() + rng.expovariate(1 / every)
        time.sleep(0.2)
    return kills


def main() -> None:
    """Print what was lost and what grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=2_000)
    parser.add_argument("--every", type=float, default=12.0, help="seconds between kills")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        changes = {
            "budget": {"candidates": given.candidates},
            "optimizer": {"name": "nsga2", "population": 24, "ahead": 2 * given.workers},
        }
        crew = {"count": given.workers}
        disturbed = write_experiment(home / "disturbed", **changes, workers=crew)
        begun = time.monotonic()
        process = start(disturbed, home / "a")
        kills = watch(process, home / "a", given.every, given.candidates)
        print(f"exit code {process.returncode} after {time.monotonic() - begun:.0f} s")
        told = rows(home / "a", "SELECT what FROM incidents")
        print(f"{kills} kills, {sum('died' in what for (what,) in told)} noted as incidents")
        undisturbed = write_experiment(home / "undisturbed", **changes)
        begun = time.monotonic()
        start(undisturbed, home / "b").wait()
        print(f"undisturbed, one worker: {time.monotonic() - begun:.0f} s")
        one, other = content(home / "a"), content(home / "b")
        failed = sum(trial[5] == "failed" for trial in one[0])
        print(f"{len(one[0])} trials, {failed} failed; the same as undisturbed: {one == other}")
        size = (home / "a" / "study.db").stat().st_size
        print(f"study.db: {size / len(one[0]):,.0f} bytes a trial")


if __name__ == "__main__":
    main()
