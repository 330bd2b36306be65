"""Runs the comparison: one CSV a method, finished runs skipped.

The README has the commands. Run from the repository's root, as a module.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import torch

from experiments.m2n2_digits import digits_network, methods
from experiments.m2n2_digits.digits_network import Vector
from experiments.m2n2_digits.methods import Bed, Budget, NicheRules, Progress
from experiments.m2n2_digits.published_seeds import published_networks

RESULTS = Path(__file__).parent / "results"
BUDGETS = {"scratch": Budget(50_000, 1_000), "pretrained": Budget(10_000, 200)}
MUTATION = {"scratch": 0.01, "pretrained": 0.0}
BRUTE_FORCE = "brute force"
COLUMNS = ["pair", "run", *(field.name for field in fields(Progress))]

Search = Callable[[Bed, float, Budget, np.random.Generator], Iterator[Progress]]


def _niches(rules: NicheRules) -> Search:
    return lambda bed, mutation, budget, rng: methods.niches(bed, rules, mutation, budget, rng)


METHODS: dict[str, dict[str, Search]] = {
    "scratch": {
        "M2N2": _niches(NicheRules()),
        "CMA-ES": lambda bed, _, budget, rng: methods.cma_es(bed, budget, rng),
        "M2N2 without crossover": _niches(NicheRules(crossover=False)),
        "GA without crossover": _niches(
            NicheRules(alpha=0.0, attraction=False, crossover=False)
        ),
        "GA": _niches(NicheRules(alpha=0.0, attraction=False)),
        "MAP-Elites": methods.map_elites,
    },
    "pretrained": {
        "M2N2": _niches(NicheRules()),
        "M2N2 without attraction": _niches(NicheRules(attraction=False)),
        "MAP-Elites": methods.map_elites,
        "M2N2 without split point": _niches(NicheRules(split_point=False)),
        "GA": _niches(NicheRules(alpha=0.0, attraction=False)),
        BRUTE_FORCE: lambda bed, _, budget, __: iter(
            [methods.brute_force(bed, budget.evaluations)]
        ),
    },
}


def result_file(start: str, method: str) -> Path:
    """Return the CSV that holds all runs of a method."""
    return RESULTS / f"{start}_{method.lower().replace(' ', '_')}.csv"


def read_results(path: Path) -> list[dict[str, float]]:
    """Return the rows of a result file, none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(cell) for name, cell in row.items()} for row in rows]


def _append(path: Path, pair: int, run: int, progress: list[Progress]) -> None:
    path.parent.mkdir(exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        for item in progress:
            cells = [f"{x:.5g}" if isinstance(x, float) else x for x in astuple(item)]
            writer.writerow([pair, run, *cells])


def seed_networks(start: str, pair: int, run: int) -> tuple[Vector, Vector]:
    """Return the two networks a run starts from.

    From scratch each run has its own two random ones, the same for every method. Pre-trained
    pairs are shared by all runs: pair 0 is the published code's, the others are drawn here.
    """
    if start == "scratch":
        rng = np.random.default_rng([run, 0])
        return digits_network.random_network(rng), digits_network.random_network(rng)
    rng = np.random.default_rng([pair, 2])
    untrained = (
        published_networks()
        if pair == 0
        else (digits_network.random_network(rng), digits_network.random_network(rng))
    )
    return digits_network.train_pair(*untrained, digits_network.load()[0])


def run_all(start: str, pairs: range, runs: int) -> None:
    """Run what is missing, all methods of a pair and run before the next one."""
    train, test = digits_network.load()
    for pair in pairs:
        for run in range(runs):
            bed = Bed(train, test, seed_networks(start, pair, run))
            for method, search in METHODS[start].items():
                path = result_file(start, method)
                finished = {(row["pair"], row["run"]) for row in read_results(path)}
                if (pair, run) in finished or (method == BRUTE_FORCE and run > 0):
                    continue
                began = time.monotonic()
                rng = np.random.default_rng([run, 1])
                progress = list(search(bed, MUTATION[start], BUDGETS[start], rng))
                _append(path, pair, run, progress)
                print(
                    f"{time.strftime('%H:%M:%S')} {start} pair {pair} run {run} {method}: "
                    f"test {progress[-1].test:.4f} train {progress[-1].train:.4f} "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("start", choices=list(METHODS))
    parser.add_argument("--runs", type=int, default=10, help="runs of each method and pair")
    parser.add_argument(
        "--pairs",
        type=int,
        nargs=2,
        default=(0, 1),
        metavar=("FROM", "TO"),
        help="pre-trained pairs, the end excluded; 0 is the published one",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run_all(arguments.start, range(*arguments.pairs), arguments.runs)


if __name__ == "__main__":
    main()
