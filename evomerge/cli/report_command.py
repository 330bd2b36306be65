"""``evomerge report``: rebuild a run's report from its records."""

from pathlib import Path

import click

from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore


@click.command(name="report")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
def command(run_dir: Path) -> None:
    """Rebuild report.html, front.csv and the front's recipes in RUN_DIR."""
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
    click.echo(run_dir / "report.html")
