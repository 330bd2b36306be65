"""Copies of folders and files from the driver's machine, made once for each machine."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.atomic_write import new_folder

_RUN = "study.db"
"""What tells a run directory, which may lie in a folder of code and changes all the time."""

_CHUNK = 64 * 2**20
"""Bytes sent at once."""


@dataclass(frozen=True)
class Listing:
    """What lies at a place: a folder's files, or a file alone under its name."""

    is_folder: bool
    sizes: Mapping[str, int]
    """Bytes by path within the place."""

    digest: str
    """Of the place, and of its files' names, sizes and times of change."""


Read = Callable[[str, str, int, int], bytes]
"""Bytes of a place's file: place, path within it, first byte, how many at most."""


def list_place(place: str) -> Listing:
    """What lies at a place on this machine.

    Raises:
        OSError: It cannot be read.
    """
    root = Path(place)
    files = _files(root) if root.is_dir() else [root]
    seen = hashlib.sha256(f"{place}\0".encode())
    sizes: dict[str, int] = {}
    for file in files:
        name = file.relative_to(root).as_posix() if root.is_dir() else root.name
        stat = file.stat()
        sizes[name] = stat.st_size
        seen.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return Listing(root.is_dir(), sizes, seen.hexdigest()[:32])


def _files(folder: Path) -> list[Path]:
    """Its files, but for hidden ones, compiled code and run directories in it."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir() and not (path / _RUN).exists():
            found += _files(path)
        elif path.is_file():
            found.append(path)
    return found


def read_part(place: str, name: str, start: int, length: int) -> bytes:
    """Some bytes of a place's file on this machine."""
    root = Path(place)
    with (root / name if root.is_dir() else root).open("rb") as file:
        file.seek(start)
        return file.read(length)


def copied(place: str, listing: Listing, read: Read, cache: Path) -> Path:
    """The copy of a place on this machine, made now unless it is there.

    Several workers of a machine may ask at once; one of them copies, the others wait.

    Args:
        place: Its name where it comes from.
        listing: What lies there.
        read: Gives its bytes.
        cache: Folder of all copies.
    """
    home = cache / listing.digest
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{listing.digest}.lock"):
        if not home.exists():
            with new_folder(home) as begun:
                (begun / "copy").mkdir()
                for name, size in listing.sizes.items():
                    _copy(place, name, size, read, begun / "copy" / name)
    whole = home / "copy"
    return whole if listing.is_folder else whole / next(iter(listing.sizes))


def copies_folder() -> Path:
    """Where this machine keeps its copies."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "evomerge/copies"


def _copy(place: str, name: str, size: int, read: Read, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for start in range(0, size, _CHUNK):
            file.write(read(place, name, start, _CHUNK))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
