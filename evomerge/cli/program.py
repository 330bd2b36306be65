"""How this program is called, for the commands that it prints."""

import shutil
import sys
from pathlib import Path


def program() -> str:
    """``evomerge`` where the shell finds it, else the path it was called by."""
    called = Path(sys.argv[0])
    if shutil.which("evomerge") is None and called.name == "evomerge":
        return str(called)
    return "evomerge"
