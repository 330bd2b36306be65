"""``evomerge optimizers``: the search methods with their options, and when to use which."""

import json
import re
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from evomerge.optimizers.registry import OptimizerEntry

_LEGEND = (
    "All take any genes; 'what for' says which suit. Workers: what keeps many of them busy; "
    "'ahead' proposes before the outcomes in front are known, 'async' learns from each as it "
    "arrives, 'any' never waits, '–' waits for the last of each step. All of one optimizer: "
    "evomerge optimizers NAME. docs/optimizers.md compares them."
)

_GUIDE = (
    ("one objective, number genes", "cma_es"),
    ("one objective, choices among the genes", "nsga2"),
    ("2 to 5 objectives; more", "nsga2; nsga3"),
    ("under some 100 costly candidates", "bayesian, map_surrogate"),
    ("space 'splits': many models' skills", "m2n2"),
    ("sequences of choices, some 100s", "rl"),
    ("baselines", "random, sobol, grid, soups"),
)

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*;.*extra\s*==\s*['\"]([^'\"]+)['\"]")


@click.command(name="optimizers")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything known.")
def command(name: str | None, as_json: bool) -> None:
    """List the optimizers and when to use which, or tell all of the one called NAME."""
    from evomerge.core.errors import ConfigError
    from evomerge.core.near_names import unknown
    from evomerge.optimizers.registry import OPTIMIZERS

    if name is not None and name not in OPTIMIZERS:
        raise ConfigError(unknown("optimizer", name, OPTIMIZERS))
    if as_json:
        facts = [_facts(each, OPTIMIZERS[each]) for each in ([name] if name else OPTIMIZERS)]
        click.echo(json.dumps(facts[0] if name else facts, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if name:
        _show_one(console, name, OPTIMIZERS[name])
    else:
        _show_all(console)


def _show_all(console: "Console") -> None:
    from rich.text import Text

    from evomerge.optimizers.registry import OPTIMIZERS

    table = _table("optimizer", "objectives", "workers", last="what for")
    for name, entry in OPTIMIZERS.items():
        origin = OPTIMIZERS.origin(name)
        lacking = _installed(entry) is False
        notes = [f"install evomerge[{entry.extra}]"] if lacking else []
        notes += [f"of {origin}"] if origin else []
        told = entry.summary + (f" ({', '.join(notes)})" if notes else "")
        table.add_row(*map(Text, (name, _objectives(entry), _workers(entry), told)))
    console.print(table)
    console.print("\nWhich one?", style="bold")
    for case, choice in _GUIDE:
        console.print(f"  {case:<40}{choice}", markup=False, soft_wrap=True)
    console.print(f"\n{_LEGEND}", markup=False)


def _show_one(console: "Console", name: str, entry: "OptimizerEntry") -> None:
    from evomerge.optimizers.registry import OPTIMIZERS

    console.print(f"[bold cyan]{name}[/]: {entry.summary}\n")
    extra = "none"
    if entry.extra:
        states: dict[bool | None, str] = {True: ", installed", False: ", not installed"}
        state = states.get(_installed(entry), "")
        extra = f"evomerge[{entry.extra}]{state}"
    facts = {
        "when": entry.advice or "–",
        "source": entry.source or "–",
        "objectives": _objectives(entry),
        "workers": _workers(entry),
        "scores": "of every item" if entry.learns_from_items else "of the objectives",
        "extra": extra,
        "from": OPTIMIZERS.origin(name) or "evomerge",
    }
    for key, value in facts.items():
        console.print(f"{key:<12}{value}", markup=False, soft_wrap=True)
    console.print()
    if fields(entry.options):
        console.print(_option_table(entry))
    else:
        console.print("It has no options.")


def _option_table(entry: "OptimizerEntry") -> "Table":
    from rich.text import Text

    table = _table("option", "range", "default", last="meaning")
    for option in _options(entry):
        row = (option["name"], option["range"], _shown(option["default"]), option["meaning"])
        table.add_row(*map(Text, row))
    return table


def _table(*headings: str, last: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(
            heading, overflow="fold", style="cyan" if heading == headings[0] else ""
        )
    table.add_column(last, ratio=1)
    return table


def _facts(name: str, entry: "OptimizerEntry") -> dict[str, Any]:
    from evomerge.optimizers.registry import OPTIMIZERS

    return {
        "name": name,
        "summary": entry.summary,
        "advice": entry.advice,
        "source": entry.source,
        "max_objectives": entry.max_objectives,
        "workers": _workers(entry),
        "learns_from_items": entry.learns_from_items,
        "extra": entry.extra,
        "installed": _installed(entry),
        "plugin": OPTIMIZERS.origin(name),
        "options": _options(entry),
    }


def _options(entry: "OptimizerEntry") -> list[dict[str, Any]]:
    """Every option with its range, default and meaning."""
    from pydantic import TypeAdapter

    known = TypeAdapter(entry.options).json_schema().get("properties", {})
    return [
        {
            "name": name,
            "range": _range(schema),
            "default": schema.get("default"),
            "meaning": schema.get("description", ""),
        }
        for name, schema in known.items()
    ]


def _range(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, e.g. ``[4, 10000]``, ``(0, 1]`` or ``a, b``."""
    if "anyOf" in schema:
        return " or ".join(_range(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = {"boolean": "true, false", "null": "none", "string": "text", "array": "list"}
    if schema.get("type") not in ("integer", "number"):
        return kind.get(schema.get("type", ""), "any")
    low = f"[{schema['minimum']:g}" if "minimum" in schema else "(-∞"
    high = f"{schema['maximum']:g}]" if "maximum" in schema else "∞)"
    if "exclusiveMinimum" in schema:
        low = f"({schema['exclusiveMinimum']:g}"
    if "exclusiveMaximum" in schema:
        high = f"{schema['exclusiveMaximum']:g})"
    return "any" if (low, high) == ("(-∞", "∞)") else f"{low}, {high}"


def _objectives(entry: "OptimizerEntry") -> str:
    if entry.max_objectives is None:
        return "any"
    return "1" if entry.max_objectives == 1 else f"1–{entry.max_objectives}"


def _workers(entry: "OptimizerEntry") -> str:
    if entry.never_waits:
        return "any"
    options = {field.name for field in fields(entry.options)}
    ways = (("ahead", "ahead"), ("asynchronous", "async"))
    return ", ".join(short for key, short in ways if key in options) or "–"


def _installed(entry: "OptimizerEntry") -> bool | None:
    """Whether what its extra asks for is installed; None where that cannot be told."""
    if entry.extra is None:
        return True
    found = (_REQUIREMENT.match(line) for line in requires("evomerge") or ())
    packages = [each[1] for each in found if each and each[2] == entry.extra]
    try:
        for package in packages:
            version(package)
    except PackageNotFoundError:
        return False
    return True if packages else None


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
