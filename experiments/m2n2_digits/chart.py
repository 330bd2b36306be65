"""Line charts side by side as one SVG file, with bands of standard errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 26, 34, 44
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2")
LOWEST, HIGHEST = 0.0, 100.0


@dataclass(frozen=True)
class Line:
    """One curve; a single point is drawn as a dashed line across the panel."""

    name: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One chart: accuracy in per cent over evaluations."""

    title: str
    lines: Sequence[Line]


def _x(value: float, highest: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / highest


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (HIGHEST - value) / (HIGHEST - LOWEST)


def _points(xs: Iterable[float], ys: Iterable[float], highest: float) -> str:
    return " ".join(f"{_x(x, highest):.1f},{_y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _axes(title: str, highest: float) -> list[str]:
    parts = [_text(WIDTH / 2, 18, title)]
    for level in range(int(LOWEST), int(HIGHEST) + 1, 20):
        parts.append(
            f'<path d="M{LEFT},{_y(level):.1f}H{WIDTH - RIGHT}" stroke="#ddd" fill="none"/>'
        )
        parts.append(_text(LEFT - 6, _y(level) + 4, f"{level}", "end"))
    for fifth in range(6):
        value = highest * fifth / 5
        parts.append(_text(_x(value, highest), HEIGHT - BOTTOM + 18, f"{value:,.0f}"))
    parts.append(_text(WIDTH / 2, HEIGHT - 8, "evaluations (test accuracy in per cent)"))
    return parts


def _curve(line: Line, colour: str, highest: float) -> list[str]:
    stroke = f'fill="none" stroke="{colour}" stroke-width="1.5"'
    if len(line.x) == 1:
        ends = _points([0, highest], [line.y[0]] * 2, highest)
        return [f'<polyline points="{ends}" {stroke} stroke-dasharray="5 4"/>']
    band = _points(
        [*line.x, *line.x[::-1]],
        [*(line.y + line.error), *(line.y - line.error)[::-1]],
        highest,
    )
    return [
        f'<polygon points="{band}" fill="{colour}" fill-opacity="0.2" stroke="none"/>',
        f'<polyline points="{_points(line.x, line.y, highest)}" {stroke}/>',
    ]


def _panel(panel: Panel) -> list[str]:
    highest = max((float(line.x[-1]) for line in panel.lines), default=1.0)
    parts = _axes(panel.title, highest)
    for index, (line, colour) in enumerate(zip(panel.lines, COLOURS, strict=False)):
        parts += _curve(line, colour, highest)
        height = HEIGHT - BOTTOM - 12 - 15 * (len(panel.lines) - 1 - index)
        label = f"{line.name} {line.y[-1]:.1f}"
        parts.append(f'<g fill="{colour}">{_text(WIDTH - RIGHT - 8, height, label, "end")}</g>')
    return parts


def write_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Write the charts next to each other."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({WIDTH * index},0)">')
        parts += [*_panel(panel), "</g>"]
    path.write_text("\n".join([*parts, "</svg>", ""]))
