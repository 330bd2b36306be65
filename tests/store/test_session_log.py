"""Sessions, workers and incidents as they are recorded."""

from dataclasses import replace

import pytest

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.store.session_log import SessionLog
from evomerge.store.study_store import StudyStore


@pytest.fixture
def store(tmp_path):
    with StudyStore.create(tmp_path, {}) as made:
        yield made


def test_workers_stand_as_last_noted_and_sessions_do_not_mix(store):
    store.sessions.start({})
    idle = WorkerState("worker 2", "node", "idle", ready_seconds=4.0)
    busy = WorkerState("worker 10", "node", "busy", 7, 3, 1, 2.0, 4.0)
    store.sessions.note_workers([busy, idle], [Incident(1.0, "worker 10", "died", 6)])
    store.sessions.note_workers([replace(busy, condition="idle", trial=None, jobs=4)])
    store.sessions.end("done")
    store.sessions.start({})
    store.sessions.note_workers([WorkerState("worker 1", "", "starting")])
    first, second = store.sessions.all()
    assert store.sessions.workers(first.id) == [
        idle,
        replace(busy, condition="idle", trial=None, jobs=4),
    ]
    assert [w.name for w in store.sessions.workers(second.id)] == ["worker 1"]
    assert store.sessions.incidents() == [Incident(1.0, "worker 10", "died", 6)]
    assert store.sessions.incidents(second.id) == []


def test_utilisation_is_the_share_of_time_at_work():
    state = WorkerState("w", "", "idle", busy_seconds=3.0, ready_seconds=4.0)
    assert state.utilisation == 0.75
    assert WorkerState("w", "", "starting").utilisation == 0.0


def test_time_is_kept_by_the_steady_clock_and_a_killed_session_counts_as_far_as_seen(store):
    now = [100.0]
    log = SessionLog(store._transaction, store._all, clock=lambda: now[0])
    log.start({"python": "3"})
    now[0] = 130.0
    log.note_workers([])  # killed after this
    assert log.seconds_worked() == 30.0
    now[0] = 1000.0
    log.start({"python": "3"})
    now[0] = 1005.0
    log.end("done")
    assert log.seconds_worked() == 35.0
    killed, ended = log.all()
    assert (killed.ended, killed.reason) == (None, None)
    assert ended.ended == ended.seen
    assert ended.reason == "done"
