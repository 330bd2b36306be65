"""Run a user's command to its end or its time limit, with all processes that it starts."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from evomerge.core.errors import TrialError

_KEPT = 16_000_000
"""Bytes of output that are looked at, from its end."""

_LINES, _LETTERS = 4, 500
"""How much of the end of an output a message shows."""


@dataclass(frozen=True)
class Ended:
    """What became of a process."""

    code: int | None
    """Exit code, negative for a signal's number; None where the time ran out."""

    output: str
    """The end of its standard output."""

    errors: str
    """The end of its standard error."""


def command_path() -> str:
    """The search path for commands: the folder of the running Python, then the usual one.

    So that ``python`` means the Python that runs evomerge, with what is installed there.
    """
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def run_command(
    command: Sequence[str],
    folder: Path,
    given: str,
    variables: Mapping[str, str],
    timeout: float,
) -> Ended:
    """Run a command without a shell, in a process group of its own.

    However it ends, what is left of its group is killed. Output goes through files, so that
    nothing waits for a process that left the group and keeps a pipe open.

    Args:
        command: Program and arguments.
        folder: Its working directory.
        given: Its standard input.
        variables: Environment variables beside the present ones.
        timeout: Seconds.

    Raises:
        TrialError: It cannot be started.
    """
    environment = {**os.environ, "PATH": command_path(), **variables}
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(given.encode())
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise TrialError(f"{command[0]} cannot be started: {error.strerror}") from error
        code: int | None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ended(code, _end_of(stdout), _end_of(stderr))


def how_it_ended(ended: Ended, timeout: float) -> str | None:
    """Why a command has failed, or None where it has not."""
    if ended.code == 0:
        return None
    if ended.code is None:
        what = f"took longer than its timeout of {timeout:g} s and was killed"
    elif ended.code < 0:
        what = f"was ended by {_signal_name(-ended.code)}"
    else:
        what = f"ended with exit code {ended.code}"
    return f"the command {what}{last_words(ended)}"


def last_words(ended: Ended) -> str:
    """The end of what a command printed, for a message: of its errors, else of its output."""
    for name, text in (("stderr", ended.errors), ("stdout", ended.output)):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            words = " | ".join(lines[-_LINES:])
            cut = "…" if len(words) > _LETTERS else ""
            return f"; its {name} ends: {cut}{words[-_LETTERS:]}"
    return " and printed nothing"


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _KEPT))
    return file.read().decode("utf-8", errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
