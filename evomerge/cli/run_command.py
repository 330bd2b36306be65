"""``evomerge run``: search from the beginning."""

from pathlib import Path

import click

from evomerge.cli.progress import stoppable, watching


@click.command(name="run")
@click.argument("experiment", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the file, e.g. -o optimizer.population=48; may be repeated.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The run directory. [default: the first free runs/NAME]",
)
@click.option(
    "--warm-start",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN_DIR",
    help="Propose another run's front first.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    experiment: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    warm_start: Path | None,
) -> None:
    """Run EXPERIMENT, a YAML file, to the end of its budget; with stages, one after another."""
    from evomerge.experiment.stages_reader import has_stages

    # A file that is not there shows before heavy libraries are loaded.
    staged = has_stages(experiment)
    with watching() as observer, stoppable(observer):
        from evomerge.experiment.session import RunOptions, start
        from evomerge.experiment.stages_run import start_chain

        options = RunOptions(out, overrides, obj["offline"], warm_start, observer)
        done = start_chain(experiment, options) if staged else start(experiment, options)
    from evomerge.cli.outcome import show_outcome

    show_outcome(done)
