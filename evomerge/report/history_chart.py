"""Charts of progress: hypervolume and best value so far, by scored candidates."""

import math
from typing import Any

from evomerge.report.chart_style import (
    BASELINE,
    FRONT,
    Figure,
    axis,
    escaped,
    layout,
    panel_keys,
    panels,
)
from evomerge.report.number_text import number
from evomerge.report.summary import Summary

_WIDEST = 3


def history_chart(summary: Summary) -> Figure | None:
    """Hypervolume first (several objectives only), then the best value of each objective.

    The dashed line in each panel is what the sources and baselines reach. None while no
    candidate is scored that meets the constraints.
    """
    curves = _curves(summary)
    if not curves:
        return None
    columns = 2 if len(curves) == 4 else min(_WIDEST, len(curves))
    rows = -(-len(curves) // columns)
    figure: Figure = {
        "data": [],
        "layout": layout(90 + 240 * rows, showlegend=False, annotations=[]),
    }
    for k, (curve, domain) in enumerate(
        zip(curves, panels(len(curves), columns, 0.08, 0.26 / rows), strict=True)
    ):
        x, y, x_key, y_key = panel_keys(k)
        last = curve["x"][-1]
        figure["data"].append(_line(curve, x, y))
        if curve["target"] is not None:
            figure["data"].append(_target(curve, x, y, last))
        lower = k >= len(curves) - columns
        figure["layout"][x_key] = axis(
            "scored candidates" if lower else "",
            domain=domain["x"],
            anchor=y,
            rangemode="tozero",
        )
        figure["layout"][y_key] = axis("", domain=domain["y"], anchor=x, nticks=6)
        figure["layout"]["annotations"].append(_heading(curve["title"], domain))
    return figure


def _curves(summary: Summary) -> list[dict[str, Any]]:
    history, curves = summary.history, []
    if not any(map(math.isfinite, history.best.flat)):
        return []
    if len(history.volumes) and len(summary.objectives) > 1:
        curves.append(
            {
                "title": "hypervolume of all candidates so far",
                "x": history.volume_steps.tolist(),
                "y": history.volumes.tolist(),
                "target": history.baseline_volume,
                "whose": "all sources and baselines together",
            }
        )
    for k, label in enumerate(summary.labels):
        baseline = summary.bests[k].baseline
        curves.append(
            {
                "title": f"best so far: {escaped(label)}",
                "x": list(range(1, len(history.best) + 1)),
                "y": [v if math.isfinite(v) else None for v in history.best[:, k].tolist()],
                "target": baseline.values[k] if baseline else None,
                "whose": escaped(baseline.name) if baseline else "",
            }
        )
    return curves


def _line(curve: dict[str, Any], x: str, y: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": curve["x"],
        "y": curve["y"],
        "xaxis": x,
        "yaxis": y,
        "line": {"color": FRONT, "width": 2, "shape": "hv"},
        "hovertemplate": "after %{x} candidates: %{y:.4~g}<extra></extra>",
    }


def _target(curve: dict[str, Any], x: str, y: str, last: int) -> dict[str, Any]:
    text = f"{curve['whose']}: {number(curve['target'])}"
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, last],
        "y": [curve["target"]] * 2,
        "xaxis": x,
        "yaxis": y,
        "line": {"color": BASELINE, "width": 1.5, "dash": "dash"},
        "text": [text] * 2,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _heading(title: str, domain: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "text": title,
        "x": domain["x"][0],
        "y": domain["y"][1],
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13},
        "yshift": 4,
    }
