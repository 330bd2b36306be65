"""The table of a comparison: on the terminal, and as rows of CSV files."""

from collections.abc import Iterator, Sequence

import pandas as pd
from rich.table import Table
from rich.text import Text

from evomerge.report.bench_results import BenchProblem, BenchRun
from evomerge.report.bench_summary import BenchSummary, ProblemSummary, Row
from evomerge.report.number_text import number, signed

_TONES = {"better": "bold red", "worse": "green", "tied": ""}
"""A contestant that is better than the reference is what a reader must not miss."""


def bench_table(summary: ProblemSummary) -> Table:
    """The terminal's table of one problem, at most 80 columns wide."""
    table = Table(
        title=f"{summary.problem.name}: {summary.problem.measure}",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    table.add_column("optimizer", overflow="fold", max_width=24)
    for heading in ("after", "median", "quartiles", "difference", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for budget in summary.problem.budgets:
        for row in summary.at(budget):
            table.add_row(*_cells(row))
        table.add_section()
    return table


def _cells(row: Row) -> list[Text]:
    low, high = row.quartiles
    cells = [
        row.contestant,
        str(row.candidates),
        number(row.median),
        f"{number(low)} … {number(high)}",
    ]
    if row.comparison is None:
        return [*map(Text, [*cells, "", ""]), Text("")]
    judgement = row.comparison.judgement
    more = [signed(row.comparison.effect.value), p_text(row.comparison.p_holm)]
    return [*map(Text, [*cells, *more]), Text(judgement, style=_TONES[judgement])]


def p_text(p: float) -> str:
    """A p value in two digits; ``<.001`` below that."""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def table_frame(summary: BenchSummary) -> pd.DataFrame:
    """One row a problem, budget and contestant."""
    return pd.DataFrame(
        [_plain(part.problem, row) for part in summary.problems for row in part.rows]
    )


def _plain(problem: BenchProblem, row: Row) -> dict[str, object]:
    low, high = row.quartiles
    plain: dict[str, object] = {
        "problem": problem.name,
        "measure": problem.measure,
        "candidates": row.candidates,
        "optimizer": row.contestant,
        "seeds": len(row.scores),
        "median": row.median,
        "lower_quartile": low,
        "upper_quartile": high,
        "median_on_all_items": row.exact,
    }
    found = row.comparison
    return plain | {
        "median_difference": found.effect.value if found else None,
        "difference_low": found.effect.low if found else None,
        "difference_high": found.effect.high if found else None,
        "seeds_better": found.wins if found else None,
        "seeds_worse": found.losses if found else None,
        "p": found.p if found else None,
        "p_holm": found.p_holm if found else None,
        "judgement": found.judgement if found else "reference",
    }


def runs_frame(problems: Sequence[BenchProblem], runs: Sequence[BenchRun]) -> pd.DataFrame:
    """One row a run and stop."""
    by_name = {problem.name: problem for problem in problems}
    rows = [row for run in runs for row in _stops(by_name[run.problem], run)]
    return pd.DataFrame(rows)


def _stops(problem: BenchProblem, run: BenchRun) -> Iterator[dict[str, object]]:
    for stop in run.stops:
        exact = problem.score(run, stop.exact) if stop.exact else None
        yield {
            "problem": problem.name,
            "optimizer": run.contestant,
            "seed": run.seed,
            "candidates": stop.candidates,
            "score": problem.score(run, stop.chosen),
            "score_on_all_items": exact,
            "chosen": len(stop.chosen),
            "proposed_in_all": run.candidates,
            "ended": run.ended,
            "item_evaluations": run.item_evaluations,
            "seconds": round(run.seconds, 3),
        }
