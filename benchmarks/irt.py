"""IRT fits: seconds for large pools, agreement with girth, and held-out predictions.

    OMP_NUM_THREADS=1 python benchmarks/irt.py [speed] [oracle] [heldout] [--threads 2]
        [--responses FOLDER]

``speed`` fits simulated pools of 400 models × 30 000 items. ``oracle`` compares items with
girth's marginal maximum likelihood on simulated answers. ``heldout`` fits each matrix of a
folder of ``*.npz`` response matrices on three quarters of its models and predicts the others'
means from 60 answers: mean absolute error of p-IRT relative to that of the plain mean of the
60, by number of dimensions.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import girth
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.fit import FitSettings, fit_1pl, fit_2pl
from evomerge.fitness.irt.item_prior import ItemPrior
from evomerge.fitness.irt.model import ItemParameters

SEEN = 60


def simulated(models: int, slopes: np.ndarray, rng: np.random.Generator):
    """Truth, abilities, and 0/1 answers."""
    truth = ItemParameters(slopes, rng.normal(scale=1.3, size=len(slopes)))
    theta = rng.normal(size=(models, slopes.shape[1]))
    p = truth.probabilities(theta)
    return truth, theta, (rng.random(p.shape) < p).astype(np.float64)


def speed(threads: int) -> None:
    """Seconds by model and number of dimensions."""
    print(f"400 models × 30 000 items, threads={threads}")
    print("model  dims  seconds  CPU seconds  iterations  rms error of p")
    for name, dims in (("1PL", 1), ("2PL", 1), ("2PL", 2), ("2PL", 5)):
        rng = np.random.default_rng(0)
        slopes = rng.normal(1.0 if dims == 1 else 0.5, 0.5, size=(30_000, dims))
        if name == "1PL":
            slopes[:] = 1.2
        truth, theta, answers = simulated(400, slopes, rng)
        settings = FitSettings(threads=threads)
        start, busy = time.perf_counter(), time.process_time()
        fit = fit_1pl(answers, settings) if name == "1PL" else fit_2pl(answers, dims, settings)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        off = fit.parameters.probabilities(fit.abilities.theta) - truth.probabilities(theta)
        error = float(np.sqrt(np.mean(off**2)))
        print(
            f"{name}  {dims:5d}  {seconds:7.1f}  {busy:11.1f}  {fit.iterations:10d}"
            f"  {error:14.4f}"
        )


def oracle() -> None:
    """Largest differences to girth's estimates."""
    print("models  items  model  max |Δa|  max |Δb/a|  seconds: girth  evomerge")
    unshrunk = FitSettings(prior=ItemPrior.flat(1), tolerance=1e-6)
    for seed, (models, items) in enumerate([(2000, 20), (1000, 40), (500, 60)]):
        for name in ("1PL", "2PL"):
            rng = np.random.default_rng(seed)
            slopes = rng.uniform(0.6, 2.0, size=(items, 1))
            if name == "1PL":
                slopes[:] = 1.3
            answers = simulated(models, slopes, rng)[2]
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                method = girth.onepl_mml if name == "1PL" else girth.twopl_mml
                theirs = method(answers.T.astype(int))
            middle = time.perf_counter()
            fit = fit_1pl(answers, unshrunk) if name == "1PL" else fit_2pl(answers, 1, unshrunk)
            end = time.perf_counter()
            found = fit.parameters.discrimination[:, 0]
            slope = np.abs(found - theirs["Discrimination"]).max()
            place = np.abs(fit.parameters.difficulty / found - theirs["Difficulty"]).max()
            print(
                f"{models:6d}  {items:5d}  {name}  {slope:10.4f}  {place:10.4f}  "
                f"{middle - start:14.2f}  {end - middle:8.2f}"
            )


def heldout(folder: Path) -> None:
    """Error of p-IRT relative to the plain mean, five random splits."""
    print(
        f"matrix                models × items      mean of {SEEN}   dims: 1     2     3     5"
    )
    for name, values in matrices(folder):
        errors = np.array([held_out_errors(values, seed) for seed in range(5)]).mean(axis=0)
        print(
            f"{name:20s}  {values.shape[0]:6d} × {values.shape[1]:5d}  {errors[0]:14.4f}"
            "          " + "  ".join(f"{e / errors[0]:.2f}" for e in errors[1:])
        )


def matrices(folder: Path):
    """Names and responses; a matrix of several data sets counts as several."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays["responses"].astype(np.float64)
            if "dataset" not in arrays.files:
                yield path.stem, values
                continue
            for name in dict.fromkeys(arrays["dataset"].tolist()):
                columns = arrays["dataset"] == name
                if columns.sum() >= 2 * SEEN:
                    yield f"{path.stem}/{name}", values[:, columns]


def held_out_errors(values: np.ndarray, seed: int) -> list[float]:
    """Of the plain mean, and of p-IRT with 1, 2, 3 and 5 dimensions."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(values), dtype=bool)
    out[rng.permutation(len(values))[: len(values) // 4]] = True
    values = values[:, ~np.isnan(values[~out]).all(axis=0)]
    lots = np.where(np.isnan(values[out]), 2.0, rng.random(values[out].shape))
    seen = lots.argsort(axis=1).argsort(axis=1) < SEEN
    answers = np.where(seen, values[out], np.nan)
    truth = np.nanmean(values[out], axis=1)
    errors = [float(np.abs(np.nanmean(answers, axis=1) - truth).mean())]
    for dims in (1, 2, 3, 5):
        fit = fit_2pl(values[~out], dims)
        ability = fit_ability(fit.parameters, answers)
        p = fit.parameters.probabilities(ability.theta)
        known = ~np.isnan(values[out])  # the mean of what was answered is what is estimated
        mixed = np.where(seen, values[out], np.where(known, p, np.nan))
        errors.append(float(np.abs(np.nanmean(mixed, axis=1) - truth).mean()))
    return errors


def main() -> None:
    """Print the tables asked for; all without a name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=("speed", "oracle", "heldout"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--responses", type=Path, default=Path("responses"))
    arguments = parser.parse_args()
    for part in arguments.parts or ("speed", "oracle", "heldout"):
        if part == "speed":
            speed(arguments.threads)
        elif part == "oracle":
            oracle()
        else:
            heldout(arguments.responses)


if __name__ == "__main__":
    main()
