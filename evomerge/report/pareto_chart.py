"""Charts of the Pareto front: a scatter for two objectives, a matrix of pairs for more."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from evomerge.core.objectives import Estimate
from evomerge.core.pareto import front_mask
from evomerge.report.chart_style import (
    CANDIDATE,
    FRONT,
    PLAIN_STYLE,
    QUIET,
    Figure,
    axis,
    escaped,
    hover_text,
    layout,
    panel_keys,
    panels,
    points,
    thinned,
)
from evomerge.report.summary import Summary
from evomerge.store.trials import Trial

Scores = Mapping[int, tuple[Estimate, ...]]
"""Estimates by trial number."""

_MATRIX_OBJECTIVES = 6
"""Beyond 15 panels nobody can compare them; the parallel coordinates show all objectives."""

_MATRIX_POINTS = 250
MISSED = "miss a constraint"
_HOLLOW = {"symbol": "circle-open", "color": QUIET, "opacity": 0.55, "line": {"width": 1.3}}
_POSITIONS = {
    "top right": (0.06, 0.045),
    "top left": (-0.06, 0.045),
    "bottom right": (0.06, -0.045),
    "bottom left": (-0.06, -0.045),
}
"""Beside a point but off its error bars; offsets of a label's middle, as shares of the plot."""


def search_scatter(summary: Summary) -> Figure:
    """Every scored trial on two objectives, by search scores."""
    scores = {t.number: t.estimates for t in _scored(summary)}
    front = [member.trial for member in summary.front]
    dominated = _dominated(summary)
    traces = [
        _cloud(summary, dominated, scores, (0, 1)),
        _missed_points(summary, scores, (0, 1)),
        _step_line(summary, front, scores),
        _front_points(summary, _front(summary), scores, (0, 1)),
        *_named(summary, _plain(summary), scores, dominated + _front(summary)),
    ]
    return {"data": [t for t in traces if t["x"]], "layout": _scatter_layout(summary)}


def test_scatter(summary: Summary) -> Figure | None:
    """The final front, sources and baselines on two objectives, by test scores ± s.e."""
    if summary.final is None:
        return None
    scores = {row.trial.number: row.test for row in summary.final.rows}
    front = [row.trial for row in summary.final.candidates]
    plain = [row.trial for row in summary.final.rows if row.trial.kind != "candidate"]
    signs = np.array([objective.sign for objective in summary.objectives])
    values = np.array([[e.value for e in scores[t.number]] for t in front]).reshape(-1, 2)
    still = [t for t, on in zip(front, front_mask(values * signs), strict=True) if on]
    members = _front_points(summary, front, scores, (0, 1)) | {"name": "final front"}
    if not summary.final.feasible:
        still = []
        members |= {"name": "miss the constraints least"}
        members["marker"] |= {"color": "#FFFFFF"}
    traces = [
        _step_line(summary, still, scores),
        members,
        *_named(summary, plain, scores, front),
    ]
    for trace in traces[1:]:
        for k, key in enumerate(("error_x", "error_y")):
            errors = [scores[number][k].standard_error for number in trace["customdata"]]
            trace[key] = {"array": errors, "thickness": 1, "width": 0, "color": "#9AA5B1"}
    return {"data": [t for t in traces if t["x"]], "layout": _scatter_layout(summary)}


def pair_matrix(summary: Summary) -> Figure:
    """A panel for each pair of objectives; at most the first six objectives."""
    shown = range(min(len(summary.objectives), _MATRIX_OBJECTIVES))
    pairs = list(combinations(shown, 2))
    columns = 3 if len(pairs) > 1 else 1
    scores = {t.number: t.estimates for t in _scored(summary)}
    front = _front(summary)
    dominated = thinned(_dominated(summary), _MATRIX_POINTS)
    rows = -(-len(pairs) // columns)
    figure: Figure = {"data": [], "layout": layout(90 + 270 * rows)}
    for k, (pair, domain) in enumerate(
        zip(pairs, panels(len(pairs), columns, 0.09, 0.26 / rows), strict=True)
    ):
        x, y, x_key, y_key = panel_keys(k)
        groups = [
            _cloud(summary, dominated, scores, pair, short=True),
            _missed_points(summary, scores, pair, size=5),
            _front_points(summary, front, scores, pair),
            *_plain_points(summary, scores, pair),
        ]
        for trace in (group for group in groups if group["x"]):
            own = {"xaxis": x, "yaxis": y, "legendgroup": trace["name"], "showlegend": k == 0}
            figure["data"].append(trace | own)
        titles = [escaped(summary.labels[objective]) for objective in pair]
        figure["layout"][x_key] = axis(titles[0], domain=domain["x"], anchor=y, nticks=5)
        figure["layout"][y_key] = axis(titles[1], domain=domain["y"], anchor=x, nticks=5)
    return figure


def ranked_strip(summary: Summary) -> Figure:
    """One objective: all candidates from best to worst, sources and baselines as lines.

    Those that miss a constraint come after the others, the nearest first.
    """
    objective = summary.objectives[0]
    scored = summary.facts.complete("candidate")
    ranked = sorted(
        (t for t in scored if t.feasible), key=lambda t: objective.sign * t.values[0]
    )
    missing = sorted((t for t in scored if not t.feasible), key=lambda t: t.violation)
    colours = [FRONT if k == 0 else "#6FA8CF" for k in range(len(ranked))]
    strips = [
        _strip(summary, ranked, 1, "candidates ± s.e.", {"size": 7, "color": colours}),
        _strip(summary, missing, 1 + len(ranked), MISSED, {**_HOLLOW, "size": 7}),
    ]
    width = max(len(scored), 2)
    lines = [
        points(
            [0.5, width + 0.5],
            [trial.values[0]] * 2,
            trial.name if trial.feasible else f"{trial.name} (misses a constraint)",
            [hover_text(summary, trial)] * 2,
            mode="lines",
            customdata=[trial.number] * 2,
            line={
                "color": PLAIN_STYLE[trial.kind]["color"],
                "width": 1.5,
                "dash": ("solid", "dash", "dot", "dashdot")[k % 4],
            },
        )
        for k, trial in enumerate(_plain(summary))
    ]
    order = "candidates, best first"
    if missing:
        order += "; those that miss a constraint last, nearest to it first"
    figure_layout = layout(
        440,
        xaxis=axis(order, range=[0.2, width + 0.8]),
        yaxis=axis(_directed(summary, 0)),
    )
    return {"data": [*(s for s in strips if s["x"]), *lines], "layout": figure_layout}


def _strip(
    summary: Summary, trials: Sequence[Trial], first: int, name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    """Candidates side by side from a place on."""
    estimates = [trial.estimates[0] for trial in trials]
    errors = [estimate.standard_error for estimate in estimates]
    return points(
        range(first, first + len(trials)),
        [estimate.value for estimate in estimates],
        name,
        [hover_text(summary, trial) for trial in trials],
        customdata=[trial.number for trial in trials],
        marker=marker,
        error_y={"array": errors, "thickness": 1, "width": 0, "color": "#C6D3DF"},
    )


def _scored(summary: Summary) -> tuple[Trial, ...]:
    return summary.facts.complete("source", "baseline", "candidate")


def _plain(summary: Summary) -> list[Trial]:
    return [trial for trial in summary.baselines if trial.status == "complete"]


def _front(summary: Summary) -> list[Trial]:
    """The search front, and what of the final front the search's own scores had behind it."""
    if not summary.feasible:
        return []
    members = {m.trial.number: m.trial for m in (*summary.front, *summary.result)}
    return list(members.values())


def _dominated(summary: Summary) -> list[Trial]:
    front = {trial.number for trial in _front(summary)}
    return [t for t in summary.facts.feasible("candidate") if t.number not in front]


def _missed_points(
    summary: Summary, scores: Scores, pair: tuple[int, int], size: int = 7
) -> dict[str, Any]:
    """Candidates that miss a constraint, hollow."""
    front = {trial.number for trial in _front(summary)}
    candidates = summary.facts.complete("candidate")
    trials = [t for t in candidates if not t.feasible and t.number not in front]
    x, y = _coordinates(trials, scores, pair)
    return points(
        x,
        y,
        MISSED,
        [hover_text(summary, trial) for trial in trials],
        customdata=[trial.number for trial in trials],
        marker={**_HOLLOW, "size": size},
    )


def _plain_marker(trials: Sequence[Trial], kind: str, size: int) -> dict[str, Any]:
    """Sources or baselines, hollow where they miss a constraint."""
    style = PLAIN_STYLE[kind]
    symbols = [style["symbol"] + ("" if t.feasible else "-open") for t in trials]
    widths = [1 if trial.feasible else 2 for trial in trials]
    return {
        "color": style["color"],
        "symbol": symbols,
        "size": size,
        "line": {"color": "#FFFFFF", "width": widths},
    }


def _directed(summary: Summary, k: int) -> str:
    arrow = "higher" if summary.objectives[k].direction == "maximize" else "lower"
    return (
        f"{escaped(summary.labels[k])}  <span style='color:#8A96A3'>({arrow} is better)</span>"
    )


def _scatter_layout(summary: Summary) -> dict[str, Any]:
    return layout(540, xaxis=axis(_directed(summary, 0)), yaxis=axis(_directed(summary, 1)))


def _coordinates(
    trials: Sequence[Trial], scores: Scores, pair: tuple[int, int]
) -> tuple[list[float], list[float]]:
    values = [scores[trial.number] for trial in trials]
    return [v[pair[0]].value for v in values], [v[pair[1]].value for v in values]


def _cloud(
    summary: Summary,
    trials: Sequence[Trial],
    scores: Scores,
    pair: tuple[int, int],
    *,
    short: bool = False,
) -> dict[str, Any]:
    x, y = _coordinates(trials, scores, pair)
    texts = [
        f"{escaped(t.name)}  (trial {t.number})" if short else hover_text(summary, t)
        for t in trials
    ]
    return points(
        x,
        y,
        "dominated candidates",
        texts,
        customdata=[trial.number for trial in trials],
        marker={"size": 5 if short else 7, "color": CANDIDATE, "opacity": 0.65},
    )


def _front_points(
    summary: Summary, trials: Sequence[Trial], scores: Scores, pair: tuple[int, int]
) -> dict[str, Any]:
    """Front candidates; members of the final front are filled, the others hollow."""
    x, y = _coordinates(trials, scores, pair)
    chosen = {member.trial.number for member in summary.result}
    return points(
        x,
        y,
        "front candidates" if summary.final is None else "front (filled: final)",
        [hover_text(summary, trial, scores[trial.number]) for trial in trials],
        customdata=[trial.number for trial in trials],
        marker={
            "size": 10,
            "color": [FRONT if t.number in chosen else "#FFFFFF" for t in trials],
            "line": {"color": FRONT, "width": 1.6},
        },
    )


def _step_line(summary: Summary, front: Sequence[Trial], scores: Scores) -> dict[str, Any]:
    """The boundary of what the front attains; the corner depends on x's direction."""
    x, y = _coordinates(front, scores, (0, 1))
    order = sorted(range(len(x)), key=lambda k: x[k])
    shape = "vh" if summary.objectives[0].direction == "maximize" else "hv"
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x[k] for k in order],
        "y": [y[k] for k in order],
        "line": {"color": FRONT, "width": 1.4, "shape": shape},
        "opacity": 0.55,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _plain_points(
    summary: Summary, scores: Scores, pair: tuple[int, int]
) -> list[dict[str, Any]]:
    traces = []
    for kind, title in (("source", "source models"), ("baseline", "baselines")):
        trials = [trial for trial in _plain(summary) if trial.kind == kind]
        x, y = _coordinates(trials, scores, pair)
        trace = points(
            x,
            y,
            title,
            [hover_text(summary, trial, scores[trial.number]) for trial in trials],
            customdata=[trial.number for trial in trials],
            marker=_plain_marker(trials, kind, 9),
        )
        traces.append(trace)
    return traces


def _named(
    summary: Summary, plain: Sequence[Trial], scores: Scores, crowd: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Sources and baselines with their names beside them, placed where there is room."""
    traces = []
    places = _label_places(plain, scores, crowd)
    for kind, title in (("source", "source models"), ("baseline", "baselines")):
        trials = [trial for trial in plain if trial.kind == kind]
        x, y = _coordinates(trials, scores, (0, 1))
        texts = [hover_text(summary, trial, scores[trial.number]) for trial in trials]
        traces.append(
            points(
                x,
                y,
                title,
                [f"<b>{escaped(trial.name)}</b>" for trial in trials],
                mode="markers+text",
                cliponaxis=False,
                hovertext=texts,
                hovertemplate="%{hovertext}<extra></extra>",
                textposition=[places[trial.number] for trial in trials],
                textfont={"size": 12, "color": PLAIN_STYLE[kind]["color"]},
                customdata=[trial.number for trial in trials],
                marker=_plain_marker(trials, kind, 12),
            )
        )
    return traces


def _label_places(
    plain: Sequence[Trial], scores: Scores, crowd: Sequence[Trial]
) -> dict[int, str]:
    """Text positions, each the farthest from points and from labels placed before."""
    everyone = [*plain, *crowd]
    if not everyone:
        return {}
    values = np.array([_coordinates([t], scores, (0, 1)) for t in everyone]).reshape(-1, 2)
    span = np.ptp(values, axis=0)
    taken = list((values - values.min(axis=0)) / np.where(span > 0, span, 1.0))
    places = {}
    for k, trial in enumerate(plain):
        own = taken[k]
        others = np.array([p for j, p in enumerate(taken) if j != k] or [[9.0, 9.0]])
        room = {
            name: float(np.min(np.hypot(*((others - (own + offset)) / (1.0, 0.5)).T)))
            for name, offset in _POSITIONS.items()
        }
        places[trial.number] = max(room, key=lambda name: room[name])
        taken.append(own + np.array(_POSITIONS[places[trial.number]]))
    return places
