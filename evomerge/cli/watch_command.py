"""``evomerge watch``: a run on the terminal, as it goes on."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from evomerge.report.live_reader import LiveReader
from evomerge.report.live_terminal import ending, line, pace_text, screen
from evomerge.report.live_view import LiveView

_SECONDS = 1.0
_PLAIN_SECONDS = 5.0
"""Between lines where the output is no terminal."""


@click.command(name="watch")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Show it as it is now, and end.")
def command(run_dir: Path, once: bool) -> None:
    """Follow the run in RUN_DIR until it ends; Ctrl-C leaves, the run goes on."""
    reader = LiveReader(run_dir)
    console = Console()
    try:
        view = reader.look()
        if once:
            console.print(screen(view, console.height if console.is_terminal else 10**6))
        elif console.is_terminal:
            _on_a_screen(reader, view, console)
        else:
            _in_lines(reader, view)
    except KeyboardInterrupt:
        pass  # who leaves has seen enough; nothing depends on a viewer


def _on_a_screen(reader: LiveReader, view: LiveView, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen(view, console.height), refresh=True)
            if not view.at_work:
                return
            time.sleep(_SECONDS)
            view = reader.look()


def _in_lines(reader: LiveReader, view: LiveView) -> None:
    """A line whenever something has changed, every few seconds at most."""
    said, when = "", 0.0
    while True:
        text = line(view)
        due = time.monotonic() - when >= _PLAIN_SECONDS
        if text != said and (due or not view.at_work):
            pace = pace_text(view)
            click.echo(f"{text} · {pace}" if pace else text)
            said, when = text, time.monotonic()
        if not view.at_work:
            click.echo(ending(view))
            return
        time.sleep(_SECONDS)
        view = reader.look()
