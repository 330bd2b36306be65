"""Errors of every estimator of a bank's mean on real response matrices of language models.

    python benchmarks/estimators.py [--folder ../shared/data/responses] [--held-out 0.1]
        [--items 20 50] [--repetitions 10] [--estimators factor ridge …] [--csv table.csv]
        [--models 12] [--missing 0.3] [--join-seeds]

In each repetition whole families of models are held out, up to the given share of all models;
estimators are calibrated on the others and predict the held-out models' means over the bank
from their answers to n items, chosen by the estimator's own selection. Printed by estimator,
matrix and n: mean absolute error, its ratio to that of the mean of n random items, bias,
coverage of value ± 1.96 standard errors, and Spearman's rank correlation among the held-out
models of a repetition.
"""

import argparse
import csv
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.registry import ESTIMATORS, fit_estimator
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.selection.registry import SELECTIONS, select

ROOT = Path(__file__).resolve().parent.parent
FILES = ("farel", "zeroeval_crux", "evalperf", "lcb_generation")
RANDOM_DRAWS = 40  # of items for the plain mean, whose error every ratio divides by
SAMPLE_DRAWS = 4  # of items for other estimators on random samples
ENDPOINTS = 4
COLUMNS = ("matrix", "items", "estimator", "mae", "ratio", "bias", "coverage", "rank")


def encoder_family(name: str, *, seeds_apart: bool) -> str:
    """Family of a nlu10 row: the encoder, of which 5 checkpoints were scored.

    Args:
        name: Of the row, e.g. ``roberta-base-10M-2_25``.
        seeds_apart: Whether encoders pretrained on equal data from other seeds, whose names
            differ in a last ``-1``, ``-2``, ``-3``, are families of their own.
    """
    encoder = re.sub(r"_(1|10|25|50|best)$", "", name)
    return encoder if seeds_apart else re.sub(r"-[123]$", "", encoder)


def leading_word(name: str) -> str:
    """Family of any other row: the first letters of the model's name, without its owner."""
    model = name.lower().rpartition("--")[2].removesuffix("-sys")
    found = re.match(r"(?:meta-)?([a-z]+)", model)
    return found.group(1) if found else model


def read_matrices(folder: Path, *, seeds_apart: bool) -> Iterator[tuple[str, ResponseMatrix]]:
    """The 14 matrices by name; of lcb_generation the items that every model answered."""
    for name in FILES:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            values = file["responses"].astype(np.float64)
            if name == "lcb_generation":
                values = values[:, file["complete_items"]]
            models = [str(model) for model in file["models"]]
        yield name, matrix(values, models, [leading_word(model) for model in models])
    with np.load(folder / "nlu10.npz", allow_pickle=False) as file:
        values, datasets = file["responses"].astype(np.float64), file["dataset"]
        models = [str(model) for model in file["models"]]
    families = [encoder_family(model, seeds_apart=seeds_apart) for model in models]
    for dataset in np.unique(datasets):
        yield f"nlu/{dataset}", matrix(values[:, datasets == dataset], models, families)


def matrix(values: np.ndarray, models: list[str], families: list[str]) -> ResponseMatrix:
    """A response matrix whose items are numbered."""
    items = tuple(str(item) for item in range(values.shape[1]))
    return ResponseMatrix(tuple(models), items, values, tuple(families))


def held_out_rows(
    families: Sequence[str], share: float, rng: np.random.Generator
) -> np.ndarray:
    """Rows of families drawn one by one until they are at least this share of all rows."""
    held = np.zeros(len(families), dtype=bool)
    for family in rng.permutation(sorted(set(families))):
        held |= np.array(families) == family
        if held.mean() >= share:
            break
    return np.flatnonzero(held)


def endpoints(means: np.ndarray) -> tuple[int, ...]:
    """Rows spread over the models' levels, to stand for the sources of a merge.

    No row of these matrices is a merge, so mp-IRT's assumption does not hold here.
    """
    quantiles = np.linspace(0.2, 0.95, ENDPOINTS)
    ranked = np.argsort(means, kind="stable")
    return tuple(int(ranked[int(q * (len(means) - 1))]) for q in quantiles)


@dataclass
class Score:
    """What one estimator did on one matrix at one number of items, over all repetitions."""

    errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)

    def add(self, values: np.ndarray, standard_errors: np.ndarray, truth: np.ndarray) -> None:
        """One calibration's held-out models."""
        self.errors += (values - truth).tolist()
        # rounding of an exact estimate is no miss
        self.covered += (abs(values - truth) <= 1.96 * standard_errors + 1e-9).tolist()
        if len(truth) > 2:
            self.ranks.append(spearman(values, truth))

    def row(self, baseline: float) -> tuple[float, float, float, float, float]:
        """MAE, its ratio to the plain mean's, bias, coverage, rank correlation."""
        mae = float(np.mean(np.abs(self.errors)))
        bias, coverage = float(np.mean(self.errors)), float(np.mean(self.covered))
        return mae, mae / baseline, bias, coverage, float(np.mean(self.ranks))


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; 0 where all are tied."""
    a, b = (
        (x[:, None] > x).sum(axis=1) + 0.5 * (x[:, None] == x).sum(axis=1)
        for x in (left, right)
    )
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def score_matrix(
    found: ResponseMatrix, names: Sequence[str], options: argparse.Namespace
) -> dict[tuple[int, str], Score]:
    """Every repetition of every estimator on one matrix, by number of items and estimator."""
    counts = [n for n in options.items if n < len(found.items)]
    scores = {(n, name): Score() for n in counts for name in ("mean", *names)}
    for repetition in range(options.repetitions if counts else 0):
        rng = np.random.default_rng([options.seed, repetition])
        held = held_out_rows(found.families, options.held_out, rng)
        kept = np.setdiff1d(np.arange(len(found.models)), held)
        if options.models:
            kept = np.sort(rng.choice(kept, min(options.models, len(kept)), replace=False))
        train = found.rows(kept)
        if options.missing:
            train = with_missing(train, options.missing, rng)
        calibration = TaskCalibration(train, endpoints(np.nanmean(train.values, axis=1)))
        for name in dict.fromkeys(("mean", *names)):
            # a stream of its own, so that a run of some estimators gives the rows of a full one
            own = np.random.default_rng([options.seed, repetition, [*ESTIMATORS].index(name)])
            draw(scores, name, calibration, found.values[held], own)
    return scores


def with_missing(
    train: ResponseMatrix, share: float, rng: np.random.Generator
) -> ResponseMatrix:
    """The matrix without this share of its responses; each model and item keeps one."""
    values = np.where(rng.random(train.values.shape) < share, np.nan, train.values)
    values[:, 0] = train.values[:, 0]
    row = np.arange(values.shape[1]) % len(values)
    values[row, np.arange(values.shape[1])] = train.values[row, np.arange(values.shape[1])]
    return ResponseMatrix(train.models, train.items, values, train.families)


def draw(
    scores: dict[tuple[int, str], Score],
    name: str,
    calibration: TaskCalibration,
    held: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Select, fit and predict; estimators on random samples several times."""
    entry = ESTIMATORS[name]
    counts = sorted({n for n, scored in scores if scored == name})
    sampled = SELECTIONS[entry.selection].random_sample
    draws = (RANDOM_DRAWS if name == "mean" else SAMPLE_DRAWS) if sampled else 1
    truth = held.mean(axis=1)
    for _ in range(draws):
        selection = select(entry.selection, calibration, max(counts), rng)
        estimator = fit_estimator(name, calibration, selection, rng)
        for n in counts:
            items = selection.order[:n]
            found = [estimator.estimate(items, row[items]) for row in held]
            values = np.array([estimate.value for estimate in found])
            spread = np.array([estimate.standard_error for estimate in found])
            scores[n, name].add(values, spread, truth)


def summary(rows: list[dict[str, object]], items: Sequence[int]) -> None:
    """Averages over the matrices, and the worst one's ratio."""
    print(f"\n{'':26s}  items  MAE    ratio  worst  coverage (least, most)  rank")
    for name in dict.fromkeys(str(row["estimator"]) for row in rows):
        for n in items:
            mine = [row for row in rows if row["estimator"] == name and row["items"] == n]
            if not mine:
                continue
            column = {c: np.array([row[c] for row in mine], dtype=float) for c in COLUMNS[3:]}
            cover = column["coverage"]
            print(
                f"{name:14s} {len(mine):2d} matrices {n:6d}  {column['mae'].mean():.4f} "
                f"{column['ratio'].mean():6.3f} {column['ratio'].max():6.2f} "
                f"{cover.mean():7.3f} ({cover.min():.2f}, {cover.max():.2f})"
                f"{column['rank'].mean():12.3f}"
            )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared/data/responses")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the models")
    parser.add_argument("--items", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=[*ESTIMATORS])
    parser.add_argument("--matrices", nargs="+", help="only those whose names contain these")
    parser.add_argument("--missing", type=float, default=0.0, help="share taken out at random")
    parser.add_argument("--models", type=int, help="calibrate on this many drawn at random")
    parser.add_argument(
        "--join-seeds", action="store_true", help="nlu10: pretraining seeds are one family"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    options = arguments()
    if not (options.folder / "nlu10.npz").is_file():
        print(f"skipped: no response matrices in {options.folder.resolve()} (--folder)")
        return
    names = [name for name in options.estimators if name != "mean"]
    rows: list[dict[str, object]] = []
    started = time.perf_counter()
    print(f"{'matrix':22s} items estimator       MAE    ratio    bias  coverage  rank")
    for matrix_name, found in read_matrices(options.folder, seeds_apart=not options.join_seeds):
        if options.matrices and not any(part in matrix_name for part in options.matrices):
            continue
        scores = score_matrix(found, names, options)
        for (n, name), score in scores.items():
            baseline = float(np.mean(np.abs(scores[n, "mean"].errors)))
            figures = score.row(baseline)
            rows.append(dict(zip(COLUMNS, (matrix_name, n, name, *figures), strict=True)))
            mae, ratio, bias, coverage, rank = figures
            print(
                f"{matrix_name:22s} {n:4d}  {name:14s} {mae:.4f} {ratio:7.2f} {bias:+8.4f} "
                f"{coverage:8.2f} {rank:7.2f}"
            )
        sys.stdout.flush()
    summary(rows, options.items)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
