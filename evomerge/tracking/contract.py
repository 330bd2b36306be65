"""The Logger contract: what a tool for following runs is told of a search."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Parameter = str | int | float | bool


@dataclass(frozen=True)
class RunFacts:
    """A study as it is introduced to a tool, the same at each of its sessions."""

    id: str
    """Letters and digits; the study's own, by which a tool finds its run again."""

    name: str
    run_dir: Path
    parameters: Mapping[str, Parameter]
    """Seed, optimizer, operators, budget …, by dotted name."""

    @property
    def logs(self) -> Path:
        """Where tools keep what they write locally."""
        return self.run_dir / "logs"


@dataclass(frozen=True)
class Ending:
    """How a session ended and what it left behind."""

    state: str
    """``finished`` or ``interrupted``."""

    files: tuple[Path, ...] = ()
    """Of ``front.csv`` and ``report.html`` those that exist."""

    @property
    def front(self) -> Path | None:
        """The front as a table."""
        return next((file for file in self.files if file.suffix == ".csv"), None)


class Logger(ABC):
    """One tool; called from one thread, which is not the search's.

    Any exception switches the logger off and nothing else: the search never waits for a tool
    and never ends because of one.
    """

    @abstractmethod
    def begin(self, facts: RunFacts) -> None:
        """Open the tool's run, or go on with it where an earlier session left it."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note finite values of a trial under its number; numbers come in any order."""

    @abstractmethod
    def end(self, ending: Ending) -> None:
        """Hand over what is left behind, and close the tool's run."""
