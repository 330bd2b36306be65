"""``evomerge report``: rebuild a run's report from its records."""

from pathlib import Path

import click

from evomerge.report.chain_page import write_chain_report
from evomerge.report.write import write_report
from evomerge.store.chain_record import is_chain, run_dirs
from evomerge.store.study_store import FILE_NAME, StudyStore


@click.command(name="report")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
def command(run_dir: Path) -> None:
    """Rebuild report.html, front.csv and the front's recipes in RUN_DIR; of all its stages."""
    for folder in run_dirs(run_dir):
        if not is_chain(run_dir) or (folder / FILE_NAME).exists():
            with StudyStore.open(folder, read_only=True) as store:
                write_report(store, folder)
    if is_chain(run_dir):
        write_chain_report(run_dir)
    click.echo(run_dir / "report.html")
