"""Charts of a comparison of optimizers: by candidates, at the end, and attainment surfaces."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.core.pareto import front_mask
from evomerge.report.bench_results import BenchProblem
from evomerge.report.bench_summary import Attainment, Curve, ProblemSummary, Row
from evomerge.report.chart_style import (
    BASELINE,
    INK,
    Figure,
    axis,
    escaped,
    layout,
    panel_keys,
    panels,
)
from evomerge.report.number_text import number

COLOURS = (
    "#0072B2", "#D55E00", "#007D5A", "#CC79A7", "#8A6400", "#56B4E9", "#7A5195", "#1F2933",
    "#E69F00", "#5B6875",
)  # fmt: skip
_DASHES = ("solid", "dash", "dot", "dashdot")
_COLUMNS = 3
_LABEL = 22
"""Characters of a contestant's name that axes show."""


def bench_charts(summary: ProblemSummary) -> dict[str, Figure]:
    """Every chart that the problem has data for, by a short id each."""
    last = summary.at(summary.problem.budgets[-1])
    figures = {
        "anytime": anytime_chart(summary.problem, summary.curves),
        "final": final_chart(summary.problem, last),
    }
    if any(each.surfaces for each in summary.attainment):
        figures["attainment"] = attainment_chart(
            summary.problem, summary.attainment, summary.against
        )
    return figures


def anytime_chart(problem: BenchProblem, curves: Sequence[Curve]) -> Figure:
    """Median over seeds by candidates, the quartiles as a band; dashed: the best there is."""
    figure: Figure = {"data": [], "layout": layout(470, hovermode="x unified")}
    for k, curve in enumerate(curves):
        figure["data"] += [_band(k, curve), _line(k, curve)]
    figure["layout"]["legend"] |= {"y": 1.02, "traceorder": "normal"}
    figure["layout"]["xaxis"] = axis("candidates", rangemode="tozero")
    figure["layout"]["yaxis"] = axis(_measure(problem), nticks=8)
    if problem.best is not None:
        figure["data"].append(_best_line(problem, curves))
    return figure


def final_chart(problem: BenchProblem, rows: Sequence[Row]) -> Figure:
    """A box and a point a seed for each contestant, at the whole budget."""
    figure: Figure = {
        "data": [_box(k, row) for k, row in enumerate(rows)],
        "layout": layout(110 + 46 * len(rows), showlegend=False),
    }
    figure["layout"]["margin"]["l"] = 150
    figure["layout"]["xaxis"] = axis(_measure(problem))
    figure["layout"]["yaxis"] = axis(
        "",
        autorange="reversed",
        showgrid=False,
        tickvals=list(range(len(rows))),
        ticktext=[_short(row.contestant) for row in rows],
    )
    return figure


def attainment_chart(
    problem: BenchProblem, found: Sequence[Attainment], against: str
) -> Figure:
    """A panel a contestant: what its best, median and worst runs attain.

    Dashed in every panel: the median of the reference contestant; grey: the front of the best
    that there is, where it is known.
    """
    rows = -(-len(found) // _COLUMNS)
    columns = min(_COLUMNS, len(found))
    figure: Figure = {
        "data": [],
        "layout": layout(80 + 330 * rows, showlegend=False, annotations=[]),
    }
    medians = {each.contestant: each.surfaces.get("median") for each in found}
    limits = _limits(problem, found)
    domains = panels(len(found), columns, 0.07, 0.2 / rows)
    for k, (each, domain) in enumerate(zip(found, domains, strict=True)):
        x, y, x_key, y_key = panel_keys(k)
        traces = _surfaces(problem, each, limits)
        if each.contestant != against and medians.get(against) is not None:
            traces.append(_reference_surface(problem, medians[against], against, limits))
        if problem.best_front:
            traces.append(_best_front(problem, limits))
        figure["data"] += [trace | {"xaxis": x, "yaxis": y} for trace in traces]
        names = [escaped(objective.name) for objective in problem.objectives]
        lower, left = k >= len(found) - columns, k % columns == 0
        figure["layout"][x_key] = axis(
            names[0] if lower else "", domain=domain["x"], anchor=y, range=limits[0], nticks=6
        )
        figure["layout"][y_key] = axis(
            names[1] if left else "", domain=domain["y"], anchor=x, range=limits[1], nticks=6
        )
        figure["layout"]["annotations"].append(_heading(each.contestant, domain))
    return figure


# ---- by candidates


def _line(k: int, curve: Curve) -> dict[str, Any]:
    name = escaped(curve.contestant)
    spans = [f"{number(a)} … {number(b)}" for a, b in zip(curve.low, curve.high, strict=True)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(curve.candidates),
        "y": list(curve.median),
        "name": name,
        "legendgroup": name,
        "text": spans,
        "line": {"color": _colour(k), "width": 2, "dash": _dash(k)},
        "marker": {"size": 5},
        "hovertemplate": "%{y:.4~f}  (quartiles %{text})",
    }


def _band(k: int, curve: Curve) -> dict[str, Any]:
    name = escaped(curve.contestant)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*curve.candidates, *reversed(curve.candidates)],
        "y": [*curve.high, *reversed(curve.low)],
        "name": name,
        "legendgroup": name,
        "showlegend": False,
        "fill": "toself",
        "fillcolor": _transparent(_colour(k), 0.09),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _best_line(problem: BenchProblem, curves: Sequence[Curve]) -> dict[str, Any]:
    last = max(curve.candidates[-1] for curve in curves)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, last],
        "y": [problem.best] * 2,
        "name": "best there is",
        "line": {"color": BASELINE, "width": 1.5, "dash": "dash"},
        "hovertemplate": "%{y:.4~f}",
    }


# ---- at the end


def _box(k: int, row: Row) -> dict[str, Any]:
    seeds = sorted(row.scores)
    return {
        "type": "box",
        "orientation": "h",
        "x": [row.scores[seed] for seed in seeds],
        "y": [k] * len(seeds),
        "name": escaped(row.contestant),
        "boxpoints": "all",
        "jitter": 0.5,
        "pointpos": 0,
        "width": 0.55,
        "marker": {"color": _colour(k), "size": 6, "opacity": 0.75},
        "line": {"color": _colour(k), "width": 1.3},
        "fillcolor": _transparent(_colour(k), 0.12),
        "text": [f"{escaped(row.contestant)}, seed {seed}" for seed in seeds],
        "hoveron": "points",
        "hovertemplate": "%{text}: %{x:.4~f}<extra></extra>",
    }


# ---- attainment

_Limits = tuple[list[float], list[float]]


def _limits(problem: BenchProblem, found: Sequence[Attainment]) -> _Limits:
    """Ranges of both axes in which every surface shows, from worse to better."""
    points = [p for each in found for p in each.surfaces.values() if len(p)]
    if problem.best_front:
        points.append(np.array(problem.best_front))
    everything = np.concatenate(points)
    ranges = []
    for k in range(2):
        low, high = float(everything[:, k].min()), float(everything[:, k].max())
        margin = 0.08 * (high - low) or 0.01
        ranges.append([low - margin, high + margin])
    return ranges[0], ranges[1]


def _staircase(
    problem: BenchProblem, corners: NDArray[np.float64], limits: _Limits
) -> tuple[list[float], list[float]]:
    """The line between what is attained and what is not, drawn to the edges of the panel."""
    worse = [
        limits[k][0] if o.direction == "maximize" else limits[k][1]
        for k, o in enumerate(problem.objectives)
    ]
    xs = [float(corners[0, 0]), *corners[:, 0].tolist(), worse[0]]
    ys = [worse[1], *corners[:, 1].tolist(), float(corners[-1, 1])]
    return xs, ys


def _surfaces(problem: BenchProblem, each: Attainment, limits: _Limits) -> list[dict[str, Any]]:
    widths = {"worst": 1.0, "best": 1.0, "median": 2.4}
    return [
        _step(problem, each.surfaces[label], limits)
        | {
            "name": f"{escaped(each.contestant)}, {label}",
            "line": {
                "color": COLOURS[0],
                "width": widths[label],
                "shape": "hv",
                "dash": "solid" if label == "median" else "dot",
            },
            "hovertemplate": f"{label} run attains %{{x:.4~f}}, %{{y:.4~f}}<extra></extra>",
        }
        for label in widths
        if label in each.surfaces and len(each.surfaces[label])
    ]


def _reference_surface(
    problem: BenchProblem, corners: NDArray[np.float64] | None, against: str, limits: _Limits
) -> dict[str, Any]:
    found = np.empty((0, 2)) if corners is None else corners
    return _step(problem, found, limits) | {
        "name": f"{escaped(against)}, median",
        "line": {"color": COLOURS[1], "width": 1.6, "shape": "hv", "dash": "dash"},
        "hovertemplate": f"half of {escaped(against)}: %{{x:.4~f}}, %{{y:.4~f}}<extra></extra>",
    }


def _best_front(problem: BenchProblem, limits: _Limits) -> dict[str, Any]:
    signs = np.array([o.sign for o in problem.objectives])
    points = np.array(problem.best_front) * signs
    kept = points[front_mask(points)]
    corners = kept[np.argsort(kept[:, 0])] * signs
    return _step(problem, corners, limits) | {
        "name": "best there is",
        "line": {"color": "#B4BDC7", "width": 1.4, "shape": "hv"},
        "hovertemplate": "best there is: %{x:.4~f}, %{y:.4~f}<extra></extra>",
    }


def _step(
    problem: BenchProblem, corners: NDArray[np.float64], limits: _Limits
) -> dict[str, Any]:
    xs, ys = _staircase(problem, corners, limits) if len(corners) else ([], [])
    return {"type": "scatter", "mode": "lines", "x": xs, "y": ys}


def _heading(name: str, domain: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "text": escaped(name),
        "x": domain["x"][0],
        "y": domain["y"][1],
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13, "color": INK},
        "yshift": 4,
    }


# ---- marks


def _measure(problem: BenchProblem) -> str:
    if problem.several:
        return "hypervolume on test items"
    return f"{escaped(problem.objectives[0].name)} on test items"


def _short(name: str) -> str:
    text = name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
    return escaped(text)


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _dash(k: int) -> str:
    return _DASHES[(k // len(COLOURS)) % len(_DASHES)]


def _transparent(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
