"""``evomerge space``: what may vary in a search, before anything is run."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from evomerge.core.outcomes import Genome
    from evomerge.core.recipe import Recipe
    from evomerge.experiment.space_listing import ListedSpace
    from evomerge.spaces.genes import Gene

_SHOWN = 40
"""So many genes are listed where not all are asked for."""


@click.group(name="space")
def command() -> None:
    """Show what a search space may vary, and recipes of it.

    FILE is an experiment file, a search space's YAML, or the name of a ready one. Without an
    experiment the models are made up: a base and experts a, b, c of 24 layers. Of a chain of
    stages, models yet to be made have stand-ins.
    """


def _of_a_space(function: Callable[..., None]) -> Callable[..., None]:
    """The argument and options that say which space, over which models."""
    for add in reversed(
        (
            click.argument("file"),
            click.option("--experts", type=int, metavar="N", help="Made up. [default: 3]"),
            click.option("--layers", default=24, metavar="N", help="Made up. [default: 24]"),
            click.option(
                "--base/--no-base", default=True, help="Whether made-up models have one."
            ),
            click.option(
                "-o", "overrides", multiple=True, metavar="KEY=VALUE", help="As for run."
            ),
            click.option("--stage", metavar="NAME", help="Of a chain of stages, whose space."),
        )
    ):
        function = add(function)
    return function


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_spaces(as_json: bool) -> None:
    """List the kinds of search spaces and the ready ones."""
    from evomerge.experiment.space_listing import kinds, presets

    if as_json:
        ready = {name: {"kind": k, "summary": s} for name, (k, s) in presets().items()}
        click.echo(json.dumps({"kinds": kinds(), "ready": ready}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    rows: list[tuple[str, ...]] = [*kinds().items()]
    _print_table(console, ("kind", "what varies"), rows)
    console.print()
    rows = [(name, kind, summary) for name, (kind, summary) in presets().items()]
    _print_table(console, ("ready space", "kind", "what for"), rows)


@command.command(name="show")
@_of_a_space
@click.option("--all", "all_genes", is_flag=True, help=f"List more than {_SHOWN} genes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(
    obj: dict[str, bool],
    /,
    file: str,
    all_genes: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - those of _of_a_space
) -> None:
    """Print the genes of FILE's space, its dimensions, and an example recipe.

    Of a chain all stages, one after the other; as JSON, a list of them.
    """
    spaces = _listed(obj, file, options)
    if as_json:
        facts = [_facts(each) for each in spaces]
        alone = spaces[0].stage is None or options["stage"] is not None
        shown = facts[0] if alone else facts
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for number, listed in enumerate(spaces):
        if number:
            click.echo()
        _show(listed, all_genes=all_genes)


def _show(listed: "ListedSpace", *, all_genes: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for line in _sentences(listed):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    genes = listed.space.genes
    shown = genes if all_genes or len(genes) <= _SHOWN else genes[: _SHOWN // 2]
    from evomerge.experiment.space_listing import gene_range

    rows = [(gene.name, gene_range(gene)) for gene in shown]
    _print_table(console, ("gene", "range"), rows)
    if len(shown) < len(genes):
        console.print(f"… and {len(genes) - len(shown):,} more; --all lists them.")
    _, recipe = listed.middle()
    console.print("\nExample: every gene in the middle of its range", style="bold")
    click.echo(_as_yaml(recipe, ()))


@command.command(name="sample")
@_of_a_space
@click.option("-n", "count", default=1, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write 1.recipe.yaml … into a folder, ready for evomerge merge.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a sample.")
@click.pass_obj
def sample(
    obj: dict[str, bool],
    /,
    file: str,
    count: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - those of _of_a_space
) -> None:
    """Draw genomes of FILE's space at random and print them with their recipes."""
    spaces = _listed(obj, file, options)
    if len(spaces) > 1:
        from evomerge.core.errors import ConfigError

        names = [str(each.stage) for each in spaces]
        raise ConfigError(
            f"{file}: is a chain of stages, {', '.join(names)}; say of which to draw recipes, "
            f"e.g. --stage {names[0]}."
        )
    drawn = spaces[0].sample(count, seed)
    if out is not None:
        _write(out, drawn)
        return
    for number, (genome, recipe) in enumerate(drawn, 1):
        if as_json:
            facts = {"genome": dict(genome), "digest": recipe.digest, **recipe.to_plain()}
            click.echo(json.dumps(facts, ensure_ascii=False))
            continue
        click.echo(("---\n" if number > 1 else "") + _as_yaml(recipe, _genome_lines(genome)))


def _listed(
    obj: dict[str, bool], file: str, options: dict[str, Any]
) -> "Sequence[ListedSpace]":
    """The space of a file; of a chain those of all its stages, or of the one named."""
    from evomerge.core.errors import ConfigError
    from evomerge.experiment.space_listing import MadeUpModels, list_space, list_stages
    from evomerge.experiment.stages_reader import has_stages

    path, stage = Path(file), options["stage"]
    if path.is_file() and has_stages(path):
        return list_stages(path, options["overrides"], stage, offline=obj["offline"])
    if stage is not None:
        raise ConfigError(f"--stage {stage}: {file} is no chain of stages.")
    made_up = MadeUpModels(options["experts"], options["layers"], options["base"])
    return [list_space(file, made_up, options["overrides"], offline=obj["offline"])]


def _sentences(listed: "ListedSpace") -> Iterable[str]:
    """The space in words."""
    stage = f", stage {listed.stage}" if listed.stage else ""
    yield f"{listed.place}{stage}: kind {listed.kind}"
    if listed.comment:
        yield f"\n{listed.comment}\n"
    models, space = listed.models, listed.space
    base = "a base and " if models.base else ""
    names = [expert.name for expert in models.experts]
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    made_up = " (made up; name an experiment file to see its own)" if listed.made_up else ""
    yield (f"models: {base}{len(names)} experts ({shown}) of {models.layers} layers{made_up}")
    yield f"dimensions: {_dimensions(space.genes)}"
    if listed.fixed:
        yield f"fixed: {listed.fixed}"
    if space.most_layers is not None:
        yield f"depth: up to {space.most_layers} layers"
    first = len(_first(listed))
    yield f"proposed first: {first} recipe{'' if first == 1 else 's'} known beforehand"
    yield "baselines: " + ", ".join(each.name for each in space.baselines())


def _dimensions(genes: "tuple[Gene, ...]") -> str:
    kinds: dict[str, int] = {}
    for gene in genes:
        kind = _KINDS.get(type(gene).__name__, "table")
        kinds[kind] = kinds.get(kind, 0) + 1
    parts = [f"{n:,} {kind if n == 1 else kind + 's'}" for kind, n in kinds.items()]
    genes_of = "gene" if len(genes) == 1 else "genes"
    return f"{len(genes):,} {genes_of}" + (f": {', '.join(parts)}" if parts else "")


_KINDS = {
    "FloatGene": "number",
    "ShareGene": "number",
    "IntGene": "whole number",
    "ChoiceGene": "choice",
}


def _first(listed: "ListedSpace") -> "list[Genome]":
    from evomerge.spaces.first_genomes import first_genomes

    return first_genomes(listed.space)


def _facts(listed: "ListedSpace") -> dict[str, Any]:
    from evomerge.experiment.space_listing import gene_range

    genome, recipe = listed.middle()
    return {
        "file": str(listed.place),
        "kind": listed.kind,
        **({"stage": listed.stage} if listed.stage else {}),
        **({"fixed": listed.fixed} if listed.fixed else {}),
        "made_up_models": listed.made_up,
        "layers": listed.models.layers,
        "most_layers": listed.space.most_layers,
        "genes": [
            {
                "name": gene.name,
                "kind": _KINDS.get(type(gene).__name__, "table"),
                "range": gene_range(gene),
            }
            for gene in listed.space.genes
        ],
        "baselines": [each.name for each in listed.space.baselines()],
        "proposed_first": [dict(each) for each in _first(listed)],
        "example": {"genome": dict(genome), "digest": recipe.digest, **recipe.to_plain()},
    }


def _as_yaml(recipe: "Recipe", comments: Iterable[str]) -> str:
    from evomerge.recipes.recipe_yaml import recipe_to_yaml

    return recipe_to_yaml(recipe, "\n".join([*comments, f"digest {recipe.digest}"]))


def _genome_lines(genome: "Genome") -> list[str]:
    lines = [f"{name}: {value}" for name, value in genome.items()]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"… and {more:,} more genes"] if more > 0 else [])


def _write(out: Path, drawn: "list[tuple[Genome, Recipe]]") -> None:
    from evomerge.core.atomic_write import write_text
    from evomerge.core.errors import StoreError

    try:
        out.mkdir(parents=True, exist_ok=True)
        for number, (genome, recipe) in enumerate(drawn, 1):
            place = out / f"{number:0{len(str(len(drawn)))}}.recipe.yaml"
            write_text(place, _as_yaml(recipe, _genome_lines(genome)))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}.") from error
    click.echo(f"{len(drawn)} recipes in {out}")


def _print_table(
    console: "Console", headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings[:-1]:
        table.add_column(
            heading, overflow="fold", style="cyan" if heading == headings[0] else ""
        )
    table.add_column(headings[-1], ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
