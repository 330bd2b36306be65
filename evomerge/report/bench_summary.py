"""From the runs of a comparison to its table, its curves and its verdict in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from evomerge.core.objectives import losses
from evomerge.report.bench_results import BenchProblem, BenchRun, stop_after, values_array
from evomerge.report.bench_statistics import ALPHA, Comparison, compare, fewest_seeds
from evomerge.report.number_text import number

_TWO = 2


@dataclass(frozen=True)
class Row:
    """One contestant at one budget."""

    contestant: str
    candidates: int
    scores: Mapping[int, float]
    """Measure by seed."""

    exact: float | None
    """Median measure on all items of all splits, where they are known."""

    comparison: Comparison | None
    """With the reference contestant; None for that one itself."""

    @property
    def median(self) -> float:
        """Over seeds."""
        return float(np.median(values_array(self.scores)))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Over seeds."""
        low, high = np.quantile(values_array(self.scores), [0.25, 0.75])
        return float(low), float(high)


@dataclass(frozen=True)
class Curve:
    """What a contestant comes to by number of candidates."""

    contestant: str
    candidates: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Quartiles over seeds."""


@dataclass(frozen=True)
class Attainment:
    """What a contestant's runs attain in two objectives: the best, the median, the worst."""

    contestant: str
    surfaces: Mapping[str, NDArray[np.float64]]
    """``(points, 2)`` corners of each surface as users name values, best first objective
    first."""


@dataclass(frozen=True)
class ProblemSummary:
    """All that a report says of one problem."""

    problem: BenchProblem
    against: str
    rows: tuple[Row, ...]
    """By budget, then in the order the contestants were named."""

    curves: tuple[Curve, ...]
    attainment: tuple[Attainment, ...]
    """Empty but for two objectives."""

    sentences: tuple[str, ...]
    """The verdict, one sentence a budget."""

    notes: tuple[str, ...]
    """What a reader should know before believing it."""

    @property
    def too_few_seeds(self) -> bool:
        """Whether no difference could have been called."""
        others = len({row.contestant for row in self.rows}) - 1
        seeds = min(len(row.scores) for row in self.rows)
        return seeds < fewest_seeds(others)

    def at(self, candidates: int) -> tuple[Row, ...]:
        """The rows of one budget."""
        return tuple(row for row in self.rows if row.candidates == candidates)


@dataclass(frozen=True)
class BenchSummary:
    """A whole comparison."""

    contestants: tuple[str, ...]
    against: str
    seeds: tuple[int, ...]
    problems: tuple[ProblemSummary, ...]
    versions: tuple[tuple[str, str], ...]
    seconds: float


def summarize_bench(
    problems: Sequence[BenchProblem],
    contestants: Sequence[str],
    against: str,
    runs: Sequence[BenchRun],
) -> BenchSummary:
    """Judge every contestant on every problem.

    Args:
        problems: What was searched.
        contestants: In the order of tables; ``against`` is one of them.
        against: Whom the others are compared with.
        runs: One for each problem, contestant and seed.
    """
    parts = []
    for problem in problems:
        own = [run for run in runs if run.problem == problem.name]
        by_name = {
            name: {run.seed: run for run in own if run.contestant == name}
            for name in contestants
        }
        parts.append(_problem(problem, by_name, against))
    return BenchSummary(
        contestants=tuple(contestants),
        against=against,
        seeds=tuple(sorted({run.seed for run in runs})),
        problems=tuple(parts),
        versions=_versions(runs),
        seconds=sum(run.seconds for run in runs),
    )


_Runs = Mapping[str, Mapping[int, BenchRun]]


def _problem(problem: BenchProblem, runs: _Runs, against: str) -> ProblemSummary:
    rows = [row for budget in problem.budgets for row in _rows(problem, runs, against, budget)]
    return ProblemSummary(
        problem,
        against,
        tuple(rows),
        tuple(_curve(problem, name, own) for name, own in runs.items()),
        tuple(_attainment(problem, name, own) for name, own in runs.items())
        if len(problem.objectives) == _TWO
        else (),
        tuple(_sentence(rows, against, budget) for budget in problem.budgets),
        tuple(_notes(problem, runs)),
    )


def _rows(problem: BenchProblem, runs: _Runs, against: str, budget: int) -> list[Row]:
    scores = {name: problem.scores(own, budget) for name, own in runs.items()}
    others = [name for name in runs if name != against]
    found = compare(
        values_array(scores[against]),
        [values_array(scores[name]) for name in others],
        larger=problem.larger_is_better,
    )
    comparisons = dict(zip(others, found, strict=True))
    return [
        Row(name, budget, scores[name], _exact(problem, own, budget), comparisons.get(name))
        for name, own in runs.items()
    ]


def _exact(
    problem: BenchProblem, runs: Mapping[int, BenchRun], candidates: int
) -> float | None:
    stops = [(run, stop_after(run, candidates)) for run in runs.values()]
    if any(stop.chosen and not stop.exact for _, stop in stops):
        return None
    return float(np.median([problem.score(run, stop.exact) for run, stop in stops]))


def _curve(problem: BenchProblem, name: str, runs: Mapping[int, BenchRun]) -> Curve:
    counts = sorted({s.candidates for run in runs.values() for s in run.stops})
    table = np.array([values_array(problem.scores(runs, count)) for count in counts])
    low, middle, high = np.quantile(table, [0.25, 0.5, 0.75], axis=1).tolist()
    return Curve(name, tuple(counts), tuple(middle), tuple(low), tuple(high))


def _attainment(problem: BenchProblem, name: str, runs: Mapping[int, BenchRun]) -> Attainment:
    points, sets = [], []
    for number_, run in enumerate(runs.values()):
        for point in stop_after(run, problem.budgets[-1]).chosen:
            points.append(losses(problem.objectives, point))
            sets.append(number_)
    if not points:
        return Attainment(name, {})
    wanted = {"best": 100.0 / len(runs), "median": 50.0, "worst": 100.0}
    found = moocore.eaf(np.array(points), np.array(sets), percentiles=[*wanted.values()])
    signs = np.array([o.sign for o in problem.objectives])
    surfaces = {}
    for label, level in wanted.items():
        corners = found[np.isclose(found[:, -1], level)][:, :-1]
        surfaces[label] = corners[np.argsort(corners[:, 0])] * signs
    return Attainment(name, surfaces)


def _sentence(rows: Sequence[Row], against: str, budget: int) -> str:
    """Whether the reference is best or tied after so many candidates, and who is not tied."""
    found = {row.contestant: row.comparison for row in rows if row.candidates == budget}
    by_word: dict[str, list[str]] = {"better": [], "tied": [], "worse": []}
    for name, comparison in found.items():
        if comparison is not None:
            by_word[comparison.judgement].append(_named(name, comparison))
    parts = [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {word}"
        for word, names in by_word.items()
        if names
    ]
    start = f"After {budget} candidates"
    if not parts:
        return f"{start} {against} ran alone: there is nothing to compare it with."
    seeds = min(len(row.scores) for row in rows)
    if seeds < fewest_seeds(len(found) - 1):
        return f"{start} nothing can be told from {seeds} seed{'s' * (seeds > 1)}."
    standing = "beaten" if by_word["better"] else "best or tied"
    return f"{start} {against} is {standing}: {'; '.join(parts)}."


def _named(name: str, comparison: Comparison) -> str:
    if comparison.judgement == "tied":
        return name
    size = number(abs(comparison.effect.value))
    return f"{name} (by {size})"


def _notes(problem: BenchProblem, runs: _Runs) -> list[str]:
    seeds, others = min(map(len, runs.values())), len(runs) - 1
    notes = []
    if others and seeds < fewest_seeds(others):
        notes.append(
            f"{seeds} seed{'s are' if seeds != 1 else ' is'} too few to call any difference: "
            f"with {others} comparison{'s' * (others > 1)} the test needs at least "
            f"{fewest_seeds(others)} seeds at the level of {ALPHA:g}."
        )
    for name, own in runs.items():
        short = [run for run in own.values() if run.candidates < problem.budgets[-1]]
        if short:
            least = min(run.candidates for run in short)
            reasons = sorted({run.ended for run in short})
            notes.append(
                f"{name} ended before the budget with {len(short)} of {len(own)} seeds, the "
                f"first after {least} candidates ({'; '.join(reasons[:2])}); it keeps what it "
                "had found."
            )
    return notes


def _versions(runs: Sequence[BenchRun]) -> tuple[tuple[str, str], ...]:
    """Package versions, every one that any run used."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for package, version in run.versions.items():
            known = found.setdefault(package, [])
            if version not in known:
                known.append(version)
    return tuple((package, ", then ".join(known)) for package, known in found.items())
