"""Two Ray workers against one on two cores, one thread each, and against no Ray at all.

    python benchmarks/workers.py [--experiment FILE] [--jobs 24] [--rounds 5] [--workers 2]

Every round merges and scores the same candidates three times, in an order that changes from
round to round: in this process, on one worker, on all workers. The ratios are taken within a
round, so what else the machine does meets all three alike. The bar is 1.8 for two workers.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evomerge.core.streams import stream
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.crew import WorkerSetup
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.spaces.genes import genome_from_unit
from evomerge.workers.contract import Evaluate, Job, Workers
from evomerge.workers.ray_options import RayOptions
from evomerge.workers.ray_workers import RayWorkers

ROOT = Path(__file__).resolve().parent.parent


def candidates(prepared: Prepared, count: int) -> list[Job]:
    """Random candidates on every item that sources and baselines answer."""
    rng = stream(0, "benchmark", "workers")
    genes = prepared.space.genes
    return [
        Job(
            number,
            prepared.space.decode(genome_from_unit(genes, rng.random(len(genes)).tolist())),
            prepared.items["search"],
        )
        for number in range(count)
    ]


def seconds_inline(evaluate: Evaluate, jobs: Sequence[Job]) -> float:
    """Wall time of all jobs in this process."""
    start = time.perf_counter()
    for job in jobs:
        evaluate(job)
    return time.perf_counter() - start


def seconds_on_ray(workers: Workers, jobs: Sequence[Job], at_once: int) -> float:
    """Wall time of all jobs with at most so many of them under way."""
    waiting, is_open = list(jobs), 0
    start = time.perf_counter()
    while waiting or is_open:
        while waiting and is_open < at_once:
            workers.submit(waiting.pop())
            is_open += 1
        workers.finished()
        is_open -= 1
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "experiments" / "quickstart" / "experiment.yaml"
    parser.add_argument("--experiment", type=Path, default=default)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    _, prepared = prepare_file(arguments.experiment, offline=True)
    jobs = candidates(prepared, arguments.jobs)
    evaluate = make_evaluation(prepared).evaluate
    count = arguments.workers
    setup = WorkerSetup.of(prepared, offline=True)
    with RayWorkers(setup, RayOptions(count=count)) as workers:
        seconds_on_ray(workers, jobs[: 2 * count], count)  # until all are ready
        while any(state.condition == "starting" for state in workers.states()):
            seconds_on_ray(workers, jobs[:count], count)
        ways: dict[str, Callable[[], float]] = {
            "in this process": lambda: seconds_inline(evaluate, jobs),
            "1 worker": lambda: seconds_on_ray(workers, jobs, 1),
            f"{count} workers": lambda: seconds_on_ray(workers, jobs, count),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(arguments.rounds):
            order = list(ways)[number % 3 :] + list(ways)[: number % 3]
            for way in order:
                took[way].append(ways[way]())
    print(f"{arguments.rounds} rounds of {len(jobs)} candidates, one thread a process")
    print("                    candidates/s   against 1 worker (median of rounds, least, most)")
    for way, times in took.items():
        ratios = [one / t for one, t in zip(took["1 worker"], times, strict=True)]
        rate = len(jobs) / statistics.median(times)
        print(
            f"{way:18s} {rate:13.2f}   {statistics.median(ratios):.2f}   "
            f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        )


if __name__ == "__main__":
    main()
