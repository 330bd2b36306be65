"""The live page over HTTP: who may ask, for what, and that asking changes nothing."""

import contextlib
import hashlib
import http.client
import json
import re
import socket
import threading

import pytest
from report.live_study import LiveStudy

from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.report.live_server import LiveServer


@contextlib.contextmanager
def served(run_dir):
    with LiveServer(run_dir, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def study(tmp_path):
    with LiveStudy(tmp_path / "study", objectives=2) as begun:
        yield begun


@pytest.fixture
def server(study):
    with served(study.run_dir) as started:
        yield started


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()


def state(server, **query):
    text = "&".join(f"{key}={value}" for key, value in query.items())
    answer, body = ask(server, f"/state.json?{text}")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    return json.loads(body)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "localhost:1",
        "127.0.0.1.evil.example:{port}",
        "",
    ],
)
def test_a_request_that_names_another_host_is_refused(server, host):
    for path in ("/", "/state.json", "/report"):
        answer, body = ask(server, path, Host=host.format(port=server.server_port))
        assert answer.status == 403
        assert b"three-skills" not in body
        assert server.url.encode() in body


def test_the_machines_own_names_with_the_port_are_answered(server):
    for host in ("127.0.0.1", "localhost", "LocalHost"):
        answer, _ = ask(server, "/", Host=f"{host}:{server.server_port}")
        assert answer.status == 200


def test_it_listens_on_the_loopback_address_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_anything_but_reading_is_refused(server, method):
    answer, _ = ask(server, "/state.json", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_the_body_of_a_refused_request_is_not_taken_for_another_request(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as link:
        inner = f"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n"
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n\r\n"
        link.sendall((head + inner).encode())
        answered = b""
        while chunk := link.recv(65536):
            answered += chunk
    assert answered.count(b"HTTP/1.") == 1
    assert answered.startswith(b"HTTP/1.0 405 ")


@pytest.mark.parametrize(
    "path",
    [
        "/study.db",
        "/report.html",
        "/../study.db",
        "/%2e%2e/study.db",
        "//etc/passwd",
        "/state.json/x",
        "/favicon.ico",
        "/report/",
        "*",
    ],
)
def test_every_other_path_is_not_found(server, path):
    answer, _ = ask(server, path)
    assert answer.status == 404


def test_head_has_the_headers_of_get_and_no_body(server):
    for path in ("/", "/nothing"):
        whole, body = ask(server, path)
        head, empty = ask(server, path, "HEAD")
        assert empty == b""
        assert head.status == whole.status
        assert head.headers["Content-Length"] == str(len(body))


def test_the_page_may_load_nothing_but_its_own_state(server):
    answer, body = ask(server, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in policy
    assert not re.findall(r"unsafe|https?:|\*", policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert not re.findall(rb"(?:src|href)=\"(?!data:,)", body)
    assert re.findall(rb"https?://[\w.]+", body) == [b"http://www.w3.org"]  # SVG's name


def test_the_state_is_the_studys(server, study):
    trials = study.ask(4)
    for trial, value in zip(trials, (0.25, 0.75, 0.5), strict=False):
        study.finish(trial, value, 1 - value)
    study.fail(trials[3], "out of memory")
    busy = WorkerState("worker 1", "node-7", "busy", 6, 12, 3, 45.0, 60.0)
    study.store.sessions.note_workers([busy], [Incident(5.0, "worker 1", "it was lost", 6)])
    server._site._looked = 0.0
    told = state(server)
    assert (told["name"], told["state"], told["report"]) == ("three-skills", "running", False)
    assert told["counts"] == {"asked": 4, "complete": 3, "failed": 1, "open": 0}
    assert [point[0] for point in told["points"]] == [t.number for t in trials[:3]]
    assert told["points"][1][2:] == [[0.75, 0.25], [0.01, 0.01], 0.0]
    assert told["front"] == [t.number for t in (trials[1], trials[2], trials[0])]
    assert told["objectives"][0]["steps"] == [
        [1, 0.25, trials[0].number],
        [2, 0.75, trials[1].number],
    ]
    assert told["workers"][0]["utilisation"] == 0.75
    assert told["incidents"][0]["what"] == "it was lost"
    assert told["failures"][0]["reason"] == "out of memory"


def test_a_page_is_told_only_the_candidates_that_it_does_not_know(server, study):
    for trial in study.ask(5):
        study.finish(trial, 0.5, 0.5)
    server._site._looked = 0.0
    whole = state(server)
    later = state(server, epoch=whole["epoch"], since=3)
    assert (later["first"], len(later["points"])) == (3, 2)
    for query in (
        {"epoch": "another", "since": 3},
        {"epoch": whole["epoch"], "since": 77},
        {"epoch": whole["epoch"], "since": "-1"},
        {"epoch": whole["epoch"], "since": "%D9%A3x"},
        {"epoch": whole["epoch"], "since": "9" * 5000},
    ):
        assert state(server, **query)["points"] == whole["points"]


def test_the_report_is_served_once_there_is_one(server, study):
    answer, body = ask(server, "/report")
    assert answer.status == 404
    assert b"no report yet" in body
    (study.run_dir / "report.html").write_text("<!doctype html><p>the report")
    answer, body = ask(server, "/report")
    assert (answer.status, body) == (200, b"<!doctype html><p>the report")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "connect-src" not in answer.headers["Content-Security-Policy"]


def test_asking_leaves_every_byte_of_the_study_as_it_is(server, study):
    study.finish(study.ask()[0], 0.5, 0.5)

    def content():
        files = ("study.db", "study.db-wal", "run.lock", "experiment.yaml")
        paths = [study.run_dir / name for name in files]
        return [hashlib.sha256(p.read_bytes()).digest() for p in paths if p.exists()]

    before, names = content(), sorted(p.name for p in study.run_dir.iterdir())
    for path in ("/", "/state.json", "/report", "/study.db"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            server._site._looked = 0.0
            ask(server, path, method)
    assert content() == before
    assert sorted(p.name for p in study.run_dir.iterdir()) == names


def test_many_ask_at_once_while_the_study_grows(server, study):
    known, errors = [], []

    def keep_asking():
        try:
            for _ in range(15):
                known.append(len(state(server)["points"]))
        except (OSError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(6)]
    for thread in threads:
        thread.start()
    for trial in study.ask(30):
        study.finish(trial, 0.5, 0.5)
    for thread in threads:
        thread.join()
    server._site._looked = 0.0
    assert errors == []
    assert len(state(server)["points"]) == 30


def test_a_study_that_has_gone_is_an_error_that_the_page_can_show(server, study):
    study.end("finished")
    study.run_dir.rename(study.run_dir.with_name("elsewhere"))
    server._site._looked = 0.0
    answer, body = ask(server, "/state.json")
    assert answer.status == 503
    assert "no study.db here" in json.loads(body)["error"]
    study.run_dir.with_name("elsewhere").rename(study.run_dir)
    assert state(server)["state"] == "finished"


def test_a_port_in_use_is_refused_with_what_to_do(server, study):
    with pytest.raises(
        ConfigError, match=rf"--port {server.server_port}: .* choose another port"
    ):
        LiveServer(study.run_dir, server.server_port)


def test_a_directory_without_a_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no study.db here"):
        LiveServer(tmp_path, 0)
