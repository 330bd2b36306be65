"""How far evomerge's operators are from mergekit's: the parity table, as Markdown.

    python benchmarks/parity.py

Needs mergekit 0.1.5 (``pip install 'evomerge[mergekit]'``). Recipes, inputs and the oracle are
those of ``tests/merging/test_mergekit_parity.py``. mergekit computes in float64, from float32
and from bfloat16 sources; evomerge's result is in the dtype of the sources. Random recipes are
merged with many seeds by both, and their distributions compared.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from merging.mergekit_oracle import WANTED
from merging.parity_cases import (
    EXACT,
    SAMPLES,
    SHAPES,
    STOCHASTIC,
    Case,
    Mean,
    difference,
    sampled,
)


def exact_rows(cases: Sequence[Case]) -> list[str]:
    """One row an operator: the worst of its recipes and shapes."""
    rows = []
    for name in dict.fromkeys(case.operator for case in cases):
        own = [case for case in cases if case.operator == name]
        runs = [(case, shape) for case in own for shape in SHAPES]
        single = [difference(*run, torch.float32) for run in runs]
        half = [difference(*run, torch.bfloat16) for run in runs]
        rows.append(
            f"| {name} | {'; '.join(case.label for case in own)} "
            f"| {max(d.float32 for d in single):.1f} | {max(d.bfloat16 for d in half):.2f} "
            f"| {min(min(d.compared for d in half), min(d.compared for d in single)):.0%} |"
        )
    return rows


def random_row(case: Case) -> str:
    """Shares kept, factors, and the distance of the means of the merged entries."""
    ours, theirs = sampled(case)
    apart = (ours.means - theirs.means) / (ours.errors**2 + theirs.errors**2).sqrt()
    spread = float(ours.errors.square().sum() / theirs.errors.square().sum())
    return (
        f"| {case} | {_pair(ours.kept, theirs.kept)} | {_pair(ours.factor, theirs.factor)} "
        f"| {float(apart.square().mean().sqrt()):.2f} | {spread**0.5:.3f} |"
    )


def _pair(ours: Mean, theirs: Mean) -> str:
    return f"{ours.mean:.4f} ± {ours.error:.4f} / {theirs.mean:.4f} ± {theirs.error:.4f}"


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operator", help="only this one")
    wanted = parser.parse_args().operator
    if importlib.util.find_spec("mergekit") is None:
        sys.exit(WANTED)

    def chosen(cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if wanted in {None, case.operator}]

    shapes = ", ".join("×".join(map(str, shape)) for shape in SHAPES)
    print(f"Each recipe on tensors of {shapes} entries.\n")
    print("| operator | recipes | float32: roundings | bfloat16: steps | compared |")
    print("|---|---|--:|--:|--:|")
    print("\n".join(exact_rows(chosen(EXACT))))
    print(f"\nRandom masks: evomerge / mergekit, {SAMPLES} seeds each, 12×50 entries.\n")
    print("| recipe | share kept | factor of what is kept | means apart | spreads |")
    print("|---|--:|--:|--:|--:|")
    for case in chosen(STOCHASTIC):
        print(random_row(case))


if __name__ == "__main__":
    main()
