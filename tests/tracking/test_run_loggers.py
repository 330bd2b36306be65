"""Loggers beside a search: each trial once, and never in its way."""

import inspect
import logging
import threading
import time

import pytest
from followed_searches import Killed, expected
from landscapes import LandscapeEvaluate

from evomerge.search.observer import Observer
from evomerge.tracking import run_loggers
from evomerge.tracking.contract import Logger
from evomerge.tracking.run_loggers import RunLoggers

PLAIN = 7
"""Four sources and three baselines."""


class Notes(Logger):
    """Notes what it hears; fails or waits where told to."""

    def __init__(self, fail_at="", wait=None):
        self.heard = []
        self._fail_at, self._wait = fail_at, wait

    def begin(self, facts):
        self._note("begin", facts)

    def log(self, step, metrics):
        self._note("log", (step, dict(metrics)))

    def end(self, ending):
        self._note("end", ending)

    def _note(self, what, value):
        if self._wait is not None:
            self._wait.wait()
        if what == self._fail_at:
            raise OSError(28, "No space left on device")
        self.heard.append((what, value))

    @property
    def logged(self):
        return [value for what, value in self.heard if what == "log"]


def session(followed, notes, candidates, evaluate=None, **more):
    followed.made = {"notes": notes}
    return followed.session(candidates, evaluate, **more)


def dying_at(count):
    jobs = []

    def fails(job):
        jobs.append(job)
        if len(jobs) == count:
            raise Killed

    return LandscapeEvaluate(fails=fails)


def test_every_trial_is_logged_under_its_number_with_its_own_values(followed):
    notes = Notes()
    trials = session(followed, notes, 12)
    assert [step for step, _ in notes.logged] == [t.number for t in trials]
    for step, metrics in notes.logged:
        assert expected(trials)[step].items() <= metrics.items()
        assert {"seconds/merge", "seconds/evaluate"} <= metrics.keys()


def test_best_front_items_and_failures_are_logged_as_they_stood(followed):
    notes = Notes()
    evaluate = LandscapeEvaluate(fails=lambda job: "bad" if job.number in (9, 11) else None)
    trials = session(followed, notes, 12, evaluate)
    best, spent = -1.0, 0
    for (_, metrics), trial in zip(notes.logged, trials, strict=True):
        best = max([best, *trial.values[:1]])
        spent += trial.item_evaluations
        assert metrics["best/accuracy(one)"] == best
        assert metrics["search/item evaluations"] == spent
        assert metrics["search/failures"] == sum(n <= trial.number for n in (9, 11))
        assert ("objectives/accuracy(one)" in metrics) == (trial.status == "complete")
    assert notes.logged[PLAIN - 1][1]["search/front size"] == 0
    assert notes.logged[-1][1]["search/front size"] > 0


def test_a_logger_begins_with_the_studys_facts_and_ends_with_what_is_left_behind(followed):
    notes = Notes()
    session(followed, notes, 3)
    (first, facts), (last, ending) = notes.heard[0], notes.heard[-1]
    assert (first, last) == ("begin", "end")
    assert facts.parameters["seed"] == 3
    assert ending.state == "finished"
    assert [file.name for file in ending.files] == ["front.csv", "report.html"]
    assert ending.front == followed.run_dir / "front.csv"


def test_a_resumed_study_logs_only_what_was_not_logged(followed):
    first, second = Notes(), Notes()
    with pytest.raises(Killed):
        session(followed, first, 12, dying_at(10))
    assert first.heard[-1][1].state == "interrupted"
    trials = session(followed, second, 12)
    steps = [step for step, _ in first.logged + second.logged]
    assert sorted(steps) == [t.number for t in trials]
    assert len(first.logged) == 9


def test_what_a_failing_logger_has_missed_is_logged_when_the_study_is_resumed(followed):
    session(followed, Notes(fail_at="log"), 5)
    notes = Notes()
    trials = session(followed, notes, 8)
    assert [step for step, _ in notes.logged] == [t.number for t in trials]
    values = dict(notes.logged)
    assert all(expected(trials)[t.number].items() <= values[t.number].items() for t in trials)


@pytest.mark.parametrize("moment", ["begin", "log", "end"])
def test_a_logger_that_fails_is_switched_off_with_one_warning(followed, caplog, moment):
    trials = session(followed, Notes(fail_at=moment), 10)
    assert [t.status for t in trials] == ["complete"] * (PLAIN + 10)
    assert len(caplog.records) == 1
    said = caplog.records[0]
    assert said.levelno >= logging.ERROR  # what the command line shows without --verbose
    assert "the notes logger is switched off, the search goes on" in said.getMessage()
    assert "No space left on device" in said.getMessage()


def test_a_logger_that_hangs_neither_slows_the_search_nor_keeps_it_from_ending(
    followed, caplog, monkeypatch
):
    monkeypatch.setattr(run_loggers, "_PATIENCE", 0.2)
    never = threading.Event()
    start = time.monotonic()
    trials = session(followed, Notes(wait=never), 10)
    seconds = time.monotonic() - start
    never.set()
    assert len(trials) == PLAIN + 10
    assert seconds < 10
    assert "did not finish within" in caplog.text


def test_one_logger_that_fails_leaves_the_others_on(followed):
    notes = Notes()
    followed.made = {"bad": Notes(fail_at="log"), "good": notes}
    trials = followed.session(6)
    assert len(notes.logged) == len(trials)


def test_everything_is_passed_on_to_the_other_observer(followed):
    heard = []
    methods = [
        name
        for name, _ in inspect.getmembers(Observer, inspect.isfunction)
        if not name.startswith("_")
    ]

    class Ear(Observer):
        pass

    for name in methods:
        setattr(Ear, name, lambda self, *given, name=name: heard.append((name, *given)))
        assert name in vars(RunLoggers), f"RunLoggers keeps {name} to itself"
    trials = session(followed, Notes(), 3, observer=Ear())
    names = [name for name, *_ in heard]
    assert names[0] == "announce"
    phases = [given[0] for name, *given in heard if name == "phase"]
    assert phases == ["sources and baselines", "search", "validation", "test"]
    assert names.count("progress") > len(trials)


def test_later_scores_on_other_items_are_not_logged_as_trials(followed):
    notes = Notes()
    trials = session(followed, notes, 3)
    assert len(notes.logged) == len(trials)
