"""Recipes as YAML files: what ``evomerge merge`` reads and every report writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Recipe, Rule, Source

_TOP = ("recipe", "base", "sources", "seed", "dtype", "rules")
_RULE = ("operator", "layers", "contains", "parameters", "models")
_VERSION = 1

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The safe dumper in C where PyYAML was built with it: a front has many recipes."""


def recipe_to_yaml(recipe: Recipe, comment: str = "") -> str:
    """The recipe as YAML text, with an optional comment on top.

    Reading it back gives an equal recipe with an equal digest.
    """
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    plain = recipe.to_plain()
    return lines + yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; relative model folders are taken from the file's folder.

    Raises:
        ConfigError: Not readable, not YAML, or not a recipe; every problem is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the recipe: {error}.") from error
    return recipe_from_yaml(text, where=str(path), folder=path.parent)


def recipe_from_yaml(text: str, where: str = "recipe", folder: Path | None = None) -> Recipe:
    """Parse a recipe's YAML text.

    Args:
        text: The YAML.
        where: What error messages call it.
        folder: Where relative model folders that exist there are looked up.

    Raises:
        ConfigError: Not YAML or not a recipe; every problem is named.
    """
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error
    problems = _problems(plain)
    if problems:
        raise ConfigError([f"{where}: {problem}" for problem in problems])
    try:
        return Recipe(
            sources=tuple(_source(n, v, folder) for n, v in plain["sources"].items()),
            rules=tuple(_rule(rule) for rule in plain["rules"]),
            base=plain.get("base"),
            seed=plain.get("seed", 0),
            dtype=plain.get("dtype"),
        )
    except ConfigError as error:
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from error


def _source(name: str, value: str | Mapping[str, Any], folder: Path | None) -> Source:
    given: Mapping[str, Any] = {"model": value} if isinstance(value, str) else value
    model = given["model"]
    if folder is not None and not Path(model).is_absolute() and (folder / model).is_dir():
        model = str(folder / model)
    return Source(name, model, given.get("fingerprint"))


def _rule(rule: Mapping[str, Any]) -> Rule:
    layers = rule.get("layers")
    return Rule(
        operator=rule["operator"],
        models={name: dict(parameters or {}) for name, parameters in rule["models"].items()},
        parameters=dict(rule.get("parameters") or {}),
        layers=(layers[0], layers[1]) if layers is not None else None,
        contains=rule.get("contains"),
    )


Check = tuple[str, Callable[[Any], bool], str]

_RULE_CHECKS: tuple[Check, ...] = (
    ("operator", lambda v: isinstance(v, str), "the name of a merge operator"),
    (
        "models",
        lambda v: isinstance(v, dict) and all(_are_parameters(p) for p in v.values()),
        "a mapping of source name to its parameters",
    ),
    ("parameters", lambda v: _are_parameters(v), "a mapping of plain values"),
    (
        "layers",
        lambda v: v is None or (isinstance(v, list) and [type(x) for x in v] == [int, int]),
        "[first, last + 1], two whole numbers",
    ),
    ("contains", lambda v: v is None or isinstance(v, str), "a part of tensor names"),
)
_TOP_CHECKS: tuple[Check, ...] = (
    ("recipe", lambda v: v == _VERSION, f"{_VERSION}, the format's version"),
    (
        "sources",
        lambda v: isinstance(v, dict) and all(_is_source(s) for s in v.values()),
        "a mapping of name to {model: folder or hub id}",
    ),
    ("rules", lambda v: isinstance(v, list) and bool(v), "a list of at least one rule"),
    ("base", lambda v: v is None or isinstance(v, str), "the name of a source"),
    ("seed", lambda v: isinstance(v, int), "a whole number"),
    ("dtype", lambda v: v is None or isinstance(v, str), "a dtype such as bfloat16"),
)


def _are_parameters(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return value is None or (
        isinstance(value, dict)
        and all(isinstance(v, int | float | bool | str) for v in value.values())
    )


def _is_source(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("model"), str)
    )


def _problems(plain: Any) -> list[str]:  # noqa: ANN401 - anything YAML can hold
    if not isinstance(plain, dict):
        return [f"expected a mapping with the keys {', '.join(_TOP)}, found {plain!r:.80}."]
    problems = _checked(plain, _TOP, _TOP_CHECKS, ("recipe", "sources", "rules"), "")
    rules = plain.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else [], 1):
        if isinstance(rule, dict):
            problems += _checked(
                rule, _RULE, _RULE_CHECKS, ("operator", "models"), f"rule {number}: "
            )
        else:
            problems.append(f"rule {number}: expected a mapping, found {rule!r:.80}.")
    return problems


def _checked(
    mapping: Mapping[str, Any],
    known: tuple[str, ...],
    checks: tuple[Check, ...],
    required: tuple[str, ...],
    where: str,
) -> list[str]:
    problems = [f"{where}{unknown('key', key, known)}." for key in mapping if key not in known]
    problems += [f"{where}{key!r} is missing." for key in required if key not in mapping]
    problems += [
        f"{where}{key!r} must be {expected}, found {mapping[key]!r:.80}."
        for key, fits, expected in checks
        if key in mapping and not fits(mapping[key])
    ]
    return problems
