"""``evomerge watch`` and ``evomerge serve`` as a user calls them, beside a running study."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from report.live_study import LiveStudy

DEADLINE = 60


def heed_interrupts() -> None:
    """A CI system may start its jobs with SIGINT ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def command(*arguments, stdout=subprocess.PIPE):
    process = subprocess.Popen(
        [sys.executable, "-m", "evomerge", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TERM": "xterm"},
        preexec_fn=heed_interrupts,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def study(tmp_path):
    with LiveStudy(tmp_path / "study", objectives=2) as begun:
        begun.store.set_meta("budget", {"candidates": 4})
        yield begun


def line_with(process, part):
    """The next line that has a part, read with patience."""
    timer = threading.Timer(DEADLINE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if part in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"{part!r} never came; {process.stderr.read()}")


def test_watch_says_what_has_changed_and_nothing_else_and_ends_with_the_study(study):
    with command("watch", study.run_dir) as process:
        line_with(process, "search 0/4")
        time.sleep(6.5)  # longer than it waits between lines
        trials = study.ask(4)
        for trial in trials[:3]:
            study.finish(trial, 0.5, 0.75)
        assert re.search("search [123]/4", line_with(process, "three-skills: search"))
        study.fail(trials[3], "out of memory")
        study.end("finished")
        rest, errors = process.communicate(timeout=DEADLINE)
    assert "search 0/4" not in rest
    assert (
        "finished, 4 candidates done · 1 failed · front 1, best accuracy on sort 0.500" in rest
    )
    assert f"evomerge resume {study.run_dir} --add 100" in rest
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("state", ["interrupted", "finished", None])
def test_watch_of_a_study_that_nobody_works_on_shows_it_and_ends(study, state):
    study.end(state)
    with command("watch", study.run_dir) as process:
        out, errors = process.communicate(timeout=DEADLINE)
    assert f"evomerge resume {study.run_dir}" in out
    assert (process.returncode, errors) == (0, "")


def test_watch_once_prints_one_view_of_a_running_study(study):
    study.finish(study.ask()[0], 0.5, 0.75)
    with command("watch", study.run_dir, "--once") as process:
        out, errors = process.communicate(timeout=DEADLINE)
    assert "1 scored · 0 failed · 0 open" in out
    assert "front, 1 candidate" in out
    assert "\x1b" not in out
    assert (process.returncode, errors) == (0, "")


class Terminal:
    """A pseudo-terminal and what has been shown on it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.shown = ""

    def until(self, part):
        timer = threading.Timer(DEADLINE, os.close, (self.slave,))
        timer.start()
        while part not in self.shown:
            self.shown += os.read(self.master, 65536).decode(errors="replace")
        timer.cancel()

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    opened = Terminal()
    yield opened
    opened.close()


def test_on_a_terminal_watch_redraws_and_ends_with_the_study(study, terminal):
    with command("watch", study.run_dir, stdout=terminal.slave) as process:
        terminal.until("running")
        trials = study.ask(4)
        study.finish(trials[0], 0.5, 0.75)
        terminal.until("1 scored · 0 failed · 3 open")
        study.end("finished")
        terminal.until("The study has finished")
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("on_terminal", [True, False])
def test_leaving_watch_is_no_error_and_leaves_the_study_alone(study, terminal, on_terminal):
    stdout = terminal.slave if on_terminal else subprocess.PIPE
    with command("watch", study.run_dir, stdout=stdout) as process:
        if on_terminal:
            terminal.until("running")
        else:
            line_with(process, "three-skills")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")
    study.finish(study.ask()[0], 0.5, 0.5)


@pytest.mark.parametrize("name", ["watch", "serve"])
def test_a_directory_without_a_study_ends_as_status_does(call, tmp_path, name):
    ended = call(name, tmp_path / "nowhere")
    asked = call("status", tmp_path / "nowhere")
    assert (ended.code, ended.err) == (asked.code, asked.err)
    assert ended.code == 5
    assert "no study.db here" in ended.err


def test_serve_prints_its_address_answers_and_ends_quietly(study):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with command("serve", study.run_dir, "--port", 0) as process:
        url = re.search(r"http://127\.0\.0\.1:\d+/", line_with(process, "http://"))[0]
        with opener.open(url, timeout=DEADLINE) as answer:
            assert "<!doctype html>" in answer.read().decode()
        study.finish(study.ask()[0], 0.5, 0.5)
        time.sleep(1.0)  # what is shown may be half a second old
        with opener.open(f"{url}state.json", timeout=DEADLINE) as answer:
            told = json.load(answer)
        assert (told["state"], told["counts"]["complete"]) == ("running", 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")


def test_serve_on_a_port_in_use_says_what_to_do(call, study):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = call("serve", study.run_dir, "--port", port)
    assert ended.code == 2
    assert f"--port {port}" in ended.err
    assert "choose another port, or 0 for any free one" in ended.err


def test_serve_refuses_a_port_that_is_none(call, study):
    assert call("serve", study.run_dir, "--port", 70_000).code == 2
