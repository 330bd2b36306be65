"""The study as tables and lines for a terminal."""

import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text

from evomerge.report import number_text
from evomerge.report.constraint_table import misses_text
from evomerge.report.summary import Summary

_MOST_ROWS = 20


def front_table(summary: Summary) -> Table:
    """The front to choose from: rank, trial, scores; at most 20 rows and how many more.

    With a final front the scores are those on test items, otherwise on search items.
    """
    tested = {row.trial.number: row.test for row in summary.final.rows} if summary.final else {}
    items = "test items" if tested else "search items"
    table = Table(title=f"{summary.result_kind}, {items}", title_justify="left")
    for heading in ("#", "trial", "name"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for label in summary.labels:
        table.add_column(Text(label), justify="right")
    table.add_column("remark")
    for rank, member in enumerate(summary.result[:_MOST_ROWS], 1):
        trial = member.trial
        scores = tested.get(trial.number, trial.estimates)
        balanced = trial.number == summary.balanced and len(summary.labels) > 1
        remarks = ["most balanced"] * (balanced and summary.feasible)
        if missed := misses_text(summary, trial, "test"):
            remarks.append(missed)
        elif member.violation:
            remarks.append("misses constraints on validation items")
        remarks += [f"not better than {', '.join(member.beaten_by)}"] * bool(member.beaten_by)
        table.add_row(
            str(rank),
            str(trial.number),
            Text(trial.name),
            *(Text(number_text.estimate(score)) for score in scores),
            Text("; ".join(remarks)),
        )
    if not summary.result:
        table.caption = "no candidate has been scored"
    elif not summary.feasible:
        table.caption = "no candidate meets the constraints"
    elif len(summary.result) > _MOST_ROWS:
        table.caption = f"and {len(summary.result) - _MOST_ROWS} more in front.csv"
    return table


def baselines_table(summary: Summary) -> Table:
    """Sources and baselines on the search items, and on the test items once there are any."""
    tested = {row.trial.number: row.test for row in summary.final.rows} if summary.final else {}
    items = "test items" if tested else "search items"
    table = Table(title=f"sources and baselines, {items}", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("name")
    table.add_column("kind")
    for label in summary.labels:
        table.add_column(Text(label), justify="right")
    if summary.facts.constraints:
        table.add_column("remark")
    for trial in summary.baselines:
        scores = tested.get(trial.number, trial.estimates)
        cells = [Text(number_text.estimate(score)) for score in scores]
        table.add_row(
            str(trial.number),
            Text(trial.name),
            trial.kind,
            *(cells or [Text(trial.status)] * len(summary.labels)),
            *([Text(misses_text(summary, trial, "test"))] if summary.facts.constraints else []),
        )
    return table


def status_lines(summary: Summary, run_dir: Path, *, running: bool) -> list[Text]:
    """How far the study is, its verdict so far, and how to go on, a line each.

    Args:
        summary: The study.
        run_dir: Shown in the commands.
        running: Whether a process is at work on it now.
    """
    counts = summary.counts
    wanted = summary.facts.budget.get("candidates")
    of = f" of {wanted}" if wanted else ""
    lines = [
        Text(f"{summary.name}: {_state(summary, running=running)}", style="bold"),
        Text(
            f"{counts.complete + counts.failed}{of} candidates done: {counts.complete} scored, "
            f"{counts.failed} failed, {counts.open} open"
        ),
        Text(
            f"{counts.item_evaluations} item evaluations in "
            f"{number_text.duration(counts.seconds)}" + _pace(counts.candidates_per_minute)
        ),
        Text(summary.verdict),
    ]
    if summary.facts.constraints:
        feasible = f"{counts.feasible} of {counts.complete} scored candidates"
        lines.insert(2, Text(f"{feasible} meet all constraints"))
    if summary.facts.crews:
        crew = summary.facts.crews[-1]
        lines.insert(
            -1,
            Text(f"{_workers(len(crew.workers))}, {crew.utilisation:.0%} of the time at work"),
        )
    lines += [
        Text(f"failed {len(failure.trials)}×, {failure.stage}: {failure.reason}")
        for failure in summary.failures[:3]
    ]
    if not running:
        lines += [
            Text(f"{title}:  {command}") for title, command in how_to_go_on(summary, run_dir)
        ]
    return lines


def how_to_go_on(summary: Summary, run_dir: Path) -> list[tuple[str, str]]:
    """What resumes or extends the study: a title and a command each."""
    place = shlex.quote(str(run_dir))
    commands = [("extend by 100 candidates", f"evomerge resume {place} --add 100")]
    if summary.state != "finished":
        commands.insert(0, ("resume", f"evomerge resume {place}"))
    return commands


def _state(summary: Summary, *, running: bool) -> str:
    if running:
        return "running"
    return "interrupted" if summary.state == "running" else summary.state


def _pace(rate: float | None) -> str:
    return f", {rate:.3g} candidates a minute" if rate else ""


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"
