"""``evomerge import-evolve``: a mergekit-evolve configuration becomes an experiment file."""

from pathlib import Path

import click

from evomerge.cli.program import program


@click.command(name="import-evolve")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--include",
    multiple=True,
    metavar="FOLDER",
    help="A folder with task files, mergekit-evolve's --task-search-path.",
)
@click.option(
    "--layers",
    type=click.IntRange(min=1),
    help="Layers of the models, where they are not at hand.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    file: Path,
    out: Path | None,
    include: tuple[str, ...],
    layers: int | None,
) -> None:
    """Write the experiment that searches what FILE, for mergekit-evolve, does.

    OUT is experiment.yaml beside FILE by default. Comments in it say where the two differ.
    """
    from evomerge.experiment.import_evolve import ImportOptions, import_evolve

    target = file.parent / "experiment.yaml" if out is None else out
    import_evolve(file, target, ImportOptions(include, layers, obj["offline"]))
    click.echo(f"{target} written; look it over, then:")
    click.echo(f"  {program()} validate {target}\n  {program()} run {target}")
