"""The live view for a terminal: a screenful of tables, and one line where there is none."""

import time
from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evomerge.core.worker_state import WorkerState
from evomerge.report import number_text
from evomerge.report.live_reader import how_to_resume
from evomerge.report.live_view import Course, LiveView

_STATE_STYLE = {
    "running": "bold cyan",
    "finished": "bold green",
    "interrupted": "bold yellow",
    "killed": "bold red",
}
_BAR, _SMALL_BAR = 32, 10
_FEWEST_ROWS = 3
_TABLE_LINES = 5
"""Of a table besides its rows: a blank line before it, title, headings, rule, caption."""

_SPARE = 2
"""Lines left for the cursor and for one line that is too long."""

_LATEST, _LATEST_ON_SMALL = 4, 2
_SMALL = 44
"""Failures and incidents shown each, fewer on a screen of fewer lines; the page shows more."""

_SPARKS, _SPARK_WIDTH = "▁▂▃▄▅▆▇█", 24


def screen(view: LiveView, height: int) -> Group:
    """The view as tables that fit a screen.

    Args:
        view: The study now.
        height: Lines of the screen; long tables say how many rows they leave out.
    """
    parts: list[RenderableType] = [_title(view)]
    if view.limits:
        parts.append(_bars(view))
    parts.append(Text(_figures(view)))
    used = 2 + len(view.limits)
    if view.nearest is not None:
        parts.append(Text(nearest_text(view), style="yellow"))
        used += 1
    if any(course.steps for course in view.courses):
        parts += [Text(), _courses(view)]
        used += 1 + len(view.courses)
    foot = _troubles(view, _LATEST if height >= _SMALL else _LATEST_ON_SMALL)
    if not view.at_work:
        foot += [Text(), Text(ending(view), style="bold")]
    used += len(foot) + _TABLE_LINES * (bool(view.front) + bool(view.workers))
    workers, front = _rows(view, height - used - _SPARE)
    if front:
        parts += [Text(), _front(view, front)]
    if workers:
        parts += [Text(), _workers(view, workers)]
    return Group(*parts, *foot)


def _rows(view: LiveView, room: int) -> tuple[int, int]:
    """How many workers and front candidates to show in so many lines, a few at any rate."""
    workers = min(len(view.workers), max(_FEWEST_ROWS, room // 2, room - len(view.front)))
    return workers, min(len(view.front), max(_FEWEST_ROWS, room - workers))


def line(view: LiveView) -> str:
    """The view in one line, the same for the same state of the study."""
    counts = view.counts
    parts = [f"{view.name}: {progress_text(view)}"]
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if view.front:
        best = ", ".join(
            f"{course.label} {number_text.number(course.steps[-1].value)}"
            for course in view.courses
        )
        parts.append(f"front {len(view.front)}, best {best}")
    if view.nearest is not None:
        parts.append(nearest_text(view))
    conditions = Counter(worker.condition for worker in view.workers)
    if len(view.workers) > 1 and view.at_work:
        said = ", ".join(f"{n} {condition}" for condition, n in conditions.items())
        parts.append(f"{len(view.workers)} workers: {said}")
    if view.incident_count:
        parts.append(f"{view.incident_count} incidents")
    return " · ".join(parts)


def nearest_text(view: LiveView) -> str:
    """What is nearest to the constraints while no candidate meets them."""
    if view.nearest is None:
        return ""
    missed = number_text.number(view.nearest.violation)
    return f"none meets the constraints, trial {view.nearest.number} misses them by {missed}"


def pace_text(view: LiveView) -> str:
    """Rate and time left, as far as known: ``14.2 a minute · about 3 min 10 s left``."""
    parts = [f"{view.per_minute:.3g} a minute"] if view.per_minute else []
    if view.seconds_left is not None:
        parts.append(f"about {number_text.duration(view.seconds_left)} left")
    return " · ".join(parts)


def progress_text(view: LiveView) -> str:
    """What is being done and how far it is: ``search 34/60``."""
    if view.advance is None:
        done = view.counts.complete + view.counts.failed
        return f"{view.state}, {done} candidates done"
    advance = view.advance
    if advance.phase == "preparing":
        return "preparing: models are loaded, or the report is written"
    of = f"/{advance.total}" if advance.total is not None else ""
    return f"{advance.phase} {advance.done}{of}"


def ending(view: LiveView) -> str:
    """What has become of a study that no process works on, and how to go on."""
    command = how_to_resume(view)
    if view.state == "finished":
        return (
            f"The study has finished. Report: {view.run_dir / 'report.html'}. Extend: {command}"
        )
    if view.state == "interrupted":
        return f"The search was stopped; every finished trial is kept. Go on: {command}"
    return (
        "The process that worked on it has died; every finished trial is kept. "
        f"Go on: {command}"
    )


def _title(view: LiveView) -> Text:
    text = Text.assemble((view.name, "bold"), "  ", (view.state, _STATE_STYLE[view.state]))
    if view.advance is not None:
        text.append(f"  {progress_text(view)}")
    return text


def _bars(view: LiveView) -> Table:
    table = Table.grid(padding=(0, 2))
    for limit in view.limits:
        used = (
            number_text.number(limit.used) if limit.what == "minutes" else f"{limit.used:,.0f}"
        )
        table.add_row(
            limit.what,
            ProgressBar(total=limit.total, completed=min(limit.used, limit.total), width=_BAR),
            f"{used} of {limit.total:,.6g}",
        )
    return table


def _figures(view: LiveView) -> str:
    counts = view.counts
    parts = [f"{counts.complete} scored", f"{counts.failed} failed", f"{counts.open} open"]
    if view.constraints:
        parts.insert(1, f"{view.feasible} within constraints")
    parts.append(f"{number_text.count(view.item_evaluations)} item evaluations")
    parts.append(f"{number_text.duration(view.seconds)} worked")
    return " · ".join(parts + ([pace_text(view)] if pace_text(view) else []))


def _courses(view: LiveView) -> Table:
    table = Table.grid(padding=(0, 2))
    for course in view.courses:
        step = course.steps[-1]
        beat = course.to_beat
        k = view.courses.index(course)
        against = f"{beat.name} {number_text.number(beat.estimates[k].value)}" if beat else ""
        table.add_row(
            Text(f"best {course.label}"),
            Text(number_text.number(step.value), style="bold"),
            Text(f"trial {step.trial}"),
            Text(_sparks(course, view.counts.complete), style="cyan"),
            Text(against, style="dim"),
        )
    return table


def _sparks(course: Course, scored: int) -> str:
    """The best value over the candidates scored, as a row of little bars; higher is better."""
    sign = 1.0 if course.direction == "maximize" else -1.0
    width = min(_SPARK_WIDTH, scored)
    values = []
    for column in range(1, width + 1):
        by_then = [s.value for s in course.steps if s.scored <= column * scored / width]
        values += [sign * by_then[-1]] if by_then else []
    low, high = values[0], values[-1]
    span = (high - low) or 1.0
    before = " " * (width - len(values))  # nothing met the constraints yet
    return before + "".join(
        _SPARKS[round((v - low) / span * (len(_SPARKS) - 1))] for v in values
    )


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def _front(view: LiveView, most: int) -> Table:
    table = _table(f"front, {len(view.front)} candidate{'s' * (len(view.front) != 1)}")
    table.add_column("trial", justify="right")
    table.add_column("name")
    for label in view.labels:
        table.add_column(Text(label), justify="right")
    for point in view.front[:most]:
        scores = [Text(number_text.estimate(estimate)) for estimate in point.estimates]
        table.add_row(str(point.number), Text(point.name), *scores)
    if len(view.front) > most:
        table.caption = f"and {len(view.front) - most} more"
    return table


def _workers(view: LiveView, most: int) -> Table:
    title = "workers" if view.at_work else "workers, as last seen"
    table = _table(title)
    for heading in ("worker", "does", "node"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for heading in ("jobs", "restarts", "busy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for worker in view.workers[:most]:
        table.add_row(
            Text(worker.name),
            Text(activity(worker), style="red" if worker.condition == "lost" else ""),
            Text(worker.node),
            str(worker.jobs),
            str(worker.restarts),
            _utilisation(worker),
        )
    if len(view.workers) > most:
        table.caption = f"and {len(view.workers) - most} more"
    return table


def activity(worker: WorkerState) -> str:
    """What a worker does: ``busy with trial 57``."""
    if worker.condition == "busy" and worker.trial is not None:
        return f"busy with trial {worker.trial}"
    return worker.condition


def _utilisation(worker: WorkerState) -> Text:
    share = worker.utilisation
    filled = round(share * _SMALL_BAR)
    return Text.assemble(
        ("━" * filled, "cyan"), ("━" * (_SMALL_BAR - filled), "dim"), f" {share:4.0%}"
    )


def _troubles(view: LiveView, most: int) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for failure in view.failures[:most]:
        text = f"failed {failure.count}×, {failure.stage}: {failure.reason}"
        lines.append(Text(" ".join(text.split()), no_wrap=True, overflow="ellipsis"))
    if view.failure_reasons > most:
        lines.append(Text(f"and {view.failure_reasons - most} more reasons", style="dim"))
    for incident in view.incidents[:most]:
        at = time.strftime("%H:%M:%S", time.localtime(incident.at))
        text = f"{at} {incident.worker}: {incident.what}"
        lines.append(Text(" ".join(text.split()), no_wrap=True, overflow="ellipsis"))
    if view.incident_count > most:
        lines.append(Text(f"and {view.incident_count - most} more incidents", style="dim"))
    return [Text(), *lines] if lines else []
