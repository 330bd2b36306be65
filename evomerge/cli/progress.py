"""What ``run`` and ``resume`` show while a search goes on, and how they are stopped."""

import math
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from evomerge.cli.program import program
from evomerge.core.errors import EvomergeError
from evomerge.core.objectives import Objective
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.search.observer import Announcement, Observer, Phase
from evomerge.search.observer import Progress as SearchProgress

_PLAIN_SECONDS = 5.0
"""Seconds between lines where the output is no terminal."""

_RECENT = 40
"""Results from which rates are taken."""


class Rates:
    """Items a second and the time left, from the latest results."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int, int]] = []

    def restart(self) -> None:
        """A new phase: what was measured before does not count."""
        self._marks = [(time.monotonic(), -1, -1)]

    def add(self, done: int, items: int) -> None:
        """One more result."""
        now = time.monotonic()
        if self._marks and self._marks[-1][1] < 0:
            self._marks = [(self._marks[-1][0], done - 1, items)]
        self._marks = [*self._marks, (now, done, items)][-_RECENT:]

    def text(self, total: int | None) -> str:
        """``123 items/s · 0:41 left``, as far as known."""
        if len(self._marks) < 2:
            return ""
        (t0, done0, items0), (t1, done1, items1) = self._marks[0], self._marks[-1]
        elapsed = max(1e-9, t1 - t0)
        parts = [f"{(items1 - items0) / elapsed:,.0f} items/s"] if items1 > items0 else []
        if total is not None and done1 > done0:
            left = (total - done1) * elapsed / (done1 - done0)
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        return " · ".join(parts)


class TerminalObserver(Observer):
    """A live display on a terminal; elsewhere a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = Rates()
        self.announced: Announcement | None = None
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
        )
        self._live: Live | None = None
        self._task = self._bar.add_task("loading models and tasks", total=None, rate="")
        self._latest: SearchProgress | None = None
        self._failed = 0
        self._said = 0.0
        self._workers: tuple[WorkerState, ...] = ()
        self.stopped = False
        """Whether the user has asked the run to stop."""

    def begin(self) -> None:
        """Start the display."""
        if self._console.is_terminal:
            self._live = Live(self._view(), console=self._console, refresh_per_second=4)
            self._live.start()
        else:
            self._console.print("loading models and tasks", highlight=False)

    def end(self) -> None:
        """Take the display away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def announce(self, announcement: Announcement) -> None:
        """Print what is about to be done, and remember how to go on."""
        self.announced = announcement
        for line in announcement.plan:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def say_how_to_resume(self) -> None:
        """After a stop: what is kept, and the command that goes on."""
        if self.announced is None:
            self._console.print("Stopped before the search began; nothing has changed.")
            return
        self._console.print(
            "Stopped. Every finished trial is recorded, the report shows them. Go on with:\n"
            f"  {program()} resume {shlex.quote(str(self.announced.run_dir))}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

    def phase(self, phase: Phase, done: int, total: int | None) -> None:
        """Begin a new bar."""
        self._rates.restart()
        self._bar.reset(self._task, total=total, description=phase, rate="")
        self._bar.update(self._task, completed=done)
        self._said = 0.0
        self._refresh()

    def progress(self, progress: SearchProgress) -> None:
        """Move the bar, show the standings."""
        self._latest = progress
        self._failed += progress.trial.status == "failed"
        self._rates.add(progress.done, progress.item_evaluations)
        rate = self._rates.text(progress.total)
        self._bar.update(self._task, completed=progress.done, rate=rate)
        self._refresh()
        if self._live is None and self._due(progress):
            total = f"/{progress.total}" if progress.total is not None else ""
            count = f"{progress.phase} {progress.done}{total}"
            told = [count, self._standing(progress), rate, self._crew()]
            self._console.print(
                " · ".join(text for text in told if text),
                highlight=False,
                soft_wrap=True,
                markup=False,
            )

    def workers(self, states: Sequence[WorkerState], incidents: Sequence[Incident]) -> None:
        """Show how busy the workers are, and say what befell them."""
        self._workers = tuple(states)
        for incident in incidents:
            what = f" with trial {incident.trial}" if incident.trial is not None else ""
            self._console.print(
                f"{incident.worker}{what}: {incident.what}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        self._refresh()

    def check(self) -> None:
        """Stop here where a library has swallowed the interrupt."""
        if self.stopped:
            raise Stopped

    def _crew(self) -> str:
        """``3 of 4 workers busy, 92 % used``; empty for a single one."""
        if len(self._workers) < 2:
            return ""
        busy = sum(state.condition == "busy" for state in self._workers)
        ready = [s for s in self._workers if s.ready_seconds]
        used = sum(s.utilisation for s in ready) / len(ready) if ready else 0.0
        return f"{busy} of {len(self._workers)} workers busy, {used:.0%} used"

    def _due(self, progress: SearchProgress) -> bool:
        now = time.monotonic()
        if progress.done == progress.total or now - self._said >= _PLAIN_SECONDS:
            self._said = now
            return True
        return False

    def _standing(self, progress: SearchProgress) -> str:
        best = ", ".join(
            f"{objective.name} {value:.4g}"
            for objective, (value, _) in self._best(progress)
            if not math.isnan(value)
        )
        parts = [f"front {len(progress.front)}", *([f"best {best}"] if best else [])]
        return " · ".join([*parts, *_nearest(progress)])

    def _best(self, progress: SearchProgress) -> Iterator[tuple[Objective, tuple[float, int]]]:
        known = self.announced.objectives if self.announced else ()
        return zip(known, progress.best, strict=False)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._view())

    def _view(self) -> Group:
        latest = self._latest
        if latest is None:
            return Group(self._bar)
        table = Table.grid(padding=(0, 2))
        for objective, (value, number) in self._best(latest):
            if math.isnan(value):
                continue
            table.add_row(f"best {objective.name}", f"[bold]{value:.4g}[/]", f"trial {number}")
        failed = f", {self._failed} failed" if self._failed else ""
        table.add_row("front", f"[bold]{len(latest.front)}[/]", f"candidates{failed}")
        for said in _nearest(latest):
            table.add_row("constraints", "", said)
        if self._crew():
            table.add_row("workers", "", self._crew())
        return Group(self._bar, table)


def _nearest(progress: SearchProgress) -> list[str]:
    """What is nearest to the constraints, while no candidate meets them."""
    if progress.nearest is None:
        return []
    missed, number = progress.nearest
    return [f"none meets the constraints, trial {number} misses them by {missed:.4g}"]


@contextmanager
def watching() -> Iterator[TerminalObserver]:
    """A display on stderr for as long as the block runs."""
    observer = TerminalObserver(Console(file=sys.stderr))
    observer.begin()
    try:
        yield observer
    finally:
        observer.end()


class Stopped(KeyboardInterrupt):
    """SIGTERM or Ctrl-C."""


@contextmanager
def stoppable(observer: TerminalObserver) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the block, and say how to go on.

    Where a library swallows the exception (callbacks from C, ``except:``), the observer raises
    it again before the next result counts. A SIGINT that is ignored, as under nohup, stays so.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        observer.stopped = True
        raise Stopped

    heeded = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        heeded.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    except KeyboardInterrupt:
        observer.end()
        observer.say_how_to_resume()
        raise
    except EvomergeError:
        observer.end()
        if observer.announced is not None:
            observer.say_how_to_resume()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
