"""``evomerge calibrate``: make the calibration that estimators are fitted to."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.cli.progress import stoppable, watching


@click.command(name="calibrate")
@click.argument("experiment", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The calibration file to write, .npz; name it under fitness: calibration.",
)
@click.option(
    "--matrix",
    "matrices",
    multiple=True,
    metavar="TASK=FILE",
    help="Responses of other models to a task's items (npz, csv, parquet); may be repeated.",
)
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder of lm_eval --log_samples; may be repeated.",
)
@click.option(
    "--merges",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Without --matrix and --samples: merges that answer every search item, besides "
    "sources and baselines.",
)
@click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the file; may be repeated.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    experiment: Path,
    out: Path,
    matrices: tuple[str, ...],
    samples: tuple[Path, ...],
    merges: int,
    overrides: tuple[str, ...],
) -> None:
    """Calibrate the tasks of EXPERIMENT, a YAML file."""
    from evomerge.experiment.yaml_lines import read_yaml

    read_yaml(experiment)  # a file that is not there shows before heavy libraries are loaded
    files = {task: Path(file) for task, file in named_pairs(matrices, "--matrix").items()}
    with watching() as observer, stoppable(observer):
        from evomerge.experiment.calibrate import CalibrateOptions, calibrate

        made = calibrate(
            experiment,
            CalibrateOptions(out, files, samples, merges, overrides, obj["offline"], observer),
        )
    for (task, metric), matrix in made.matrices.items():
        click.echo(
            f"{metric} of {task}: {len(matrix.models)} models × {len(matrix.items)} items"
        )
    click.echo(f"wrote {out}; use it with fitness: {{estimator: factor, calibration: {out}}}")
