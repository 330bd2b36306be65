"""LiveServer: the live page of one run directory, for this machine only."""

import json
import logging
import socketserver
import sys
import threading
import time
from abc import ABC, abstractmethod
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from evomerge.core.errors import ConfigError, StoreError
from evomerge.report.live_page import live_page, view_plain
from evomerge.report.live_reader import LiveReader
from evomerge.report.live_view import LiveView

_logger = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_FRESH_SECONDS = 0.5
"""Several pages that ask within this time share one look at the study."""

_REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INDEX_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LiveSite:
    """What is shown of one run directory.

    Args:
        run_dir: A run directory.

    Raises:
        StoreError: There is no study in the directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self.report = run_dir / "report.html"
        self._reader = LiveReader(run_dir)
        self._view = self._reader.look()
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def view(self) -> LiveView:
        """The study now.

        Raises:
            StoreError: It cannot be read any more.
        """
        with self._lock:
            if time.monotonic() - self._looked >= _FRESH_SECONDS:
                self._view = self._reader.look()
                self._looked = time.monotonic()
            return self._view


class LocalServer(ThreadingHTTPServer, ABC):
    """Answers reads of pages, of studies' states and of their reports; nothing else.

    It listens on 127.0.0.1, and answers only requests that name that address or localhost
    with its port: a web page elsewhere that has its own name point here is refused.

    Args:
        port: 0 for any free one.

    Raises:
        ConfigError: The port is in use or not allowed.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot listen there: {error.strerror}. Another 'evomerge "
                "serve' may be using it; choose another port, or 0 for any free one."
            ) from error

    @abstractmethod
    def site(self, path: str) -> tuple[LiveSite | None, str]:
        """What a path is about, and the path within that; None where there is nothing."""

    def index(self) -> str | None:
        """A page at the top that needs no script; None where a study's live page is there."""
        return None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_ADDRESS}:{self.server_port}/"

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _ADDRESS, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """Log what went wrong with one request; that a page has been left is nothing wrong."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            _logger.error("a request failed", exc_info=True)


class LiveServer(LocalServer):
    """The live page of one study.

    Args:
        run_dir: A run directory.
        port: 0 for any free one.

    Raises:
        ConfigError: The port is in use or not allowed.
        StoreError: There is no study in the directory.
    """

    def __init__(self, run_dir: Path, port: int) -> None:
        self._site = LiveSite(run_dir)
        super().__init__(port)

    def site(self, path: str) -> tuple[LiveSite | None, str]:
        """Every path is about the one study."""
        return self._site, path


class _Handler(BaseHTTPRequestHandler):
    """One request a connection. Its path only ever chooses between a few answers."""

    server: LocalServer
    server_version, sys_version = "evomerge", ""
    timeout = 60

    def do_GET(self) -> None:
        """Answer a read."""
        port = self.server.server_port
        hosts = {f"{_ADDRESS}:{port}", f"localhost:{port}"}
        if self.headers.get("Host", "").lower() not in hosts:
            self.send_error(HTTPStatus.FORBIDDEN, f"Open this page as {self.server.url}")
            return
        parts = urlsplit(self.path)
        try:
            index = self.server.index() if parts.path == "/" else None
        except StoreError as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        if index is not None:
            self._answer(HTTPStatus.OK, "text/html", index.encode(), _INDEX_POLICY)
            return
        site, path = self.server.site(parts.path)
        match site, path:
            case LiveSite(), "/":
                page = live_page()
                self._answer(HTTPStatus.OK, "text/html", page.html.encode(), page.policy)
            case LiveSite(), "/state.json":
                self._state(site, parts.query)
            case LiveSite(), "/report":
                self._report(site)
            case _:
                self.send_error(HTTPStatus.NOT_FOUND, "There is nothing here")

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "This page is only to be read")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def _state(self, site: LiveSite, query: str) -> None:
        asked = {key: values[-1] for key, values in parse_qs(query).items()}
        try:
            view = site.view()
        except StoreError as error:
            body = json.dumps({"error": str(error)}).encode()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body)
            return
        since = asked.get("since", "0")
        same = asked.get("epoch") == view.epoch and since.isascii() and since.isdigit()
        plain = view_plain(view, int(since[:12]) if same else 0)
        plain |= {"now": time.time(), "report": site.report.is_file()}
        body = json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()
        self._answer(HTTPStatus.OK, "application/json", body)

    def _report(self, site: LiveSite) -> None:
        try:
            body = site.report.read_bytes()
        except OSError:
            message = "There is no report yet; it is written when the search ends or is stopped"
            self.send_error(HTTPStatus.NOT_FOUND, message)
            return
        self._answer(HTTPStatus.OK, "text/html", body, _REPORT_POLICY)

    def send_error(  # an explanation would only repeat the message
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer with a line of plain text."""
        text = f"{message or HTTPStatus(code).phrase}.\n"
        self._answer(code, "text/plain", text.encode())

    def _answer(
        self, code: int, kind: str, body: bytes, policy: str = "default-src 'none'"
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests every two seconds are no news."""
        _logger.debug(format, *args)
