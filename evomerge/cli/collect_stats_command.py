"""``evomerge collect-stats``: measure a model's weights on data."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from evomerge.merging.collect_statistics import Example


@click.command(name="collect-stats")
@click.argument("model")
@click.option(
    "--data",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Examples, one a line: text, or JSON with text, or with prompt and target.",
)
@click.option(
    "--kind",
    type=click.Choice(["fisher", "gram", "activations"]),
    default="fisher",
    show_default=True,
    help="fisher for the operator fisher, gram for regmean, activations of the base for aim.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file. [default: statistics/KIND.safetensors in the model's or adapter's folder]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Longest example.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="In which the model runs.",
)
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.pass_obj
def command(
    obj: dict[str, bool],
    model: str,
    data: Path,
    kind: str,
    out: Path | None,
    max_tokens: int,
    dtype: str,
    device: str,
) -> None:
    """Measure the weights of MODEL, a folder, hub id or BASE+ADAPTER, on examples.

    Operators that weigh models by such statistics find them in the folder of the model, or of
    the adapter, or where a recipe or an experiment file says. Those of other weights are never
    overwritten.
    """
    if not data.is_file():
        raise click.UsageError(f"--data {data}: there is no such file.")
    from evomerge.experiment.collect_stats import CollectOptions, collect_statistics

    options = CollectOptions(kind, out, max_tokens, dtype, device, obj["offline"])
    done = collect_statistics(model, data, options, _shown, _announce)
    click.echo(
        f"{done.path}: {kind} of {done.weights} weights from {done.examples} examples, "
        f"{done.tokens:,} tokens; {done.size / 1e6:,.1f} MB"
    )


def _announce(said: str) -> None:
    click.echo(said, err=True)


def _shown(examples: "Sequence[Example]") -> "Iterable[Example]":
    from rich.console import Console
    from rich.progress import track

    return track(examples, "examples", console=Console(stderr=True), transient=True)
