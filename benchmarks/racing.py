"""What cheaper fitness costs: the same search with few items, calibrated estimates and races.

    python benchmarks/racing.py [--landscape FILE] [--seeds 10] [--candidates 300]

Searches run on a frozen landscape (experiments/landscapes), whose models' answers to every item
are known, with the real optimizer, estimators, race and store. Every row is the median over
seeds. Item evaluations include sources, baselines and calibration; "search" counts what the
search spent, "with final" adds the re-scoring of the finalists on validation items, which a
winner is chosen by. "lost" is in points of test accuracy against full-benchmark fitness with
the same seeds, with a 95 % interval of its mean over seeds (paired, normal).
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.core.objectives import Objective
from evomerge.core.streams import derived_seed
from evomerge.experiment.fitness import calibration, is_calibrated, plain_items, random_fitness
from evomerge.experiment.landscape import FrozenLandscape, GridSpace
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.estimate import MeanEstimator
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts, Search
from evomerge.search.observer import Observer
from evomerge.search.scoring import Scoring
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Evaluation
from evomerge.workers.inline import InlineWorkers

LANDSCAPE = Path(__file__).parent.parent / "experiments/landscapes/quickstart.npz"

FULL = "mean of all items"


def _mean(search: Any, **more: Any) -> Mapping[str, Any]:
    return {"items": {"search": search, **more}}


def _ppi(bank: int, search: Any, **more: Any) -> Mapping[str, Any]:
    """Prediction-powered estimates from the sources' answers to a bank of random items."""
    return {
        "estimator": "ppi_endpoints",
        "calibration": {"merges": 0},
        "items": {"bank": bank, "search": search, "rotate": True},
        **more,
    }


def _calibrated(estimator: str, search: Any, **more: Any) -> Mapping[str, Any]:
    """Calibrated on sources, baselines and the first 6 candidates."""
    return {
        "estimator": estimator,
        "calibration": {"merges": 6},
        "items": {"bank": 100, "search": search},
        **more,
    }


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    FULL: _mean("all"),
    "mean of 100": _mean(100),
    "mean of 36": _mean(36),
    "mean of 12": _mean(12),
    "mean of 12, rotating": _mean(12, rotate=True),
    "mean of 6, rotating": _mean(6, rotate=True),
    "mean, race 4-16, rotating": {**_mean([4, 16], rotate=True), "confidence": 0.6},
    "ppi of 24, bank 300, rotating": _ppi(300, 24),
    "ppi of 12, bank 200, rotating": _ppi(200, 12),
    "ppi of 9, bank 150, rotating": _ppi(150, 9),
    "ppi of 6, bank 100, rotating": _ppi(100, 6),
    "ppi of 4, bank 100, rotating": _ppi(100, 4),
    "ppi of 2, bank 100, rotating": _ppi(100, 2),
    "ppi, race 4-12-36, bank 100, rotating": _ppi(100, [4, 12, 36], confidence=0.6),
    "factor of 12": _calibrated("factor", 12),
    "factor of 6": _calibrated("factor", 6),
    "factor, race 4-12-all": _calibrated("factor", [4, 12, "all"]),
    "gmp-IRT of 12 (MERGE³)": _calibrated("gmp_irt", 12),
    "p-IRT adaptive, race 4-12-36": _calibrated("p_irt", [4, 12, 36], adaptive=True),
}


@dataclass(frozen=True)
class Outcome:
    """What one search came to."""

    test: float
    search_items: int
    all_items: int


def main() -> None:
    """Run every configuration with every seed and print the table."""
    options = _arguments()
    if not options.landscape.is_file():
        raise SystemExit(f"{options.landscape}: no such file; see experiments/landscapes.")
    landscape = FrozenLandscape.read(options.landscape, nearest=True)
    names = options.only or list(CONFIGS)
    found = {
        name: [run(landscape, CONFIGS[name], seed, options) for seed in range(options.seeds)]
        for name in dict.fromkeys([FULL, *names])
    }
    best = max(_test(landscape, point) for point in range(len(landscape.weights)))
    print(
        f"{options.landscape.name}: {len(landscape.weights)} merges, best on test {best:.3f}; "
        f"{options.candidates} candidates by {options.optimizer}, {options.seeds} seeds"
    )
    _print(found, options.csv)


def run(
    landscape: FrozenLandscape, fitness: Mapping[str, Any], seed: int, options: Any
) -> Outcome:
    """One search."""
    tasks = list(landscape.responses)
    spec = ExperimentSpec.model_validate(
        {
            "name": "racing",
            "seed": seed,
            "models": {"base": "-", "experts": dict.fromkeys(landscape.experts, "-")},
            "space": {"operator": "task_arithmetic", "experts": {"weight": [0, 1]}},
            "tasks": {"use": tasks},
            "fitness": {"finalists": options.finalists, **fitness},
            "objectives": [{"maximize": "accuracy", "tasks": tasks}],
            "budget": {"candidates": options.candidates},
        }
    )
    goal = Objective("accuracy", dict.fromkeys(tasks, 1 / len(tasks)))
    space = GridSpace(landscape)
    with tempfile.TemporaryDirectory() as folder:
        meta = {"settings_digest": "frozen"}
        with StudyStore.create(Path(folder), meta) as store:
            parts = Parts(
                space=space,
                optimizer=make_optimizer(
                    options.optimizer,
                    {},
                    SearchProblem(space.genes, 1, derived_seed(seed, "optimizer"), []),
                ),
                scoring=_scoring(landscape, spec, (goal,)),
                workers=InlineWorkers(lambda _: Evaluation(landscape)),
                store=store,
                observer=Observer(),
            )
            Search(parts, Budget(candidates=options.candidates)).run()
            search_items = sum(t.item_evaluations for t in store.trials())
            finalists = store.meta("finalists")
            answered = store.count_responses()
            tested = len(finalists["test"]) * _count(landscape, "test")
            winner = next(n for n in finalists["test"] if store.trial(n).kind == "candidate")
            tested_items = landscape.splits["test"]
            test = landscape.values(store.trial(winner).recipe, tested_items, (goal,))[0]
    return Outcome(test, search_items, answered - tested)


def _scoring(
    landscape: FrozenLandscape, spec: ExperimentSpec, objectives: tuple[Objective, ...]
) -> Scoring:
    size = spec.fitness.items.bank
    banks = {
        task: tuple(
            sorted(
                np.random.default_rng([spec.seed, k])
                .permutation(items)[: None if size == "all" else size]
                .tolist()
            )
        )
        for k, (task, items) in enumerate(landscape.splits["search"].items())
    }
    sizes = {task: len(bank) for task, bank in banks.items()}
    made = is_calibrated(spec.fitness)
    return Scoring(
        objectives=objectives,
        estimator=MeanEstimator(sizes),
        items={**landscape.splits, "search": plain_items(spec, banks)},
        versions=dict.fromkeys(banks, "frozen"),
        settings="frozen",
        finalists=spec.fitness.finalists,
        fitness=None
        if made
        else random_fitness(spec, banks, MeanEstimator(sizes, cautious=True)),
        calibration=calibration(spec, banks, objectives, None) if made else None,
        confidence=spec.fitness.confidence,
    )


def _count(landscape: FrozenLandscape, split: str) -> int:
    return sum(map(len, landscape.splits[split].values()))


def _test(landscape: FrozenLandscape, point: int) -> float:
    items = landscape.splits["test"]
    return float(
        np.mean([landscape.responses[task][point, list(items[task])].mean() for task in items])
    )


def _print(found: Mapping[str, Sequence[Outcome]], path: Path | None) -> None:
    full = found[FULL]
    header = ["fitness", "search items", "ratio", "with final", "ratio", "test", "lost", "95 %"]
    rows = []
    for name, outcomes in found.items():
        search = float(np.median([o.search_items for o in outcomes]))
        final = float(np.median([o.all_items for o in outcomes]))
        lost = 100 * (np.array([o.test for o in full]) - np.array([o.test for o in outcomes]))
        half = 1.96 * lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else float("nan")
        rows.append(
            [
                name,
                f"{search:,.0f}",
                f"{np.median([o.search_items for o in full]) / search:.0f}×",
                f"{final:,.0f}",
                f"{np.median([o.all_items for o in full]) / final:.0f}×",
                f"{np.mean([o.test for o in outcomes]):.3f}",
                f"{lost.mean():+.2f}",
                f"± {half:.2f}",
            ]
        )
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        print(
            "  ".join(
                c.ljust(w) if k == 0 else c.rjust(w)
                for k, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    if path is not None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--landscape", type=Path, default=LANDSCAPE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--optimizer", default="cma_es")
    parser.add_argument("--finalists", type=int, default=16)
    parser.add_argument("--only", nargs="*", choices=list(CONFIGS))
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
