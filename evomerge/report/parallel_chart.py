"""Parallel coordinates of genes and objectives, as lines that can be hovered.

Plotly's own parallel coordinates need WebGL and show no hover text; these need neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import GeneValue
from evomerge.report.chart_style import (
    CANDIDATE,
    INK,
    PLAIN_STYLE,
    QUIET,
    SEQUENCE,
    Figure,
    axis,
    escaped,
    hover_text,
    layout,
    thinned,
    wrapped,
)
from evomerge.report.number_text import gene as gene_text
from evomerge.report.number_text import number
from evomerge.report.study_facts import GeneFacts
from evomerge.report.summary import Summary
from evomerge.store.trials import Trial

GENES_SHOWN = 10
_BACKGROUND = 300
_OPTIONS_SHOWN = 6


@dataclass(frozen=True)
class _Axis:
    """One vertical axis: where a trial sits on it, and what is written beside it."""

    title: str
    """As plotly's markup."""

    height: Callable[[Trial], float]
    """From 0 at the bottom to 1 at the top."""

    ticks: tuple[tuple[float, str], ...]


def gene_chart(summary: Summary) -> Figure | None:
    """Genes and objectives of the candidates; None while none is scored.

    Where there are many genes, those are shown that go most with any objective.
    """
    candidates = summary.facts.complete("candidate")
    if not candidates:
        return None
    genes = leading_genes(summary, GENES_SHOWN)
    axes = [_gene_axis(gene, candidates) for gene in genes]
    axes += [_objective_axis(summary, k, candidates) for k in range(len(summary.objectives))]
    if len(axes) < 2:
        return None
    return _figure(axes, _background(summary, axes) + _members(summary, axes))


def objective_chart(summary: Summary) -> Figure | None:
    """All objectives of every trial, sources and baselines included."""
    scored = summary.facts.complete("source", "baseline", "candidate")
    if not scored:
        return None
    axes = [_objective_axis(summary, k, scored) for k in range(len(summary.objectives))]
    plain = [
        _lines(
            summary,
            axes,
            [trial],
            name=trial.name,
            line={"color": PLAIN_STYLE[trial.kind]["color"], "width": 2, "dash": "dash"},
            marker={**PLAIN_STYLE[trial.kind], "size": 8},
        )
        for trial in summary.baselines
        if trial.status == "complete"
    ]
    return _figure(axes, _background(summary, axes) + _members(summary, axes) + plain)


def leading_genes(summary: Summary, most: int) -> list[GeneFacts]:
    """The genes that go most with any objective, in the space's order.

    Numbers by the absolute rank correlation (Spearman), choices by the correlation ratio.
    """
    genes = [gene for gene in summary.facts.genes if gene.kind != "splits"]  # whole tables
    candidates = summary.facts.complete("candidate")
    if len(genes) <= most or not candidates:
        return genes[:most]
    values = np.array([trial.values for trial in candidates])
    strength = {
        gene.name: max(
            _strength(gene, candidates, values[:, k]) for k in range(values.shape[1])
        )
        for gene in genes
    }
    leading = sorted(genes, key=lambda gene: -strength[gene.name])[:most]
    return [gene for gene in genes if gene in leading]


def _strength(gene: GeneFacts, trials: Sequence[Trial], values: NDArray[np.float64]) -> float:
    if not np.ptp(values):
        return 0.0
    column = [(trial.genome or {}).get(gene.name) for trial in trials]
    if gene.kind == "choice":
        groups = [values[[v == option for v in column]] for option in gene.options]
        between = sum(len(g) * (g.mean() - values.mean()) ** 2 for g in groups if len(g))
        return float(np.sqrt(between / ((values - values.mean()) ** 2).sum()))
    numbers = np.array([float(v) if v is not None else np.nan for v in column])
    if not np.isfinite(numbers).all() or not np.ptp(numbers):
        return 0.0
    return abs(float(np.corrcoef(_ranks(numbers), _ranks(values))[0, 1]))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, equal values sharing their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[places], dtype=np.float64)


def _gene_axis(gene: GeneFacts, trials: Sequence[Trial]) -> _Axis:
    column = [(t.genome or {}).get(gene.name) for t in trials]
    if gene.kind == "choice":
        options = list(gene.options) or list(dict.fromkeys(v for v in column if v is not None))
        places = {repr(o): k / max(1, len(options) - 1) for k, o in enumerate(options)}
        ticks = [(places[repr(o)], gene_text(o)) for o in options[:_OPTIONS_SHOWN]]
        return _Axis(
            wrapped(gene.name), _by_gene(gene.name, lambda v: places[repr(v)]), tuple(ticks)
        )
    numbers = [float(v) for v in column if v is not None]
    low = gene.low if gene.low is not None else min(numbers, default=0.0)
    high = gene.high if gene.high is not None else max(numbers, default=1.0)
    warp = np.log if gene.log and low > 0 else float
    width = float(warp(high)) - float(warp(low)) or 1.0

    def height(value: GeneValue) -> float:
        return (float(warp(float(value))) - float(warp(low))) / width

    ticks = [(0.0, gene_text(low)), (1.0, gene_text(high))]
    return _Axis(wrapped(gene.name), _by_gene(gene.name, height), tuple(ticks))


def _by_gene(name: str, height: Callable[[GeneValue], float]) -> Callable[[Trial], float]:
    return lambda trial: height((trial.genome or {})[name])


def _objective_axis(summary: Summary, k: int, trials: Sequence[Trial]) -> _Axis:
    """Better is up, whichever way the objective goes."""
    values = [trial.values[k] for trial in trials]
    sign = summary.objectives[k].sign
    best, worst = min(sign * v for v in values) * sign, max(sign * v for v in values) * sign
    width = (best - worst) or 1.0
    return _Axis(
        f"<b>{wrapped(summary.labels[k])}</b>",
        lambda trial: (trial.values[k] - worst) / width if best != worst else 0.5,
        ((0.0, number(worst)), (1.0, number(best)))
        if best != worst
        else ((0.5, number(best)),),
    )


def _background(summary: Summary, axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    members = {member.trial.number for member in summary.result}
    rest = [t for t in summary.facts.complete("candidate") if t.number not in members]
    if not rest:
        return []
    shown = thinned(rest, _BACKGROUND)
    name = "other candidates" + (f" ({len(shown)} of {len(rest)})" if shown != rest else "")
    trace = _lines(summary, axes, shown, name, {"color": CANDIDATE, "width": 0.8}, None)
    return [trace | {"opacity": 0.35, "hoverinfo": "skip", "hovertemplate": None, "text": None}]


def _members(summary: Summary, axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    """The front, coloured in steps by rank in the first objective."""
    members = [member.trial for member in summary.result]
    steps = min(len(SEQUENCE), len(members))
    traces = []
    for k in range(steps):
        part = members[k * len(members) // steps : (k + 1) * len(members) // steps]
        colour = SEQUENCE[k * (len(SEQUENCE) - 1) // max(1, steps - 1)]
        trace = _lines(
            summary,
            axes,
            part,
            f"{summary.result_kind}, from best (dark) to worst in {summary.labels[0]}",
            {"color": colour, "width": 1.8},
            {"color": colour, "size": 5},
        )
        traces.append(trace | {"legendgroup": "front", "showlegend": k == 0})
    return traces


def _lines(
    summary: Summary,
    axes: Sequence[_Axis],
    trials: Sequence[Trial],
    name: str,
    line: dict[str, Any],
    marker: dict[str, Any] | None,
) -> dict[str, Any]:
    """Many lines in one trace, with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        x += [*range(len(axes)), None]
        y += [*(round(a.height(trial), 5) for a in axes), None]
        texts += [hover_text(summary, trial) if marker else ""] * (len(axes) + 1)
    return {
        "type": "scatter",
        "mode": "lines+markers" if marker else "lines",
        "x": x,
        "y": y,
        "name": escaped(name),
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "line": line,
        "marker": marker or {},
        "connectgaps": False,
    }


def _figure(axes: Sequence[_Axis], data: list[dict[str, Any]]) -> Figure:
    figure_layout = layout(
        480,
        xaxis=axis(
            "",
            tickvals=list(range(len(axes))),
            ticktext=[a.title for a in axes],
            tickangle=0,
            side="bottom",
            showgrid=True,
            gridcolor="#C9D1DA",
            range=[-0.4, len(axes) - 0.45],
            tickfont={"size": 11.5, "color": INK},
        ),
        yaxis=axis("", range=[-0.06, 1.08], showticklabels=False, showgrid=False),
        annotations=[
            {
                "x": k,
                "y": height,
                "text": escaped(text),
                "showarrow": False,
                "xanchor": "left",
                "xshift": 5,
                "yshift": 9 if height > 0.5 else -8,
                "font": {"size": 11, "color": QUIET},
                "bgcolor": "rgba(255,255,255,0.75)",
            }
            for k, a in enumerate(axes)
            for height, text in a.ticks
        ],
    )
    return {"data": data, "layout": figure_layout}
