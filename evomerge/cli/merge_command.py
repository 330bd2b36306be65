"""``evomerge merge``: a recipe file becomes a model folder."""

from pathlib import Path
from typing import Literal

import click

from evomerge.cli.pairs import named_pairs


@click.command(name="merge")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--model", "models", multiple=True, metavar="NAME=MODEL", help="Where a source is now."
)
@click.option(
    "--tokenizer-mismatch",
    "mismatch",
    type=click.Choice(["error", "base"]),
    default="error",
    help="Where sources disagree on token ids: refuse, or take the base's tokenizer.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    recipe: Path,
    out_dir: Path,
    models: tuple[str, ...],
    mismatch: Literal["error", "base"],
) -> None:
    """Merge RECIPE, a YAML file, into a Hugging Face model folder OUT_DIR."""
    from evomerge.experiment.export import MergeOptions, merge_recipe

    places = named_pairs(models, "--model")
    merge_recipe(recipe, out_dir, MergeOptions(places, mismatch, obj["offline"]))
    click.echo(out_dir)
