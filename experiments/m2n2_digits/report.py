"""Writes the README's table and the figure from the result files."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.m2n2_digits.chart import Line, Panel, write_panels
from experiments.m2n2_digits.run import METHODS, read_results, result_file

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- table: written by report.py -->", "<!-- end of table -->"
TOLERANCE = 3.0

PUBLISHED = {
    "scratch": {
        "M2N2": 87.0,
        "CMA-ES": 86.0,
        "M2N2 without crossover": 77.0,
        "GA without crossover": 71.0,
        "GA": 68.0,
        "MAP-Elites": 60.0,
    },
    "pretrained": {
        "M2N2": 68.3,
        "M2N2 without attraction": 66.3,
        "MAP-Elites": 62.4,
        "M2N2 without split point": 57.8,
        "GA": 52.0,
        "brute force": 57.8,
    },
}
"""Test accuracy in per cent, read off the published plot to about a point."""

TITLES = {
    "scratch": "From scratch, 50,000 evaluations",
    "pretrained": "From the published pre-trained pair, 10,000 evaluations",
}


@dataclass(frozen=True)
class Curves:
    """A method's test accuracies in per cent, shape (runs, logged evaluations)."""

    evaluations: np.ndarray
    test: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """The last accuracy of each run."""
        return self.test[:, -1]


def curves(start: str, method: str, *, published_pair: bool = True) -> Curves | None:
    """Return the runs on the published pair, or else those on all others; None without any."""
    runs: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for row in read_results(result_file(start, method)):
        if (row["pair"] == 0) == published_pair:
            point = (row["evaluations"], 100 * row["test"])
            runs.setdefault((row["pair"], row["run"]), []).append(point)
    if not runs:
        return None
    table = np.array(list(runs.values()))
    return Curves(table[0, :, 0], table[:, :, 1])


def standard_error(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over the first axis, 0 of a single value."""
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))


def _row(start: str, method: str) -> str:
    ours = curves(start, method)
    published = PUBLISHED[start][method]
    if ours is None:
        return f"| {method} | {published:.1f} | | | | |"
    mean, error, runs = ours.final.mean(), float(standard_error(ours.final)), len(ours.final)
    difference = mean - published
    inside = "yes" if abs(difference) <= TOLERANCE else "no"
    spread = f"± {error:.1f} " if runs > 1 else ""
    cells = [
        method,
        f"{published:.1f}",
        f"{mean:.1f} {spread}({runs})",
        f"{round(difference, 1) + 0:+.1f}",
    ]
    cells.append(inside)
    if start == "pretrained":
        others = curves(start, method, published_pair=False)
        cells.append(
            f"{others.final.mean():.1f}, {others.final.min():.1f} to {others.final.max():.1f} "
            f"({len(others.final)})"
            if others
            else ""
        )
    return "| " + " | ".join(cells) + " |"


def table(start: str) -> str:
    """Return the comparison with the published figures as Markdown."""
    heads = [TITLES[start], "published", "ours ± s.e. (runs)", "difference", "within 3"]
    if start == "pretrained":
        heads.append("other pairs, one run each: mean, range (pairs)")
    rule = "|---" + "|---:" * (len(heads) - 1) + "|"
    rows = [_row(start, method) for method in METHODS[start]]
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *rows])


def panel(start: str) -> Panel:
    """Return the curves of a start: means over runs, with their standard errors."""
    lines = []
    for method in METHODS[start]:
        ours = curves(start, method)
        if ours is not None:
            mean, error = ours.test.mean(axis=0), standard_error(ours.test)
            lines.append(Line(method, ours.evaluations, mean, error))
    return Panel(TITLES[start], lines)


def main() -> None:
    """Rewrite the block between the README's two marks and the figure."""
    write_panels(FOLDER / "curves.svg", [panel(start) for start in METHODS])
    readme = FOLDER / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    tables = "\n\n".join(table(start) for start in METHODS)
    readme.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")
    print(tables)


if __name__ == "__main__":
    main()
