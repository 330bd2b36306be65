"""Driver time per candidate: ask, decode, record durably, tell, with evaluation cut out.

    python benchmarks/driver.py [--candidates 10000] [--optimizer nsga2]

Runs a whole search over a closed-form landscape in a temporary run directory and prints, for
every tenth of it, the milliseconds a candidate costs the driver. The bar is 5 ms, flat as the
history grows.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from landscapes import LandscapeEvaluate, LandscapeStudy, meta, objectives

from evomerge.search.budget import Budget
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Job, JobResult


class Timed(LandscapeEvaluate):
    """Notes when each evaluation begins and how long all of them took."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[float] = []
        self.inside = [0.0]

    def __call__(self, job: Job) -> JobResult:
        """Answer, on the clock."""
        start = time.perf_counter()
        result = super().__call__(job)
        self.started.append(start)
        self.inside.append(self.inside[-1] + time.perf_counter() - start)
        return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--optimizer", default="nsga2", choices=("nsga2", "cma_es", "random"))
    arguments = parser.parse_args()
    aims = objectives(1 if arguments.optimizer == "cma_es" else 2)
    timed = Timed()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        with StudyStore.create(Path(folder), meta(aims, {})) as store:
            study = LandscapeStudy(store, arguments.optimizer, {}, aims, timed)
            study.search(Budget(candidates=arguments.candidates)).run()
        size = (Path(folder) / "study.db").stat().st_size
        start = time.perf_counter()
        with StudyStore.open(Path(folder)) as store:
            LandscapeStudy(store, arguments.optimizer, {}, aims).search(Budget(candidates=1))
        replay = time.perf_counter() - start
    step = max(1, arguments.candidates // 10)
    print("candidates        driver ms each")
    for first in range(0, arguments.candidates, step):
        last = min(first + step, len(timed.started) - 1)
        wall = timed.started[last] - timed.started[first]
        inside = timed.inside[last] - timed.inside[first]
        print(f"{first:6d} – {last:6d}   {1000 * (wall - inside) / (last - first):.2f}")
    print(f"study.db: {size / arguments.candidates:,.0f} bytes a candidate")
    print(f"replay on resume: {1000 * replay / arguments.candidates:.2f} ms a candidate")


if __name__ == "__main__":
    main()
