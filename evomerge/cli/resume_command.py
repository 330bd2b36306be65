"""``evomerge resume``: continue or extend a run."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.cli.progress import stoppable, watching
from evomerge.store.chain_record import is_chain, run_dirs
from evomerge.store.study_store import FILE_NAME, StudyStore


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
    """Continue the search, or the chain of searches, in RUN_DIR from wherever it stands."""
    places = named_pairs(models, "--model")
    finished = all(_finished(folder) for folder in run_dirs(run_dir))
    with watching() as observer, stoppable(observer):
        from evomerge.experiment.session import ResumeOptions, resume
        from evomerge.experiment.stages_run import resume_chain

        options = ResumeOptions(add or 0, places, overrides, obj["offline"], observer)
        go_on = resume_chain if is_chain(run_dir) else resume
        done = go_on(run_dir, options)
    from evomerge.cli.outcome import show_outcome

    if finished and not add:
        click.echo("The budget was used up before; nothing was left to do. --add N goes on.")

    show_outcome(done)


def _finished(run_dir: Path) -> bool:
    if is_chain(run_dir.parent) and not (run_dir / FILE_NAME).exists():
        return False  # a stage that has not begun
    with StudyStore.open(run_dir, read_only=True) as store:
        return bool(store.meta("state") == "finished")
