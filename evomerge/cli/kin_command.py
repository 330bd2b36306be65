"""``evomerge kin``: how alike models are, before they are merged."""

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from evomerge.experiment.kinship import Pair, Triage

_MEASURES = ("cosine", "correlation", "sign_agreement", "distance", "similarity")
_ALL_PAIRS = 10
"""Of more pairs a matrix is shown, and only the ends of the list."""

_ENDS = 3
_UNDEFINED = "–"


@click.command(name="kin")
@click.argument("models", nargs=-1, required=True)
@click.option("--base", help="Their common ancestor, a folder or hub id: compare task vectors.")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="From which cosine on models are one group. [default: 0.9 of task vectors with "
    "--base, else 0.95 of the columns of weights]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything known.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new CSV file, with one line a pair.",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read PyTorch's pickle files where a model has no safetensors.",
)
@click.pass_obj
def command(
    obj: dict[str, bool],
    models: tuple[str, ...],
    base: str | None,
    threshold: float | None,
    as_json: bool,
    out: Path | None,
    allow_pickle: bool,
) -> None:
    """Compare MODELS pair by pair and tell which are close kin.

    Each is a folder, hub id or BASE+ADAPTER, or NAME=MODEL. With --base the differences to it
    are compared (Model Kinship), else the weights (Model-GLUE). Nothing is run.
    """
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: exists already; give a new file.")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}.")
    from rich.console import Console
    from rich.progress import Progress

    from evomerge.experiment.kinship import TriageOptions, triage

    options = TriageOptions(base, threshold, obj["offline"], allow_pickle)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("weights", total=1.0)
        found = triage(models, options, lambda share: progress.advance(task, share))
    if out is not None:
        from evomerge.core.atomic_write import write_text

        write_text(out, _csv(found))
    if as_json:
        click.echo(json.dumps(_facts(found), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(Console(highlight=False), found)
        if out is not None:
            click.echo(f"\n{out}: {len(found.pairs)} pairs")


def _show(console: "Console", found: "Triage") -> None:
    console.print(_models_table(found))
    pairs = found.pairs
    if len(pairs) > _ALL_PAIRS:
        console.print()
        _show_matrix(console, found)
    console.print()
    console.print(_pairs_table(found))
    if len(pairs) > _ALL_PAIRS:
        left = len(pairs) - 2 * _ENDS
        console.print(f"… and {left} pairs between them: --out FILE or --json holds all.")
    console.print()
    for told in (*found.advice, *found.notes):
        console.print(told, markup=False)


def _models_table(found: "Triage") -> "Table":
    table = _table()
    table.add_column("", justify="right")
    table.add_column("model", style="cyan", overflow="fold")
    table.add_column("group", justify="right")
    table.add_column("norm", justify="right", no_wrap=True)
    relative = found.kinship.relative_norms
    if relative is not None:
        table.add_column("of base", justify="right", no_wrap=True)
    group = _group_numbers(found)
    for k, name in enumerate(found.kinship.names):
        row = [str(k + 1), name, str(group[name]), _length(found.kinship.norms[k])]
        _add(table, row + ([] if relative is None else [f"{relative[k]:.4f}"]))
    return table


def _pairs_table(found: "Triage") -> "Table":
    table = _table()
    for heading in ("model", "and model"):
        table.add_column(heading, style="cyan", overflow="fold")
    for heading in ("cosine", "correl.", "signs", "distance", "similar"):
        table.add_column(heading, justify="right", no_wrap=True)
    pairs = found.pairs
    ends = [*pairs[:_ENDS], *pairs[-_ENDS:]] if len(pairs) > _ALL_PAIRS else pairs
    for pair in ends:
        numbers = [
            _number(pair.cosine, ".4f"),
            _number(pair.correlation, ".4f"),
            _number(pair.sign_agreement, ".3f"),
            _length(pair.distance),
            _number(pair.similarity, ".4f"),
        ]
        _add(table, [*pair.models, *numbers])
    return table


def _show_matrix(console: "Console", found: "Triage") -> None:
    """The lower triangle of the measure that groups; models by name where there is room."""
    measure, names = found.kinship.measure, found.kinship.names
    cells = [[_short(value) for value in row[:k]] for k, row in enumerate(measure)]
    width = 5 * (len(names) - 1)
    longest = max(map(len, names)) + 3
    if width + 2 > console.width:
        console.print(
            f"The matrix of {len(names)} models does not fit into {console.width} columns; "
            "--out FILE or --json holds it."
        )
        return
    table = _table(padding=(0, 1, 0, 0))
    table.add_column(found.measure if console.width - width > longest else "", no_wrap=True)
    for k in range(len(names) - 1):
        table.add_column(str(k + 1), justify="right", no_wrap=True, min_width=4)
    for k, row in enumerate(cells):
        label = f"{k + 1:>2} {names[k]}" if console.width - width > longest else f"{k + 1:>2}"
        _add(table, [label, *row, *[""] * (len(names) - 1 - len(row))])
    console.print(table)


def _table(padding: tuple[int, int, int, int] = (0, 2, 0, 0)) -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=padding, header_style="bold")


def _add(table: "Table", row: list[str]) -> None:
    from rich.text import Text

    table.add_row(*map(Text, row))


def _number(value: float, form: str) -> str:
    return _UNDEFINED if math.isnan(value) else format(value, form)


def _length(value: float) -> str:
    return f"{value:#.4g}".removesuffix(".")


def _short(value: float) -> str:
    """Two decimals in four characters: ``.97``, ``-.06``, ``1.00``, ``-1.0``."""
    text = _number(value, ".2f").replace("-0.00", "0.00").replace("-1.00", "-1.0")
    return text.replace("0.", ".", 1)


def _group_numbers(found: "Triage") -> dict[str, int]:
    return {name: k for k, group in enumerate(found.groups, 1) for name in group}


def _facts(found: "Triage") -> dict[str, Any]:
    kinship, group = found.kinship, _group_numbers(found)
    relative = kinship.relative_norms
    compared = found.compared
    return {
        "base": found.base,
        "entries": kinship.entries,
        "measure": found.measure,
        "threshold": found.threshold,
        "models": [
            {
                "name": name,
                "model": found.models[name],
                "group": group[name],
                "norm": float(kinship.norms[k]),
                "relative_norm": None if relative is None else _plain(float(relative[k])),
            }
            for k, name in enumerate(kinship.names)
        ],
        "groups": found.groups,
        "pairs": [{"models": pair.models} | _values(pair) for pair in found.pairs],
        "most_related": compared[0].models if compared else None,
        "least_related": compared[-1].models if compared else None,
        "advice": found.advice,
        "notes": found.notes,
    }


def _csv(found: "Triage") -> str:
    group = _group_numbers(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "other", "same_group", *_MEASURES])
    for pair in found.pairs:
        first, second = pair.models
        same = str(group[first] == group[second]).lower()
        values = ["" if value is None else value for value in _values(pair).values()]
        writer.writerow([first, second, same, *values])
    return text.getvalue()


def _values(pair: "Pair") -> dict[str, float | None]:
    return {name: _plain(getattr(pair, name)) for name in _MEASURES}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
