"""``evomerge resume``: continue or extend a run."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.cli.progress import stoppable, watching
from evomerge.store.study_store import StudyStore


@click.command(name="resume")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--add", type=click.IntRange(min=1), metavar="N", help="Go on for N further candidates."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=MODEL",
    help="Where a source model is now, if it has moved; may be repeated.",
)
@click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="workers.KEY=VALUE",
    help="Go on with other workers, e.g. -o workers.count=4; may be repeated.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    run_dir: Path,
    add: int | None,
    models: tuple[str, ...],
    overrides: tuple[str, ...],
) -> None:
    """Continue the search in RUN_DIR from wherever it stands."""
    places = named_pairs(models, "--model")
    with StudyStore.open(run_dir, read_only=True) as store:
        finished = store.meta("state") == "finished"
    with watching() as observer, stoppable(observer):
        from evomerge.experiment.session import ResumeOptions, resume

        options = ResumeOptions(add or 0, places, overrides, obj["offline"], observer)
        study = resume(run_dir, options)
    from evomerge.cli.outcome import show_outcome

    if finished and not add:
        click.echo("The budget was used up before; nothing was left to do. --add N goes on.")

    show_outcome(study)
