"""Recipes as YAML files: what ``evomerge merge`` reads and every report writes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.model_spelling import map_parts
from evomerge.core.near_names import unknown
from evomerge.core.recipe import (
    Recipe,
    Rule,
    Source,
    name_parts,
    parameters_of,
    slices_of,
)
from evomerge.recipes.yaml_text import YamlError, dump_yaml, load_yaml

_VERSION = 1


def recipe_to_yaml(recipe: Recipe, comment: str = "") -> str:
    """The recipe as YAML text, with an optional comment on top.

    Reading it back gives an equal recipe with an equal digest.
    """
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + dump_yaml(recipe.to_plain())


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
        plain = load_yaml(text)
    except YamlError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}.") from error
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
            slices=slices_of(plain.get("slices")),
            tokenizer=plain.get("tokenizer"),
        )
    except ConfigError as error:
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from error


def placed(model: str, folder: Path) -> str:
    """A model, and any adapter over it, from a folder on where it lies there."""

    def place(part: str) -> str:
        there = folder / part
        return str(there.resolve()) if not Path(part).is_absolute() and there.is_dir() else part

    return map_parts(model, place)


def _source(name: str, value: str | Mapping[str, Any], folder: Path | None) -> Source:
    given: Mapping[str, Any] = {"model": value} if isinstance(value, str) else value
    model = given["model"] if folder is None else placed(given["model"], folder)
    statistics = given.get("statistics")
    if folder is not None and statistics is not None and (folder / statistics).exists():
        statistics = str((folder / statistics).resolve())
    return Source(
        name, model, given.get("fingerprint"), statistics, given.get("statistics_fingerprint")
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    layers = rule.get("layers")
    return Rule(
        operator=rule["operator"],
        models={name: parameters_of(own) for name, own in rule["models"].items()},
        parameters=parameters_of(rule.get("parameters")),
        layers=(layers[0], layers[1]) if layers is not None else None,
        contains=name_parts(rule.get("contains")),
        scale=rule.get("scale", 1.0),
    )


@dataclass(frozen=True)
class _Key:
    """A key that a mapping may have, and what its value must be."""

    name: str
    fits: Callable[[Any], bool]
    expected: str
    required: bool = False


def _is_text(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return isinstance(value, str) and bool(value)


def _is_text_or_none(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return value is None or _is_text(value)


def _is_whole(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return isinstance(value, int) and not isinstance(value, bool)


def _is_layer_range(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(map(_is_whole, value))
        and 0 <= value[0] < value[1]
    )


def _is_layer_range_or_none(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return value is None or _is_layer_range(value)


def _are_parts(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return _is_text_or_none(value) or (
        isinstance(value, list) and bool(value) and all(map(_is_text, value))
    )


def _are_slices(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return value is None or (
        isinstance(value, list)
        and all(
            isinstance(part, dict)
            and bool(part)
            and all(map(_is_text, part))
            and all(map(_is_layer_range, part.values()))
            for part in value
        )
    )


def _are_parameters(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return value is None or (
        isinstance(value, dict)
        and all(map(_is_text, value))
        and all(isinstance(v, bool | str) or _is_number_or_several(v) for v in value.values())
    )


def _is_number_or_several(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    if isinstance(value, list):
        return all(map(_is_number, value))
    return _is_number(value)


def _is_number(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _are_models(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return (
        isinstance(value, dict)
        and all(map(_is_text, value))
        and all(map(_are_parameters, value.values()))
    )


_TOP = (
    _Key(
        "recipe",
        lambda v: _is_whole(v) and v == _VERSION,
        f"{_VERSION}, the format's version",
        required=True,
    ),
    _Key("base", _is_text_or_none, "the name of a source"),
    _Key(
        "sources",
        lambda v: isinstance(v, dict) and all(map(_is_text, v)),
        "a mapping of name to {model: folder or hub id}",
        required=True,
    ),
    _Key("seed", _is_whole, "a whole number"),
    _Key("dtype", _is_text_or_none, "a dtype such as bfloat16"),
    _Key("tokenizer", _is_text_or_none, "'union' or the name of a source"),
    _Key(
        "slices",
        _are_slices,
        "a list of mappings of source name to its layers, [first, last + 1]",
    ),
    _Key(
        "rules",
        lambda v: isinstance(v, list) and bool(v),
        "a list of at least one rule",
        required=True,
    ),
)
_SOURCE = (
    _Key("model", _is_text, "a folder or hub id", required=True),
    _Key("fingerprint", _is_text_or_none, "the identity of the weights"),
    _Key("statistics", _is_text_or_none, "a statistics file or a folder of them"),
    _Key("statistics_fingerprint", _is_text_or_none, "the identity of the statistics"),
)
_RULE = (
    _Key("operator", _is_text, "the name of a merge operator", required=True),
    _Key("layers", _is_layer_range_or_none, "[first, last + 1], two whole numbers"),
    _Key("contains", _are_parts, "a part of tensor names, or a list of parts"),
    _Key("scale", lambda v: _is_number(v) and v > 0, "a finite number above 0"),
    _Key("parameters", _are_parameters, "a mapping of name to a plain, finite value"),
    _Key(
        "models",
        _are_models,
        "a mapping of source name to its parameters, plain and finite",
        required=True,
    ),
)


def _problems(plain: Any) -> list[str]:  # noqa: ANN401 - anything YAML can hold
    if isinstance(plain, dict) and "merge_method" in plain:
        return ["this is a mergekit configuration; 'evomerge recipe' turns it into a recipe."]
    problems = _key_problems(plain, _TOP, "")
    if not isinstance(plain, dict):
        return problems
    sources, rules = plain.get("sources"), plain.get("rules")
    for name, source in sources.items() if isinstance(sources, dict) else ():
        if not _is_text(source):
            problems += _key_problems(source, _SOURCE, f"source {name!r}: ")
    for number, rule in enumerate(rules if isinstance(rules, list) else [], 1):
        problems += _key_problems(rule, _RULE, f"rule {number}: ")
    return problems


def _key_problems(mapping: Any, keys: tuple[_Key, ...], where: str) -> list[str]:  # noqa: ANN401
    names = [key.name for key in keys]
    if not isinstance(mapping, dict):
        listed = ", ".join(names)
        return [f"{where}expected a mapping with the keys {listed}; found {mapping!r:.80}."]
    problems = [
        f"{where}{unknown('key', name, names)}." for name in mapping if name not in names
    ]
    for key in keys:
        if key.name not in mapping:
            problems += [f"{where}{key.name!r} is missing."] if key.required else []
        elif not key.fits(mapping[key.name]):
            found = f"found {mapping[key.name]!r:.80}"
            problems.append(f"{where}{key.name!r} must be {key.expected}; {found}.")
    return problems
