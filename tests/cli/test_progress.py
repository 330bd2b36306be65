"""What the terminal shows of workers, and that a swallowed interrupt still stops the run."""

import io
import os
import signal

import pytest
from rich.console import Console

from evomerge.cli.progress import TerminalObserver, stoppable
from evomerge.core.worker_state import Incident, WorkerState


@pytest.fixture
def observer():
    return TerminalObserver(Console(file=io.StringIO(), width=200))


def said(observer):
    return observer._console.file.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_stops_before_the_next_result(observer, number):
    def work() -> None:
        with stoppable(observer):
            try:
                os.kill(os.getpid(), number)
                signal.pause()
            except BaseException:  # noqa: BLE001 - as such libraries do
                pass
            observer.check()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "Stopped" in said(observer)


def test_without_an_interrupt_results_count_and_handlers_are_given_back(observer):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with stoppable(observer):
        observer.check()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ignored_ctrl_c_stays_ignored(observer):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable(observer):
            os.kill(os.getpid(), signal.SIGINT)
            observer.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_incidents_are_said_and_several_workers_counted(observer):
    states = [
        WorkerState("worker 1", "n", "busy", 7, busy_seconds=8.0, ready_seconds=10.0),
        WorkerState("worker 2", "n", "idle", busy_seconds=6.0, ready_seconds=10.0),
        WorkerState("worker 3", "", "starting"),
    ]
    observer.workers(states, [Incident(0.0, "worker 2", "its process has died", 6)])
    assert said(observer) == "worker 2 with trial 6: its process has died\n"
    assert observer._crew() == "1 of 3 workers busy, 70% used"


def test_a_single_worker_is_not_counted(observer):
    observer.workers([WorkerState("worker 1", "n", "busy", 7)], [])
    assert observer._crew() == ""
