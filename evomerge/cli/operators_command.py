"""``evomerge operators``: the merge operators with their parameters."""

import json
import math
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from evomerge.merging.operators.contract import Operator, Parameter

_IDENTIFIER = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5})")
_WIDE = 110
"""Columns from which on the whole table has room for what operators need on one line."""

_LEGEND = (
    "* one value a model; ∈[low,high] where there are bounds. Models are counted without the "
    "base. Papers are those of arXiv. All of one operator: evomerge operators NAME"
)


@click.command(name="operators")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything known.")
def command(name: str | None, as_json: bool) -> None:
    """List the merge operators, or tell all of the one called NAME."""
    from evomerge.merging.operators.registry import OPERATORS, operator

    if as_json:
        chosen = [operator(name)] if name else list(OPERATORS.values())
        facts = [_facts(one, OPERATORS.origin(one.name)) for one in chosen]
        click.echo(json.dumps(facts[0] if name else facts, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if name:
        _show_one(console, operator(name), OPERATORS.origin(name))
    else:
        _show_all(console, sorted(OPERATORS.values(), key=lambda one: one.name))


def _show_all(console: "Console", operators: "list[Operator]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("operator", no_wrap=True, style="cyan")
    table.add_column("models", no_wrap=True)
    table.add_column("needs", max_width=None if console.width >= _WIDE else 11)
    table.add_column("parameters = default", ratio=1)
    table.add_column("paper", no_wrap=True)
    for one in operators:
        found = _IDENTIFIER.search(one.paper)
        parameters = "  ".join(map(_short, one.parameters)) or "none"
        needs = ", ".join(_needs(one)) or "–"
        row = (one.name, _count(one), needs, parameters, found[1] if found else "–")
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(f"\n{_LEGEND}", markup=False)


def _show_one(console: "Console", one: "Operator", origin: str | None) -> None:
    console.print(f"[bold cyan]{one.name}[/]: {one.summary}\n")
    facts = {
        "paper": one.paper or "–",
        "base": "needed; task vectors are differences to it" if one.needs_base else "not used",
        "models": _count(one) + (" besides the base" if one.needs_base else ""),
        "random": "yes, by the recipe's seed" if one.stochastic else "no",
        "statistics": _statistics(one),
        "from": origin or "evomerge",
    }
    for key, value in facts.items():
        console.print(f"{key:<11}{value}", markup=False, soft_wrap=True)
    console.print()
    if one.parameters:
        console.print(_parameter_table(one))
    else:
        console.print("It has no parameters.")


def _parameter_table(one: "Operator") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("parameter", "of", "range", "default"):
        table.add_column(heading, no_wrap=True)
    table.add_column("meaning", ratio=1)
    for p in one.parameters:
        scope = "each model" if p.per_model else "the merge"
        table.add_row(p.name, scope, Text(_range(p)), _value(p.default), p.summary)
    return table


def _statistics(one: "Operator") -> str:
    if one.statistics is None:
        return "none"
    return f"{one.statistics}, from 'evomerge collect-stats --kind {one.statistics}'"


def _facts(one: "Operator", origin: str | None) -> dict[str, Any]:
    return {
        "name": one.name,
        "summary": one.summary,
        "paper": one.paper,
        "needs_base": one.needs_base,
        "min_models": one.min_models,
        "max_models": one.max_models,
        "stochastic": one.stochastic,
        "statistics": one.statistics,
        "plugin": origin,
        "parameters": [
            {
                "name": p.name,
                "kind": p.kind,
                "per_model": p.per_model,
                "default": p.default,
                "low": p.low if math.isfinite(p.low) else None,
                "high": p.high if math.isfinite(p.high) else None,
                "summary": p.summary,
            }
            for p in one.parameters
        ],
    }


def _needs(one: "Operator") -> list[str]:
    needs = ["base"] if one.needs_base else []
    needs += ["random"] if one.stochastic else []
    return needs + ([one.statistics] if one.statistics else [])


def _count(one: "Operator") -> str:
    if one.max_models is None:
        return f"{one.min_models}+"
    if one.max_models == one.min_models:
        return str(one.max_models)
    return f"{one.min_models}–{one.max_models}"


def _short(parameter: "Parameter") -> str:
    """``density*=1∈[0,1]``, without spaces, at which a line could be broken."""
    bounds = "any" if parameter.kind == "flag" else _range(parameter)
    shown = "" if bounds == "any" else f"∈{bounds}".replace(" ", "")
    star = "*" if parameter.per_model else ""
    return f"{parameter.name}{star}={_value(parameter.default)}{shown}"


def _range(parameter: "Parameter") -> str:
    if parameter.kind == "flag":
        return "true, false"
    if parameter.low == -math.inf and parameter.high == math.inf:
        return "any"
    high = "∞" if parameter.high == math.inf else f"{parameter.high:g}"
    low = "-∞" if parameter.low == -math.inf else f"{parameter.low:g}"
    return f"[{low}, {high}]"


def _value(value: float | bool | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
