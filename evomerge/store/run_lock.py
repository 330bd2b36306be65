"""One process at a time works on a run directory."""

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from evomerge.core.errors import StoreError

FILE_NAME = "run.lock"

_ATTEMPTS, _PAUSE = 5, 0.02


def is_held(run_dir: Path) -> bool:
    """Whether a living process works on a run directory now."""
    path = run_dir / FILE_NAME
    if not path.exists():
        return False
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


class RunLock:
    """An exclusive lock on a run directory that the system drops when its holder dies.

    Raises:
        StoreError: Another process holds it, or the directory cannot be written.
    """

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / FILE_NAME
        try:
            self._file = path.open("a+")
        except OSError as error:
            raise StoreError(f"{run_dir}: cannot write here: {error.strerror}.") from error
        try:
            _lock(self._file)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise StoreError(
                f"{run_dir}: another process is working on this run ({holder}). Wait for it or "
                f"stop it first; 'evomerge status {run_dir}' shows how far it is."
            ) from error
        try:
            self._file.truncate(0)
            self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            self._file.flush()
        except OSError as error:
            with suppress(OSError):  # what it still holds cannot be written either
                self._file.close()
            raise StoreError(f"{run_dir}: cannot write here: {error.strerror}.") from error

    def release(self) -> None:
        """Let the next process in."""
        with suppress(OSError):  # on a full or vanished disk: closing drops the lock
            self._file.truncate(0)
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        """The lock itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release on the way out, whatever happened."""
        self.release()


def _lock(file: IO[str]) -> None:
    """Take the lock; a viewer that is just looking whether it is held has it for an instant."""
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt + 1 == _ATTEMPTS:
                raise
            time.sleep(_PAUSE)
        else:
            return
