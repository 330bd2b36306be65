"""``evomerge merge-adapters``: LoRA adapters of one base become one adapter."""

from pathlib import Path
from typing import Literal

import click

from evomerge.cli.pairs import named_pairs


@click.command(name="merge-adapters")
@click.argument(
    "adapters", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path)
)
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "-w", "--weight", "weights", multiple=True, type=float, help="One an adapter; default 1."
)
@click.option(
    "--space",
    type=click.Choice(["linear", "knots", "core_space"]),
    default="linear",
    show_default=True,
    help="The weighted sum, or a common space in which an operator merges.",
)
@click.option(
    "--operator",
    help="What merges in knots or core_space; see 'evomerge operators'. "
    "[default: task_arithmetic]",
)
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="Of the operator."
)
@click.option("--rank", type=click.IntRange(min=1), help="Highest rank of the merged adapter.")
@click.option("--seed", type=int, default=0, show_default=True, help="Keys random masks.")
def command(
    adapters: tuple[Path, ...],
    out_dir: Path,
    weights: tuple[float, ...],
    space: Literal["linear", "knots", "core_space"],
    operator: str | None,
    given: tuple[str, ...],
    rank: int | None,
    seed: int,
) -> None:
    """Merge ADAPTERS, folders of PEFT LoRA adapters, into a new one, OUT_DIR.

    Nothing of the base is read, and no full matrix is made. Ranks may differ.
    """
    from evomerge.merging.low_rank.merge_adapters import LowRankMethod, merge_adapters
    from evomerge.recipes.yaml_text import load_yaml

    values = {name: load_yaml(text) for name, text in named_pairs(given, "--parameter").items()}
    method = LowRankMethod(space, operator, values, rank, seed)
    merge_adapters(adapters, weights or (1.0,) * len(adapters), method, out_dir)
    click.echo(out_dir)
