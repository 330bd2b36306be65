"""``evomerge export``: a trial becomes a model folder."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.store.chain_record import stage_folder


@click.command(name="export")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--trial", type=int, required=True, metavar="N", help="The trial's number.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME=MODEL", help="Where a source is now."
)
@click.option(
    "--stage", metavar="NAME", help="Of a chain of stages, whose trial. [default: the last]"
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    run_dir: Path,
    out_dir: Path,
    trial: int,
    models: tuple[str, ...],
    stage: str | None,
) -> None:
    """Merge trial N of RUN_DIR into a Hugging Face model folder OUT_DIR."""
    from evomerge.experiment.export import MergeOptions, export_trial

    places = named_pairs(models, "--model")
    folder = stage_folder(run_dir, stage)
    export_trial(folder, trial, out_dir, MergeOptions(places, offline=obj["offline"]))
    click.echo(out_dir)
