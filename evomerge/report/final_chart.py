"""A forest chart of the finalists' differences to the best source on test items."""

from typing import Any

from evomerge.report.chart_style import (
    FRONT,
    PLAIN_STYLE,
    Figure,
    axis,
    escaped,
    layout,
    panel_keys,
)
from evomerge.report.final_phase import FinalRow
from evomerge.report.number_text import signed_interval
from evomerge.report.summary import Summary

_MOST_ROWS = 40
_MOST_PANELS = 4


def forest_chart(summary: Summary) -> Figure | None:
    """Differences with 95 % intervals, a panel an objective; at most four objectives.

    None without a final phase or without a source to compare with.
    """
    if summary.final is None or not any(summary.final.best_sources):
        return None
    rows = list(summary.final.rows)[:_MOST_ROWS]
    count = min(len(summary.objectives), _MOST_PANELS)
    figure: Figure = {"data": [], "layout": layout(110 + 22 * len(rows), showlegend=False)}
    gap = 0.04
    wide = (1 - gap * (count - 1)) / count
    for k in range(count):
        x, _, x_key, y_key = panel_keys(k)
        left = k * (wide + gap)
        figure["data"].append(_trace(summary, rows, k) | {"xaxis": x, "yaxis": "y"})
        figure["layout"][x_key] = axis(
            f"{escaped(summary.labels[k])}, difference",
            domain=[left, min(1.0, left + wide)],
            anchor="y",
            zeroline=True,
            zerolinecolor="#7B8794",
            nticks=5,
            tickformat="+.3~g",
        )
        if k == 0:
            figure["layout"][y_key] = axis(
                "",
                autorange="reversed",
                showgrid=True,
                tickvals=list(range(len(rows))),
                ticktext=[escaped(row.trial.name) for row in rows],
            )
    return figure


def _trace(summary: Summary, rows: list[FinalRow], k: int) -> dict[str, Any]:
    shown = [
        (place, row, difference)
        for place, row in enumerate(rows)
        if (difference := row.differences[k]) is not None
    ]
    styles = [PLAIN_STYLE.get(row.trial.kind, {}) for _, row, _ in shown]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [difference.value for _, _, difference in shown],
        "y": [place for place, _, _ in shown],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [d.high - d.value for _, _, d in shown],
            "arrayminus": [d.value - d.low for _, _, d in shown],
            "thickness": 1.4,
            "width": 0,
            "color": "#9AA5B1",
        },
        "marker": {
            "size": 9,
            "color": [style.get("color", FRONT) for style in styles],
            "symbol": [style.get("symbol", "circle") for style in styles],
        },
        "customdata": [row.trial.number for _, row, _ in shown],
        "text": [
            f"<b>{escaped(row.trial.name)}</b><br>{escaped(summary.labels[k])}: "
            f"{signed_interval(difference)}"
            for _, row, difference in shown
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
