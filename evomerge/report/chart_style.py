"""How the report's charts look: palette, axes, hover text and grids of panels.

Figures are plain dictionaries in plotly's JSON schema, so that they are built without plotly.
"""

import html
from collections.abc import Sequence
from typing import Any

from evomerge.core.objectives import Estimate
from evomerge.report import number_text
from evomerge.report.constraint_table import misses
from evomerge.report.summary import Summary
from evomerge.store.trials import Trial

Figure = dict[str, Any]
"""A figure with ``data`` and ``layout`` as in plotly's JSON schema."""

# Okabe and Ito's palette, told apart by every common form of colour blindness; symbols
# differ too, so that nothing depends on colour alone.
FRONT, SOURCE, BASELINE = "#0072B2", "#D55E00", "#007D5A"
CANDIDATE, INK, QUIET, GRID = "#AEB8C4", "#1F2933", "#5B6875", "#E6EAEF"
SEQUENCE = ("#08306B", "#0B5FA5", "#2E8BC0", "#3FA796", "#7DB356", "#C9A227")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"

PLAIN_STYLE = {
    "source": {"color": SOURCE, "symbol": "diamond"},
    "baseline": {"color": BASELINE, "symbol": "square"},
}

_GENES_SHOWN = 12


def escaped(text: object) -> str:
    """Text that plotly shows as it is, whatever tags it holds."""
    return html.escape(str(text), quote=False)


def wrapped(text: str, width: int = 14) -> str:
    """Escaped text in lines of about so many characters, broken at spaces and after dots."""
    lines = [""]
    for word in text.replace(".", ". ").split():
        joint = "" if not lines[-1] or lines[-1].endswith(".") else " "
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append(word)
        else:
            lines[-1] += joint + word
    return "<br>".join(escaped(line) for line in lines)


def hover_text(summary: Summary, trial: Trial, values: Sequence[Estimate] | None = None) -> str:
    """Name, scores with standard errors, and genes of a trial, one a line.

    Args:
        summary: The study.
        trial: A scored trial.
        values: Scores to show, the search's where None; with those on the test items goes
            what it misses there.
    """
    lines = [f"<b>{escaped(trial.name)}</b>  (trial {trial.number})"]
    for label, value in zip(summary.labels, values or trial.estimates, strict=True):
        lines.append(f"{escaped(label)}: {number_text.estimate(value)}")
    measured = trial.constraints
    for row in summary.final.rows if summary.final and values is not None else ():
        if row.trial.number == trial.number and row.test == values:
            measured = row.constraints
    for label, amount in misses(summary.facts.constraints, measured):
        lines.append(f"<b>misses {escaped(label)} by {amount}</b>")
    genome = list((trial.genome or {}).items())
    lines += [
        f"<span style='color:{QUIET}'>{escaped(name)} = {escaped(number_text.gene(v))}</span>"
        for name, v in genome[:_GENES_SHOWN]
    ]
    if len(genome) > _GENES_SHOWN:
        lines.append(f"<span style='color:{QUIET}'>… {len(genome) - _GENES_SHOWN} more</span>")
    return "<br>".join(lines)


def points(
    x: Sequence[float], y: Sequence[float], name: str, texts: Sequence[str], **style: object
) -> dict[str, Any]:
    """A trace of markers with hover text; ``style`` overrides single keys."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": escaped(name),
        "text": list(texts),
        "hovertemplate": "%{text}<extra></extra>",
        **style,
    }


def axis(title: str, **more: object) -> dict[str, Any]:
    """A calm axis: light grid, no zero line, title in quiet ink."""
    return {
        "title": {"text": title, "font": {"size": 13, "color": QUIET}, "standoff": 10},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "tickfont": {"size": 12, "color": QUIET},
        "automargin": True,
        **more,
    }


def layout(height: int, **more: object) -> dict[str, Any]:
    """What all charts share."""
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 36, "t": 36, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#FFFFFF",
        "font": {"family": FONT, "size": 13, "color": INK},
        "hovermode": "closest",
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "#B4BDC7",
            "activecolor": FRONT,
            "orientation": "v",
        },
        "hoverlabel": {
            "bgcolor": "#FFFFFF",
            "bordercolor": "#9AA5B1",
            "align": "left",
            "font": {"family": FONT, "size": 12.5, "color": INK},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12.5},
        },
        **more,
    }


def panels(count: int, columns: int, gap: float, gap_y: float) -> list[dict[str, list[float]]]:
    """Domains of a grid's panels, row by row from the top: ``x`` and ``y`` in [0, 1].

    Args:
        count: How many panels.
        columns: Panels a row.
        gap: Between columns, as a share of the width.
        gap_y: Between rows, as a share of the height.
    """
    rows = -(-count // columns)
    wide = (1 - gap * (columns - 1)) / columns
    high = (1 - gap_y * (rows - 1)) / rows
    domains = []
    for k in range(count):
        row, column = divmod(k, columns)
        left = column * (wide + gap)
        top = 1 - row * (high + gap_y)
        domains.append({"x": [left, min(1.0, left + wide)], "y": [max(0.0, top - high), top]})
    return domains


def panel_keys(number: int) -> tuple[str, str, str, str]:
    """Names of a panel's axes, counted from 0: x, y, and their layout keys."""
    suffix = "" if number == 0 else str(number + 1)
    return f"x{suffix}", f"y{suffix}", f"xaxis{suffix}", f"yaxis{suffix}"


def thinned(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most so many trials, evenly spread over the search."""
    if len(trials) <= most:
        return list(trials)
    return [trials[k * len(trials) // most] for k in range(most)]
