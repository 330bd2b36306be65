"""LoggerThread: a logger at work beside the search, switched off when it fails."""

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evomerge.tracking.contract import Ending, Logger, RunFacts

log = logging.getLogger(__name__)

_BACKLOG = 10_000
"""Trials that may wait for a slow tool; one that falls behind further is switched off."""


@dataclass(frozen=True)
class _Entry:
    step: int
    metrics: Mapping[str, float]


class LoggerThread:
    """One logger in a thread of its own.

    Signal handlers can be set from a program's first thread only, so a library that is used
    here cannot take Ctrl-C away from the search; and a tool that waits for the network keeps
    nobody waiting. What was logged is noted in ``logs/NAME.logged``, one trial a line, so
    that each trial is logged once over all sessions of a study.

    Args:
        name: The logger's, for messages and file names.
        logger: Not begun yet.
        facts: The study's.
    """

    def __init__(self, name: str, logger: Logger, facts: RunFacts) -> None:
        self.name = name
        self._logger = logger
        self._facts = facts
        self._queue: queue.SimpleQueue[_Entry | Ending] = queue.SimpleQueue()
        self._off = threading.Event()
        self._journal = facts.logs / f"{name}.logged"
        self._known = _numbers(self._journal)
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    @property
    def is_on(self) -> bool:
        """Whether it still logs."""
        return not self._off.is_set()

    def put(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log a trial soon, unless it was logged before; returns at once."""
        if not self.is_on or step in self._known:
            return
        if self._queue.qsize() >= _BACKLOG:
            self._switch_off(f"it is {_BACKLOG:,} trials behind the search")
            return
        self._known.add(step)
        self._queue.put(_Entry(step, metrics))

    def finish(self, ending: Ending, seconds: float) -> None:
        """End the tool's run, waiting at most so long for what is still to be logged."""
        self._queue.put(ending)
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive() and self.is_on:
            self._switch_off(f"it did not finish within {seconds:.0f} seconds")

    def _work(self) -> None:
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - boundary: whatever a tool raises stays here
            self._switch_off(" ".join(f"{type(error).__name__}: {error}".split()))
        finally:
            self._off.set()  # also where a library ends its thread by SystemExit

    def _follow(self) -> None:
        self._facts.logs.mkdir(exist_ok=True)
        self._logger.begin(self._facts)
        with self._journal.open("a", encoding="ascii") as journal:
            while self.is_on:
                item = self._queue.get()
                if isinstance(item, Ending):
                    self._logger.end(item)
                    return
                self._logger.log(item.step, item.metrics)
                journal.write(f"{item.step}\n")
                journal.flush()

    def _switch_off(self, reason: str) -> None:
        if self.is_on:
            self._off.set()
            log.error(
                "the %s logger is switched off, the search goes on: %s. What it has missed is "
                "logged when the study is resumed.",
                self.name,
                reason,
            )


def _numbers(journal: Path) -> set[int]:
    """Trials noted as logged; a line cut off by a kill counts for nothing."""
    try:
        lines = journal.read_text(encoding="ascii").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return set()
    return {int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()}
