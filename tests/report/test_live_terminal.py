"""The live view as a terminal shows it."""

import io
import re
from dataclasses import replace

import pytest
from report.live_study import LiveStudy
from rich.console import Console

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.report.live_reader import LiveReader
from evomerge.report.live_terminal import line, screen


@pytest.fixture
def study(tmp_path):
    with LiveStudy(
        tmp_path / "study", objectives=3, source_names=("[red]a[/red]", "b", "c")
    ) as s:
        yield s


def shown(view, height, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(screen(view, height))
    return console.file.getvalue()


def crowded(study):
    for k, trial in enumerate(study.ask(40)):
        study.finish(trial, k / 40, 1 - k / 40, 0.5, at=float(k))
    for k, trial in enumerate(study.ask(30)):
        study.fail(trial, f"out of memory\nin layer {k} " + "x" * 300)
    states = [
        WorkerState(f"worker {k}", "node", "busy", k, 5, 1, 9.0, 10.0) for k in range(1, 65)
    ]
    incidents = [Incident(float(k), f"worker {k}", "it was lost " * 30) for k in range(50)]
    study.store.sessions.note_workers(states, incidents)
    return LiveReader(study.run_dir).look()


@pytest.mark.parametrize("height", [40, 50, 90])
def test_a_crowded_study_fits_the_screen_and_says_what_is_left_out(study, height):
    text = shown(crowded(study), height)
    assert len(text.splitlines()) <= height
    for total, row, rest in (
        (30, r"failed 1×", r"and (\d+) more reasons"),
        (50, r"it was lost it was", r"and (\d+) more incidents"),
        (64, r"worker +\d+ +busy", r"restarts(?s:.*)and (\d+) more *\n"),
        (40, r"candidate \d+ ", r"and (\d+) more *\n"),
    ):
        rows = sum(re.search(row, each) is not None for each in text.splitlines())
        assert rows >= 2
        assert rows + int(re.search(rest, text)[1]) == total


def test_front_best_values_workers_and_troubles_are_shown(study):
    for trial, value in zip(study.ask(3), (0.25, 0.75, 0.5), strict=True):
        study.finish(trial, value, 0.5, 0.5)
    study.fail(study.ask()[0], "[bold]not finite[/bold]")
    busy = WorkerState("worker 1", "node-7", "busy", 6, 12, 3, 45.0, 60.0)
    study.store.sessions.note_workers([busy], [Incident(5.0, "worker 1", "it was lost")])
    text = shown(LiveReader(study.run_dir).look(), 60)
    for part in (
        "three-skills  running  search 4",
        "3 scored · 1 failed · 0 open",
        "best accuracy on sort",
        "front, 1 candidate ",
        "0.750 ± 0.010",
        "busy with trial 6",
        "node-7",
        "75%",
        "failed 1×, evaluate: [bold]not finite[/bold]",
        "worker 1: it was lost",
    ):
        assert part in text


def test_nothing_scored_yet_is_a_view_too(study):
    text = shown(LiveReader(study.run_dir).look(), 30)
    assert "0 scored · 0 failed · 0 open" in text


@pytest.mark.parametrize("state", ["interrupted", None])
def test_a_study_that_nobody_works_on_says_how_to_go_on(study, state):
    study.end(state)
    text = shown(LiveReader(study.run_dir).look(), 40, width=400)
    assert f"Go on: evomerge resume {study.run_dir}" in text
    assert ("has died" in text) == (state is None)


def test_the_line_changes_with_the_study_and_not_with_time(study):
    view = LiveReader(study.run_dir).look()
    assert line(view) == line(replace(view, seconds=99.0, seen=1.0, seconds_left=3.0))
    study.finish(study.ask()[0], 0.5, 0.5, 0.5)
    later = line(LiveReader(study.run_dir).look())
    assert later != line(view)
    assert "front 1, best accuracy on sort 0.500" in later
