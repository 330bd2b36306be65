"""``evomerge status``: how far a run is."""

from pathlib import Path

import click
from rich.console import Console

from evomerge.report.summary import summarize
from evomerge.report.terminal import baselines_table, front_table, status_lines
from evomerge.store.run_lock import is_held
from evomerge.store.study_store import StudyStore


@click.command(name="status")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
def command(run_dir: Path) -> None:
    """Show how far the run in RUN_DIR is, its front and how to go on."""
    with StudyStore.open(run_dir, read_only=True) as store:
        summary = summarize(store)
    console = Console()
    for line in status_lines(summary, run_dir, running=is_held(run_dir)):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(baselines_table(summary))
    console.print(front_table(summary))
