"""``evomerge merge``: a recipe file or mergekit configuration becomes a model folder."""

from pathlib import Path

import click

from evomerge.cli.pairs import named_pairs


@click.command(name="merge")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--model", "models", multiple=True, metavar="NAME=MODEL", help="Where a source is now."
)
@click.option(
    "--statistics",
    multiple=True,
    metavar="NAME=FILE",
    help="Statistics of a source, where they are not in its folder.",
)
@click.option(
    "--tokenizer-mismatch",
    "mismatch",
    default="error",
    metavar="error|base|union|NAME",
    help="Where sources disagree on tokens: refuse, take the base's tokenizer, one that knows "
    "all tokens, or that of a source.",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read PyTorch's pickle files where a source has no safetensors.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    recipe: Path,
    out_dir: Path,
    models: tuple[str, ...],
    statistics: tuple[str, ...],
    mismatch: str,
    allow_pickle: bool,
) -> None:
    """Merge RECIPE into a Hugging Face model folder OUT_DIR.

    RECIPE is a recipe of evomerge or a mergekit configuration, in YAML. The sources of the
    latter are named by the ends of their places: --model Mistral-7B-v0.1=./folder.
    """
    from evomerge.experiment.export import MergeOptions, merge_recipe

    options = MergeOptions(
        named_pairs(models, "--model"),
        named_pairs(statistics, "--statistics"),
        mismatch,
        obj["offline"],
        allow_pickle,
    )
    merge_recipe(recipe, out_dir, options)
    click.echo(out_dir)
