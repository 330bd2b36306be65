"""``evomerge status``: how far a run is."""

from pathlib import Path

import click
from rich.console import Console

from evomerge.report.chain_summary import summarize_chain
from evomerge.report.chain_terminal import chain_lines, chain_tables
from evomerge.report.summary import summarize
from evomerge.report.terminal import baselines_table, front_table, status_lines
from evomerge.store.chain_record import is_chain
from evomerge.store.run_lock import is_held
from evomerge.store.study_store import StudyStore


@click.command(name="status")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
def command(run_dir: Path) -> None:
    """Show how far the run in RUN_DIR is, its front and how to go on."""
    console = Console()
    if is_chain(run_dir):
        chain = summarize_chain(run_dir)
        for line in chain_lines(chain, run_dir):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(*chain_tables(chain), sep="\n")
        return
    with StudyStore.open(run_dir, read_only=True) as store:
        summary = summarize(store)
    for line in status_lines(summary, run_dir, running=is_held(run_dir)):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(baselines_table(summary))
    console.print(front_table(summary))
