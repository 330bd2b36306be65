"""The report's charts, and plotly's script that draws them in a browser."""

import json
from dataclasses import dataclass

from plotly.offline import get_plotlyjs

from evomerge.report.chart_style import Figure
from evomerge.report.final_chart import forest_chart
from evomerge.report.history_chart import history_chart
from evomerge.report.parallel_chart import gene_chart, objective_chart
from evomerge.report.pareto_chart import pair_matrix, ranked_strip, search_scatter, test_scatter
from evomerge.report.summary import Summary

_TWO = 2
_THREE = 3


@dataclass(frozen=True)
class Charts:
    """The figures of a report by section; sections may be empty."""

    front: dict[str, Figure]
    final: dict[str, Figure]
    history: dict[str, Figure]
    genes: dict[str, Figure]


def charts(summary: Summary) -> Charts:
    """Build every chart that the study has data for, by a short id each."""
    scored = bool(summary.facts.complete("source", "baseline", "candidate"))
    count = len(summary.objectives)
    return Charts(
        front=_front(summary) if scored else {},
        final=_present(
            {
                "test-scatter": test_scatter(summary) if count == _TWO else None,
                "test-differences": forest_chart(summary),
            }
        ),
        history=_present({"history": history_chart(summary)}),
        genes=_present({"genes": gene_chart(summary)}),
    )


def figure_json(figure: Figure) -> str:
    """A figure as JSON that may stand inside a script element.

    Raises:
        ValueError: The figure holds NaN or an infinity.
    """
    text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plotly_script() -> str:
    """The source of plotly.js, so that a report needs no network."""
    return str(get_plotlyjs())


def _front(summary: Summary) -> dict[str, Figure]:
    count = len(summary.objectives)
    if count == 1:
        return {"ranked": ranked_strip(summary)}
    if count == _TWO:
        return {"pareto": search_scatter(summary)}
    pairs = {"pairs": pair_matrix(summary)}
    if count == _THREE:
        return pairs
    return _present({"objectives": objective_chart(summary)}) | pairs


def _present(figures: dict[str, Figure | None]) -> dict[str, Figure]:
    return {name: figure for name, figure in figures.items() if figure is not None}
