"""Temporary folders for exported models; what a killed process left is cleared away."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "evomerge-model-"

_YOUNG = 60.0
"""Seconds in which a new folder may not be locked yet by the process that made it."""


@contextmanager
def temporary_model_folder() -> Iterator[Path]:
    """A new folder in the system's temporary folder (``TMPDIR``), removed after the block.

    It is locked while it is in use; the system drops the lock of a process that dies, so
    that the next one knows which folders nobody will remove.
    """
    _clear_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _clear_abandoned() -> None:
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with suppress(OSError):  # another user's, in use, or just removed
            _clear_if_abandoned(folder)


def _clear_if_abandoned(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if found.st_uid == os.getuid() and time.time() - found.st_mtime > _YOUNG:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
