"""YAML files read safely, with the line of every key kept for error messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evomerge.core.errors import ConfigError
from evomerge.recipes.yaml_text import YamlError, load_yaml, load_yaml_with_nodes

KeyPath = tuple[str, ...]
"""Keys from the top level down; places in lists as text, from 0."""


@dataclass(frozen=True)
class YamlFile:
    """A parsed YAML mapping that knows where each key stands."""

    path: str
    """What messages call the file."""

    data: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Line number, from 1, by key path."""

    def where(self, location: Sequence[str | int]) -> str:
        """``file:line`` of the deepest known part of a key path, or just the file."""
        key = tuple(map(str, location))
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key else self.path


def read_yaml(path: Path) -> YamlFile:
    """A YAML file whose top level is a mapping.

    Raises:
        ConfigError: Unreadable, not YAML, no mapping, or a key stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str) -> YamlFile:
    """YAML text whose top level is a mapping.

    Raises:
        ConfigError: Not YAML, no mapping, or a key stands twice.
    """
    try:
        data, node = load_yaml_with_nodes(text)
    except YamlError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise ConfigError(f"{place}: not valid YAML: {error.reason}.") from error
    if node is None or not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values at the top level.")
    return YamlFile(path, data, dict(_lines(node)))


def _lines(root: yaml.Node) -> list[tuple[KeyPath, int]]:
    """Line by key path; what an alias repeats has none, since its anchor's would mislead."""
    lines: list[tuple[KeyPath, int]] = []
    waiting: list[tuple[KeyPath, yaml.Node]] = [((), root)]
    seen: set[int] = set()
    while waiting:
        at, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            entries = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            entries = [(str(number), value, value) for number, value in enumerate(node.value)]
        else:
            continue
        lines += [((*at, name), marked.start_mark.line + 1) for name, marked, _ in entries]
        waiting += [((*at, name), value) for name, _, value in reversed(entries)]
    return lines


@dataclass(frozen=True)
class Override:
    """A ``key.path=value`` assignment that wins over a file."""

    text: str
    """As it was given."""

    path: KeyPath
    value: Any
    """Read as YAML."""

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"-o {self.text}"


def parse_override(text: str) -> Override:
    """A ``key.path=value`` assignment; the value is YAML, places in lists count from 0.

    Raises:
        ConfigError: No ``=`` or no key, or the value is not YAML.
    """
    dotted, equals, given = text.partition("=")
    path = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(path):
        raise ConfigError(f"-o {text}: expected key.path=value.")
    try:
        return Override(text, path, load_yaml(given))
    except YamlError as error:
        raise ConfigError(f"-o {text}: the value is not valid YAML: {error}.") from error


def override(data: Mapping[str, Any], change: Override) -> dict[str, Any]:
    """A copy of nested mappings and lists with one value set; missing mappings are made.

    Raises:
        ConfigError: The path goes below a plain value, or beyond a list.
    """
    changed: dict[str, Any] = _changed(data, change, 0)
    return changed


def _changed(node: Any, change: Override, depth: int) -> Any:  # noqa: ANN401 - any YAML value
    if depth == len(change.path):
        return change.value
    key = change.path[depth]
    if node is None or isinstance(node, Mapping):
        below = dict(node or {})
        return below | {key: _changed(below.get(key), change, depth + 1)}
    if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
        below_list = list(node)
        below_list[int(key)] = _changed(node[int(key)], change, depth + 1)
        return below_list
    parent = ".".join(change.path[:depth])
    raise ConfigError(f"{change.shown}: {parent} holds {node!r:.60}, in which is no {key!r}.")
