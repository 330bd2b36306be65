"""ChainServer: a chain's index and the live pages of its stages, for this machine only."""

import threading
import time
from pathlib import Path

from evomerge.core.errors import StoreError
from evomerge.report.chain_page import render_chain_page
from evomerge.report.chain_summary import summarize_chain
from evomerge.report.live_server import LiveSite, LocalServer
from evomerge.store.chain_record import ChainRecord
from evomerge.store.study_store import FILE_NAME

_FRESH_SECONDS = 2.0
"""Several readers within this time get the same index; it takes a second to make."""


class ChainServer(LocalServer):
    """The index of a chain on top, the live page of each stage that has begun below.

    Args:
        run_dir: A chain's folder.
        port: 0 for any free one.

    Raises:
        ConfigError: The port is in use or not allowed.
        StoreError: There is no chain in the folder.
    """

    def __init__(self, run_dir: Path, port: int) -> None:
        self._run_dir = run_dir
        self._folders = [stage.folder for stage in ChainRecord.read(run_dir).stages]
        self._sites: dict[str, LiveSite] = {}
        self._lock = threading.Lock()
        self._index, self._made = "", float("-inf")
        super().__init__(port)

    def index(self) -> str | None:
        """The chain's page as it stands now."""
        with self._lock:
            if time.monotonic() - self._made >= _FRESH_SECONDS:
                summary = summarize_chain(self._run_dir)
                self._index = render_chain_page(summary, self._run_dir, live=True)
                self._made = time.monotonic()
            return self._index

    def site(self, path: str) -> tuple[LiveSite | None, str]:
        """The stage whose folder the path begins with, once it has a study."""
        folder, slash, rest = path.removeprefix("/").partition("/")
        if folder not in self._folders or not slash:
            return None, path
        with self._lock:
            if folder not in self._sites and (self._run_dir / folder / FILE_NAME).exists():
                try:
                    self._sites[folder] = LiveSite(self._run_dir / folder)
                except StoreError:
                    return None, path
            return self._sites.get(folder), f"/{rest}"
