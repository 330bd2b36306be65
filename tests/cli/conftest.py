"""The command line, called in this process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from evomerge.cli.main import main


@dataclass(frozen=True)
class Called:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capfd) -> Callable[..., Called]:
    """Call ``evomerge`` with arguments; what it prints is captured at the file descriptors."""

    def run(*arguments: object) -> Called:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return Called(int(ended.value.code or 0), out, err)

    return run
