"""The live page: its HTML with all it needs, and a study's state as the page reads it."""

import base64
import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from evomerge.core.worker_state import WorkerState
from evomerge.report import chart_style
from evomerge.report.live_reader import how_to_resume
from evomerge.report.live_view import Course, LiveView, PlainTrial, Point

_LONGEST_REASON = 600


@dataclass(frozen=True)
class LivePage:
    """The page, the same for every study, and what it may load."""

    html: str
    policy: str
    """Content-Security-Policy: its own script and style, its own server, nothing else."""


@cache
def live_page() -> LivePage:
    """The page; everything is inline, so that it needs no other file and no network."""
    style = _environment().from_string(_file("live_page.css")).render(palette=_palette())
    script = _file("live_charts.js") + "\n" + _file("live_page.js")
    html = _environment().from_string(_file("live_page.html"))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return LivePage(html.render(style=Markup(style), script=Markup(script)), policy)


def view_plain(view: LiveView, since: int) -> dict[str, Any]:
    """A view as JSON values.

    Args:
        view: The study now.
        since: How many scored candidates the page knows; only later ones are told, so that
            a refresh costs no more late in a study than at its start.
    """
    first = since if 0 <= since <= len(view.candidates) else 0
    advance = view.advance
    return {
        "epoch": view.epoch,
        "name": view.name,
        "state": view.state,
        "resume": how_to_resume(view),
        "phase": advance
        and {"name": advance.phase, "done": advance.done, "total": advance.total},
        "limits": [asdict(limit) for limit in view.limits],
        "counts": asdict(view.counts),
        "item_evaluations": view.item_evaluations,
        "seconds": round(view.seconds, 1),
        "rate": view.per_minute,
        "left": view.seconds_left,
        "objectives": [_course(k, course) for k, course in enumerate(view.courses)],
        "plain": [_plain(trial) for trial in view.plain],
        "first": first,
        "points": [_point(point) for point in view.candidates[first:]],
        "front": [point.number for point in view.front],
        "constraints": list(view.constraints),
        "feasible": view.feasible,
        "nearest": view.nearest
        and {"trial": view.nearest.number, "violation": view.nearest.violation},
        "failures": [
            asdict(each) | {"reason": each.reason[:_LONGEST_REASON]} for each in view.failures
        ],
        "failure_reasons": view.failure_reasons,
        "workers": [_worker(worker) for worker in view.workers],
        "incidents": [asdict(incident) for incident in view.incidents],
        "incident_count": view.incident_count,
    }


def _course(place: int, course: Course) -> dict[str, Any]:
    beat = course.to_beat
    return {
        "label": course.label,
        "direction": course.direction,
        "steps": [[step.scored, step.value, step.trial] for step in course.steps],
        "beat": beat
        and {"name": beat.name, "kind": beat.kind, "value": beat.estimates[place].value},
    }


def _plain(trial: PlainTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "name": trial.name,
        "values": [estimate.value for estimate in trial.estimates],
        "errors": [estimate.standard_error for estimate in trial.estimates],
        "violation": trial.violation,
    }


def _point(point: Point) -> list[Any]:
    return [
        point.number,
        point.name,
        [estimate.value for estimate in point.estimates],
        [float(f"{estimate.standard_error:.4g}") for estimate in point.estimates],
        point.violation,
    ]


def _worker(worker: WorkerState) -> dict[str, Any]:
    return {
        "name": worker.name,
        "node": worker.node,
        "condition": worker.condition,
        "trial": worker.trial,
        "jobs": worker.jobs,
        "restarts": worker.restarts,
        "busy": round(worker.busy_seconds, 1),
        "ready": round(worker.ready_seconds, 1),
        "utilisation": round(worker.utilisation, 3),
    }


def _palette() -> str:
    """The report's colours as CSS properties."""
    names = ("ink", "quiet", "grid", "front", "source", "baseline", "candidate")
    return " ".join(f"--{name}: {getattr(chart_style, name.upper())};" for name in names)


def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined)


def _file(name: str) -> str:
    return resources.files("evomerge.report").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
