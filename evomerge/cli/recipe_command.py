"""``evomerge recipe``: mergekit configurations into recipes, and recipes into them."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs
from evomerge.core.errors import ConfigError


@click.command(name="recipe")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to-mergekit", is_flag=True, help="Write a mergekit configuration.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME=MODEL", help="Where a source is now."
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    recipe: Path,
    out: Path | None,
    to_mergekit: bool,
    models: tuple[str, ...],
) -> None:
    """Write RECIPE, of either kind, as a recipe of evomerge, or as mergekit's.

    Goes to OUT, a new file, or to the terminal. Of the models only headers are read.
    """
    from evomerge.core.atomic_write import write_text
    from evomerge.experiment.recipe_files import mergekit_text, recipe_text

    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already; give a new file.")
    write = mergekit_text if to_mergekit else recipe_text
    text = write(recipe, named_pairs(models, "--model"), offline=obj["offline"])
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(out)
