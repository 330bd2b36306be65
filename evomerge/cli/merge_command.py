"""``evomerge merge``: a recipe file becomes a model folder."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs


@click.command(name="merge")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--model", "models", multiple=True, metavar="NAME=MODEL", help="Where a source is now."
)
@click.pass_obj
def command(obj: dict[str, bool], recipe: Path, out_dir: Path, models: tuple[str, ...]) -> None:
    """Merge RECIPE, a YAML file, into a Hugging Face model folder OUT_DIR."""
    from evomerge.experiment.export import merge_recipe

    merge_recipe(recipe, out_dir, named_pairs(models, "--model"), offline=obj["offline"])
    click.echo(out_dir)
