"""A thousand simulated workers against the real driver and the real store.

    python benchmarks/scale.py [--candidates 10000] [--workers 1000] [--optimizer nsga2]
                               [--population 200] [--ahead 0] [--profile]

Evaluations are drawn: log-normal seconds with a mean of 30, one in a hundred fails. They pass
in virtual time, to which the driver's own real time is added, as workers wait for it.
Everything else is real: proposing, decoding, recording to SQLite on disk, telling. Printed are
the driver's processor and wall milliseconds a candidate by tenth of the history (the bar is 5),
its memory, the bytes that a trial takes on disk, how busy the workers were, how long the replay
of a resumed study takes, and what noting the state of every worker costs.
"""

import argparse
import cProfile
import heapq
import os
import pstats
import sqlite3
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from landscapes import LandscapeEvaluate, LandscapeStudy, meta, objectives

from evomerge.core.outcomes import Failed
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.search.budget import Budget
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Job, JobResult, Workers

MEAN_SECONDS, SPREAD = 30.0, 0.5
FAILING = 0.01
PAGE = os.sysconf("SC_PAGE_SIZE")

SPACE = {
    "operator": "ties",
    "layer_groups": 4,
    "components": ["self_attn", "mlp"],
    "experts": {"weight": [0, 1], "density": [0.1, 1]},
    "merge": {"lambda": [0.3, 2.0], "normalize": False},
}
"""Four groups of layers by three components by three experts: 84 genes."""


@dataclass(frozen=True)
class Mark:
    """The driver as it stood when it asked for a result."""

    wall: float
    cpu: float
    now: float
    busy: float
    """Virtual seconds of all workers together."""

    memory: int


@dataclass
class SimulatedWorkers(Workers):
    """Workers in virtual time; the first job submitted is the first one taken."""

    count: int
    rng: np.random.Generator
    evaluate: LandscapeEvaluate = field(default_factory=LandscapeEvaluate)
    marks: list[Mark] = field(default_factory=list)
    now: float = 0.0
    """Virtual seconds."""

    wall: float = 0.0
    """Real seconds of the driver, without those spent in here."""

    cpu: float = 0.0

    def __post_init__(self) -> None:
        """Begin with every worker free."""
        self._running: list[tuple[float, int, Job]] = []
        self._waiting: deque[Job] = deque()
        self._free = self.count
        self._begun = 0.0  # seconds of all jobs begun
        self._left = (time.perf_counter(), time.process_time())

    @property
    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    @property
    def plan(self) -> tuple[str, ...]:
        """How many there are."""
        return (f"{self.count} simulated workers",)

    @property
    def capacity(self) -> int:
        """All of them."""
        return self.count

    def submit(self, job: Job) -> None:
        """Begin the job, or queue it."""
        self._enter()
        self._waiting.append(job)
        self._assign()
        self._leave()

    def finished(self, wait: float | None = None) -> tuple[Job, JobResult] | None:
        """The job that ends first; virtual time leaps there, so nobody waits."""
        del wait
        self._enter()
        self._mark()
        if not self._running:
            raise LookupError("no job is open")
        end, _, job = heapq.heappop(self._running)
        self.now = max(self.now, end)
        self._free += 1
        self._assign()
        fails = job.number > self.count_of_plain and self.rng.random() < FAILING
        result = Failed("evaluate", "drawn to fail") if fails else self.evaluate(job)
        self._leave()
        return job, result

    count_of_plain: int = 7

    def states(self) -> tuple[WorkerState, ...]:
        """All busy, with figures that change from look to look."""
        return tuple(
            WorkerState(f"worker {n}", f"node {n // 8}", "busy", n, 1, 0, self.now, self.now)
            for n in range(1, self.count + 1)
        )

    def incidents(self) -> tuple[Incident, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing is held."""

    def _assign(self) -> None:
        while self._free and self._waiting:
            job = self._waiting.popleft()
            mean = np.log(MEAN_SECONDS) - SPREAD**2 / 2
            seconds = float(self.rng.lognormal(mean, SPREAD))
            self._begun += seconds
            self._free -= 1
            heapq.heappush(self._running, (self.now + seconds, job.number, job))

    def _enter(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.wall += wall - self._left[0]
        self.cpu += cpu - self._left[1]
        self.now += wall - self._left[0]

    def _leave(self) -> None:
        self._left = (time.perf_counter(), time.process_time())

    def _mark(self) -> None:
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
        ahead = sum(max(0.0, end - self.now) for end, _, _ in self._running)
        busy = self._begun - ahead
        self.marks.append(Mark(self.wall, self.cpu, self.now, busy, memory))


def arguments_given() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--optimizer", default="nsga2", choices=("nsga2", "random"))
    parser.add_argument("--population", type=int, default=200)
    parser.add_argument("--ahead", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Simulate a search and print what it cost."""
    given = arguments_given()
    options = (
        {"population": given.population, "ahead": given.ahead}
        if given.optimizer == "nsga2"
        else {}
    )
    workers = SimulatedWorkers(given.workers, np.random.default_rng(1))

    def study(store: StudyStore) -> LandscapeStudy:
        return LandscapeStudy(
            store,
            given.optimizer,
            options,
            objectives(),
            workers=lambda _: workers,
            space=SPACE,
        )

    print(
        f"{given.optimizer} {options}, {given.workers} workers, {given.candidates} candidates"
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        with StudyStore.create(Path(folder), meta(objectives(), {})) as store:
            profile = cProfile.Profile()
            store.sessions.start({})
            search = study(store).search(Budget(candidates=given.candidates))
            if given.profile:
                profile.enable()
            search.run()
            profile.disable()
            show_costs(workers.marks, given)
            show_looks(store, workers)
        show_sizes(Path(folder) / "study.db", given.candidates)
        show_replay(Path(folder), study, given.candidates)
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def show_costs(marks: list[Mark], given: argparse.Namespace) -> None:
    """Driver time and memory by tenth, and how busy the workers were."""
    first = SimulatedWorkers.count_of_plain
    marks = marks[first : first + given.candidates]
    step = max(1, given.candidates // 10)
    print("candidates        cpu ms   wall ms   busy %   memory MiB")
    for start in range(0, given.candidates, step):
        a, b = marks[start], marks[min(start + step, len(marks) - 1)]
        done = min(step, len(marks) - 1 - start)
        share = (b.busy - a.busy) / max(1e-9, (b.now - a.now) * given.workers)
        print(
            f"{start:6d} – {start + done:6d}   {1000 * (b.cpu - a.cpu) / done:6.2f}"
            f"   {1000 * (b.wall - a.wall) / done:7.2f}   {100 * share:6.1f}"
            f"   {b.memory / 2**20:8.0f}"
        )
    begin, end = marks[0], marks[-1]
    hours = (end.now - begin.now) / 3600
    share = (end.busy - begin.busy) / ((end.now - begin.now) * given.workers)
    print(f"the search would take {hours:.2f} h; workers busy {100 * share:.1f} % of it")


def show_looks(store: StudyStore, workers: SimulatedWorkers) -> None:
    """What noting the state of all workers costs."""
    times = []
    for _ in range(5):
        workers.now += 1
        start = time.perf_counter()
        store.sessions.note_workers(workers.states())
        times.append(time.perf_counter() - start)
    print(f"noting the states of {workers.count} workers: {1000 * min(times):.1f} ms a look")


def show_sizes(file: Path, candidates: int) -> None:
    """Bytes a candidate, and where they are."""
    with sqlite3.connect(file) as db:
        print(f"study.db: {file.stat().st_size / candidates:,.0f} bytes a candidate", end="; ")
        parts = []
        for table, columns in (
            ("trials", ("recipe", "genome", "estimates", "timings")),
            ("responses", ("items", "answers", "recipe", "version", "settings")),
            ("events", ("trials",)),
        ):
            for column in columns:
                (size,) = db.execute(f"SELECT sum(length({column})) FROM {table}").fetchone()
                parts.append((size / candidates, f"{table}.{column}"))
        for size, name in sorted(parts, reverse=True)[:6]:
            print(f"{name} {size:,.0f}", end=", ")
        print("the rest is numbers, keys and free room")


def show_replay(folder: Path, study: Any, candidates: int) -> None:
    """How long a resumed study takes to come to where it stood."""
    with StudyStore.open(folder) as store:
        start = time.perf_counter()
        study(store).search(Budget(candidates=1))
        seconds = time.perf_counter() - start
    print(
        f"replay on resume: {seconds:.1f} s, {1000 * seconds / candidates:.2f} ms a candidate"
    )


if __name__ == "__main__":
    main()
