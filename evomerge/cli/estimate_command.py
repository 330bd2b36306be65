"""``evomerge estimate``: what a run would take, from one timed candidate."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from evomerge.experiment.estimate import CostEstimate


@click.command(name="estimate")
@click.argument("experiment", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="As for run.")
@click.pass_obj
def command(obj: dict[str, bool], experiment: Path, overrides: tuple[str, ...]) -> None:
    """Time one candidate of EXPERIMENT here; tell what a run would take.

    Time, memory, disk and item evaluations. Nothing is written.
    """
    from evomerge.experiment.yaml_lines import read_yaml

    read_yaml(experiment)  # a file that is not there shows before heavy libraries are loaded
    from evomerge.experiment.estimate import estimate

    found = estimate(experiment, overrides, offline=obj["offline"])
    for line in found.plan:
        click.echo(line)
    _show(found)


def _show(found: "CostEstimate") -> None:
    from rich.console import Console
    from rich.table import Table

    from evomerge.report.number_text import duration

    table = Table(title="what the run would take", title_justify="left")
    table.add_column("phase")
    for heading in ("models", "item evaluations", "time of all workers"):
        table.add_column(heading, justify="right")
    for phase in found.phases:
        merges = phase.models * found.merge
        spans = [merges + found.item * items for items in (phase.least, phase.most)]
        table.add_row(
            phase.name,
            f"{phase.models:,}",
            _span(f"{phase.least:,}", f"{phase.most:,}"),
            _span(*map(duration, spans)),
        )
    Console().print(table)
    least, most = found.item_evaluations
    workers = f"{found.workers} worker{'s' * (found.workers != 1)}"
    for line in (
        f"a candidate: merge {found.merge:.3f} s, {1000 * found.item:.1f} ms an item "
        f"evaluation (timed on {found.items_timed})",
        f"time: {_span(*map(duration, found.seconds))} with {workers} always busy, "
        f"{duration(found.loading)} of it loading",
        f"item evaluations: {_span(f'{least:,}', f'{most:,}')}",
        f"memory: {_gib(found.worker_memory)} for each worker, and once for each machine "
        f"{_gib(found.shared_memory)} of mapped source models",
        f"disk: study.db up to {found.database / 1e6:.1f} MB; candidates are not written; "
        f"an exported model takes {found.exported / 1e6:.1f} MB",
    ):
        click.echo(line)


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _gib(held: int) -> str:
    return f"{held / 2**30:.2f} GiB"
