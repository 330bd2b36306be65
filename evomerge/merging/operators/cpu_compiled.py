"""How loops are compiled, and where compiled code is kept for the next process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import __version__, config, njit

from evomerge.core.digest import digest

_KEPT = Path("~/.cache/evomerge/compiled").expanduser()


def _folder() -> str:
    """A folder for just this code: numba itself looks at one file of several for changes."""
    sources = sorted(Path(__file__).parent.glob("cpu_*.py"))
    texts = [source.read_text(encoding="utf-8") for source in sources]
    return str(_KEPT / digest([__version__, *texts]))


_FOLDER = _folder()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop so that several threads may run it at once, and keep it where possible."""
    before = config.CACHE_DIR
    config.CACHE_DIR = _FOLDER
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may write to
        return njit(nogil=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
