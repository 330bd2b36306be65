"""Compare a chain of searches with the same chain of random draws, seed by seed.

    python experiments/spaces/staged_study.py --seeds 10 --out runs/staged

Both run ``staged.yaml``, the one as written, the other with random search in every stage. What
a chain has found is judged on test items: the hypervolume of its kept models and final front
together, from a point a tenth of the sources' range beyond the worst source.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

import evomerge
from evomerge.core.pareto import hypervolume, reference_point
from evomerge.experiment.study_chain import StudyChain

HERE = Path(__file__).parent
CONTESTANTS = {"as written": {}, "random": {"optimizer": {"name": "random"}}}


def volume(chain: StudyChain) -> float:
    """Hypervolume of what a chain has found, on its test items."""
    summary = chain.summary()
    signs = np.array([objective.sign for objective in summary.objectives])

    def losses(*roles: str) -> np.ndarray:
        tests = [model.test for model in summary.models if model.role in roles]
        values = [[estimate.value for estimate in test] for test in tests]
        return np.array(values).reshape(-1, len(signs)) * signs

    reference = reference_point(losses("source"))
    return float(hypervolume(losses("kept", "final"), reference))


def run(seed: int, name: str, out: Path) -> float:
    """One chain, taken up where it stands."""
    place = out / f"{name.replace(' ', '-')}-{seed}"
    if (place / "chain.json").exists():
        chain = evomerge.resume(place)
    else:
        overrides = {"seed": seed} | CONTESTANTS[name]
        chain = evomerge.run(HERE / "staged.yaml", out=place, overrides=overrides)
    return volume(StudyChain(chain.path))


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/staged"))
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for seed in range(1, options.seeds + 1):
        for name, values in found.items():
            values.append(run(seed, name, options.out))
            print(f"seed {seed}, {name}: {values[-1]:.3f}", flush=True)
    for name, values in found.items():
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        print(f"{name:<12} median {middle:.3f}, quartiles {low:.3f} … {high:.3f}")
    written, random = found.values()
    gains = [a - b for a, b in zip(written, random, strict=True)]
    if len(gains) > 1:
        test = wilcoxon(gains)
        print(f"median difference {statistics.median(gains):+.3f}, p = {test.pvalue:.3f}")


if __name__ == "__main__":
    main()
