"""``evomerge watch``: a run on the terminal, as it goes on."""

import time
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from evomerge.report.chain_summary import summarize_chain
from evomerge.report.chain_terminal import chain_lines, chain_tables
from evomerge.report.live_reader import LiveReader
from evomerge.report.live_terminal import ending, line, pace_text, screen
from evomerge.report.live_view import LiveView
from evomerge.store.chain_record import is_chain, run_dirs
from evomerge.store.run_lock import is_held
from evomerge.store.study_store import FILE_NAME

_SECONDS = 1.0
_PLAIN_SECONDS = 5.0
"""Between lines where the output is no terminal."""


@click.command(name="watch")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Show it as it is now, and end.")
def command(run_dir: Path, once: bool) -> None:
    """Follow the run in RUN_DIR until it ends; Ctrl-C leaves, the run goes on."""
    console = Console()
    if is_chain(run_dir):
        with suppress(KeyboardInterrupt):
            _chain(run_dir, console, once=once)
        return
    reader = LiveReader(run_dir)
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


def _chain(run_dir: Path, console: Console, *, once: bool) -> None:
    """Each stage in its turn, then what has come of the chain."""
    folders = run_dirs(run_dir)
    seen: set[Path] = set()
    while not once:
        held = is_held(run_dir)  # before the stages: what ends while they are looked at counts
        begun = [f for f in folders if (f / FILE_NAME).exists() and f not in seen]
        for folder in begun:
            reader = LiveReader(folder)
            if console.is_terminal:
                _on_a_screen(reader, reader.look(), console)
            else:
                _in_lines(reader, reader.look(), end=False)
            seen.add(folder)
        if not begun and not held:
            break
        if not begun:
            time.sleep(_SECONDS)
    chain = summarize_chain(run_dir)
    console.print(*chain_tables(chain), sep="\n")
    for line_ in chain_lines(chain, run_dir):
        console.print(line_, highlight=False, soft_wrap=True)


def _on_a_screen(reader: LiveReader, view: LiveView, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen(view, console.height), refresh=True)
            if not view.at_work:
                return
            time.sleep(_SECONDS)
            view = reader.look()


def _in_lines(reader: LiveReader, view: LiveView, *, end: bool = True) -> None:
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
            if end:
                click.echo(ending(view))
            return
        time.sleep(_SECONDS)
        view = reader.look()
