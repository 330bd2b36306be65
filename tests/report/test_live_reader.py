"""Looking at a study while it is written."""

import itertools
import random
import shutil

import numpy as np
import pytest
from report.live_study import LiveStudy

from evomerge.core.errors import StoreError
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.report.live_reader import LiveReader
from evomerge.report.live_view import Advance, Counts, FailureGroup, Limit
from evomerge.report.summary import summarize
from evomerge.store.study_store import StudyStore


@pytest.fixture
def live(tmp_path):
    """Begins studies that are closed when the test is over."""
    begun = []

    def begin(**plan):
        begun.append(LiveStudy(tmp_path / f"study{len(begun)}", **plan))
        return begun[-1]

    yield begin
    for study in begun:
        study.__exit__()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_looking_again_and_again_comes_to_what_the_report_says(live, objectives):
    study = live(objectives=objectives, parameters=objectives == 3)
    wide, rng = len(study.builder.objectives), random.Random(objectives)
    reader = LiveReader(study.run_dir)
    waiting, moments = [], itertools.count(1.0)
    for _ in range(60):
        if rng.random() < 0.6 or not waiting:
            waiting += study.ask(rng.randint(1, 4))
        for _ in range(rng.randint(0, min(3, len(waiting)))):
            trial = waiting.pop(rng.randrange(len(waiting)))
            if rng.random() < 0.1:
                study.fail(trial, f"reason {rng.randint(1, 3)}", next(moments))
            else:
                values = [rng.randint(0, 12) / 12 for _ in range(wide)]  # with many equals
                study.finish(trial, *values, at=next(moments))
        view = reader.look()
    summary = summarize(study.store)
    assert [p.number for p in view.front] == [m.trial.number for m in summary.front]
    counts = summary.counts
    assert view.counts == Counts(counts.asked, counts.complete, counts.failed, counts.open)
    assert view.labels == summary.labels
    assert {(f.stage, f.reason, f.count) for f in view.failures} == {
        (f.stage, f.reason, len(f.trials)) for f in summary.failures
    }
    best = np.array([[_best_by(c, n) for c in view.courses] for n in _counts(view)])
    np.testing.assert_allclose(best, summary.history.best)
    assert view == LiveReader(study.run_dir, reader._clock).look()


def _counts(view):
    return range(1, view.counts.complete + 1)


def _best_by(course, scored):
    return [step.value for step in course.steps if step.scored <= scored][-1]


def test_a_look_asks_the_database_only_for_what_is_new(live):
    study = live()
    trials = study.ask(5)
    for trial in trials[:3]:
        study.finish(trial, 0.5, 0.5)
    first = study.store.changes.trials(0, [])
    known = max(t.number for t in first)
    assert study.store.changes.trials(known, [t.number for t in trials[3:]]) == first[-2:]
    study.finish(trials[4], 0.5, 0.5)
    (fresh,) = study.ask(1)
    changed = study.store.changes.trials(known, [t.number for t in trials[3:]])
    assert [(t.number, t.status) for t in changed] == [
        (trials[3].number, "open"),
        (trials[4].number, "complete"),
        (fresh.number, "open"),
    ]


def test_before_its_first_trial_a_study_is_being_prepared(tmp_path, live):
    study = live()
    bare = tmp_path / "bare"
    bare.mkdir()
    meta = {"objectives": study.store.meta("objectives"), "name": "bare", "state": "running"}
    StudyStore.create(bare, meta).close()
    view = LiveReader(bare).look()
    assert (view.counts, view.front, view.workers) == (Counts(0, 0, 0, 0), (), ())
    assert all(course.to_beat is None and course.steps == () for course in view.courses)


@pytest.mark.parametrize(
    ("recorded", "told"),
    [("finished", "finished"), ("interrupted", "interrupted"), (None, "killed")],
)
def test_what_has_become_of_a_study_is_told_from_record_and_lock(live, recorded, told):
    study = live()
    reader = LiveReader(study.run_dir)
    assert reader.look().state == "running"
    study.end(recorded)
    view = reader.look()
    assert (view.state, view.advance, view.at_work) == (told, None, False)
    study.begin()
    assert reader.look().state == "running"


def test_phases_are_told_up_to_the_test_items(live):
    study = live(candidates=0)
    reader = LiveReader(study.run_dir)
    study.store.set_meta("budget", {"candidates": 2})
    assert reader.look().advance == Advance("search", 0, 2)
    trials = study.ask(2)
    study.finish(trials[0], 0.5, 0.6)
    assert reader.look().advance == Advance("search", 1, 2)
    study.answer("search", "recipe a")
    study.finish(trials[1], 0.5, 0.6)
    assert reader.look().advance == Advance("search", 2, 2)
    for recipe in "abc":
        study.answer("validation", recipe)
    assert reader.look().advance == Advance("validation", 3, None)
    assert LiveReader(study.run_dir).look().advance == Advance("validation", 3, None)
    study.answer("test", "a")
    assert reader.look().advance == Advance("test", 1, None)
    study.store.sessions.end("over")
    assert reader.look().advance == Advance("preparing", 0, None)


def test_a_search_that_goes_on_after_its_end_is_searching_again(live):
    study = live()
    study.finish(study.ask()[0], 0.5, 0.6)
    study.answer("test", "a")
    study.ask()
    assert LiveReader(study.run_dir).look().advance.phase == "search"


def test_rate_and_time_left_follow_the_latest_candidates(live):
    study = live()
    start = study.store.sessions.all()[-1].started
    study.store.set_meta("budget", {"candidates": 100, "item_evaluations": 10_000})
    for k, trial in enumerate(study.ask(40)):
        study.finish(trial, 0.5, 0.5, at=start + 10 * k, items=40)
    now = start + 390
    view = LiveReader(study.run_dir, lambda: now).look()
    assert view.per_minute == pytest.approx(6.0)
    assert view.seconds_left == pytest.approx(600.0)  # 60 candidates; the items last longer
    assert view.limits == (
        Limit("candidates", 40, 100),
        Limit("item evaluations", 1600, 10_000),
    )
    late = LiveReader(study.run_dir, lambda: now + 3600).look()
    assert late.per_minute < 1.0
    study.end("interrupted")
    assert LiveReader(study.run_dir, lambda: now).look().per_minute is None


def test_a_clock_that_jumps_back_gives_no_nonsense_rate(live):
    study = live()
    start = study.store.sessions.all()[-1].started
    for k, trial in enumerate(study.ask(4)):
        study.finish(trial, 0.5, 0.5, at=start + 100 - 10 * k)
    view = LiveReader(study.run_dir, lambda: start - 5000).look()
    assert view.per_minute is None or view.per_minute > 0
    assert view.seconds_left is None or view.seconds_left >= 0


def test_workers_are_those_of_the_latest_session_and_incidents_of_all(live):
    study = live()
    old = WorkerState("worker 1", "here", "lost", restarts=2)
    study.store.sessions.note_workers([old], [Incident(1.0, "worker 1", "it was lost", 3)])
    study.end(None)
    study.begin()
    states = [WorkerState(f"worker {k}", "there", "busy", trial=k) for k in (1, 2, 10)]
    incidents = [Incident(2.0 + k, "worker 2", f"came late {k}") for k in range(40)]
    study.store.sessions.note_workers(states, incidents)
    view = LiveReader(study.run_dir).look()
    assert view.workers == tuple(states)
    assert view.incident_count == 41
    assert [i.what for i in view.incidents[:2]] == ["came late 39", "came late 38"]


def test_the_latest_reason_for_failing_comes_first(live):
    study = live()
    trials = study.ask(12)
    reader = LiveReader(study.run_dir)
    for k, trial in enumerate(trials[:10]):
        study.fail(trial, f"reason {k}", at=k)
    reader.look()
    study.fail(trials[10], "reason 0", at=11)
    view = reader.look()
    latest = FailureGroup("evaluate", "reason 0", 2, trials[10].number)
    assert view.failures[0] == latest
    assert (len(view.failures), view.failure_reasons) == (8, 10)


def test_another_study_in_the_same_place_is_looked_at_from_its_beginning(live):
    study, other = live(name="first"), live(name="second", candidates=3)
    reader = LiveReader(study.run_dir)
    for trial in study.ask(5):
        study.finish(trial, 0.5, 0.5)
    before = reader.look()
    study.end("finished")
    other.end("finished")
    shutil.rmtree(study.run_dir)
    shutil.copytree(other.run_dir, study.run_dir)
    after = reader.look()
    assert after.epoch != before.epoch
    assert (after.name, after.counts.complete) == ("second", 3)


def test_a_directory_without_a_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no study.db here"):
        LiveReader(tmp_path / "nowhere").look()
