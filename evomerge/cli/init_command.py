"""``evomerge init``: write an experiment file for one's own models."""

import re
from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.cli.program import program


@click.command(name="init")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--base", metavar="MODEL", help="The experts' common base: a folder or hub id.")
@click.option(
    "--expert",
    "experts",
    multiple=True,
    required=True,
    metavar="NAME=MODEL",
    help="A source model under a short name; repeat for each.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    required=True,
    metavar="NAME",
    help="An lm-eval task; repeat for each.",
)
@click.option(
    "--include", multiple=True, metavar="FOLDER", help="A folder with lm-eval task YAMLs."
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    folder: Path,
    base: str | None,
    experts: tuple[str, ...],
    tasks: tuple[str, ...],
    include: tuple[str, ...],
) -> None:
    """Write a commented experiment.yaml into DIR for your own models and tasks."""
    from evomerge.experiment.new import NewExperiment, write_experiment

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "experiment"
    new = NewExperiment(
        name, base, named_pairs(experts, "--expert"), list(dict.fromkeys(tasks)), include
    )
    path = write_experiment(folder, new, offline=obj["offline"])
    click.echo(f"{path} written; look it over, then:")
    click.echo(f"  {program()} validate {path}\n  {program()} run {path}")
