"""Score every merge of a grid on every item: a landscape that searches can be compared on.

    python experiments/landscapes/evaluate_grid.py experiments/quickstart/experiment.yaml \
        --levels 9 --highest 0.8 --out experiments/landscapes/quickstart.npz

A grid point is a task-arithmetic merge with one weight an expert. ``--items 30 10 30`` takes so
many search, validation and test items of each task, from the first on, and numbers them anew.
What was scored before an interruption is kept beside the output and not scored again.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

from evomerge.core.recipe import Rule
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.fitness.item_bank import SPLITS
from evomerge.workers.contract import Answered, Job


def main() -> None:
    """Evaluate the grid that the command line names."""
    options = _arguments()
    _, prepared = prepare_file(options.experiment)
    evaluate = make_evaluation(prepared).evaluate
    experts = [source.name for source in prepared.models.experts]
    weights = np.linspace(0.0, options.highest, options.levels).round(6)
    points = list(itertools.product(weights.tolist(), repeat=len(experts)))
    items = _items(prepared, options.items)
    rows = options.out.with_suffix(".rows.jsonl")
    done = _read(rows)
    started = time.monotonic()
    with rows.open("a", encoding="utf-8") as file:
        for number, point in enumerate(points):
            if number in done:
                continue
            result = evaluate(Job(number, _recipe(prepared, experts, point), _flat(items)))
            if not isinstance(result, Answered):
                raise SystemExit(f"grid point {point}: {result.reason}")
            bits = {
                task: "".join(str(int(v)) for v in answered.values["accuracy"])
                for task, answered in result.responses.items()
            }
            file.write(json.dumps({"point": number, "bits": bits}) + "\n")
            file.flush()
            done[number] = bits
            if number % 50 == 0:
                print(
                    f"{number} of {len(points)} after {time.monotonic() - started:.0f} s",
                    flush=True,
                )
    _write(options.out, items, experts, points, done)
    rows.unlink()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--levels", type=int, default=9)
    parser.add_argument("--highest", type=float, default=0.8)
    parser.add_argument("--items", type=int, nargs=len(SPLITS), metavar=SPLITS)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _items(
    prepared: Prepared, counts: list[int] | None
) -> dict[str, dict[str, tuple[int, ...]]]:
    """The items that are put, by task, then split."""
    limits = counts or [None] * len(SPLITS)
    return {
        name: {
            split: task.bank.items(split)[:limit]
            for split, limit in zip(SPLITS, limits, strict=True)
        }
        for name, task in prepared.tasks.items()
    }


def _flat(items: dict[str, dict[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    return {
        task: tuple(k for split in SPLITS for k in own[split]) for task, own in items.items()
    }


def _recipe(prepared: Prepared, experts: list[str], point: tuple[float, ...]):
    rule = Rule(
        "task_arithmetic", {e: {"weight": w} for e, w in zip(experts, point, strict=True)}
    )
    return prepared.models.recipe([rule])


def _read(rows: Path) -> dict[int, dict[str, str]]:
    if not rows.is_file():
        return {}
    lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return {line["point"]: line["bits"] for line in lines}


def _write(
    out: Path,
    items: dict[str, dict[str, tuple[int, ...]]],
    experts: list[str],
    points: list[tuple[float, ...]],
    done: dict[int, dict[str, str]],
) -> None:
    arrays: dict[str, np.ndarray] = {
        "experts": np.array(experts),
        "weights": np.array(points, dtype=np.float32),
        "tasks": np.array(list(items)),
    }
    for name, own in items.items():
        bits = np.array([[c == "1" for c in done[k][name]] for k in range(len(points))])
        arrays[f"{name}/responses"] = np.packbits(bits, axis=1)
        arrays[f"{name}/items"] = np.array(bits.shape[1])
        first = 0
        for split in SPLITS:
            arrays[f"{name}/{split}"] = np.arange(
                first, first + len(own[split]), dtype=np.int32
            )
            first += len(own[split])
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main()
