"""The real command line in a process of its own, and how far its run has come."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

DEADLINE = 240


def heed_interrupts() -> None:
    """A CI system may start its jobs with SIGINT ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*arguments: str, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "evomerge", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=heed_interrupts,
    )


def rows(run_dir: Path, sql: str) -> list:
    """What a query of the study gives now; nothing while there is no study."""
    try:
        with sqlite3.connect(f"file:{run_dir / 'study.db'}?mode=ro", uri=True) as db:
            return db.execute(sql).fetchall()
    except sqlite3.Error:
        return []


def finished_trials(run_dir: Path) -> int:
    return len(rows(run_dir, "SELECT number FROM trials WHERE status != 'open'"))


def wait_for_trials(process: subprocess.Popen, run_dir: Path, count: int) -> None:
    end = time.monotonic() + DEADLINE
    while process.poll() is None and finished_trials(run_dir) < count:
        assert time.monotonic() < end, "the search makes no progress"
        time.sleep(0.01)
