"""YAML files read safely, with the line of every key kept for error messages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evomerge.core.errors import ConfigError

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers such as ``1e-3`` read as YAML 1.2 reads them."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass
class YamlFile:
    """A parsed YAML mapping that knows where each key stands."""

    path: str
    """What messages call the file."""

    data: dict[str, Any]
    lines: dict[Path_, int] = field(default_factory=dict)
    """Line number, from 1, by key path."""

    def where(self, location: Sequence[str | int]) -> str:
        """``file:line`` of the deepest known part of a key path."""
        key = tuple(location)
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
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        file = YamlFile(path, {})
        problems: list[str] = []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: expected a mapping of keys to values at the top level.")
        _note_lines(node, (), file, problems)
        if problems:
            raise ConfigError(problems)
        file.data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}.") from error
    finally:
        loader.dispose()
    return file


def _note_lines(node: yaml.Node, at: Path_, file: YamlFile, problems: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                problems.append(f"{file.path}:{line}: the key {name!r} stands twice.")
            seen.add(name)
            file.lines[(*at, name)] = line
            _note_lines(value, (*at, name), file, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            file.lines[(*at, index)] = value.start_mark.line + 1
            _note_lines(value, (*at, index), file, problems)


def override(data: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """A copy of nested mappings with one key set.

    Args:
        data: What to change.
        assignment: ``a.b.c=value``; the value is read as YAML.

    Raises:
        ConfigError: No ``=``, or a part of the path is not a mapping.
    """
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"-o {assignment}: expected key.path=value.")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"-o {assignment}: the value is not valid YAML.") from error
    changed = dict(data)
    here = changed
    *parents, last = dotted.split(".")
    for part in parents:
        below = here.get(part, {})
        if not isinstance(below, Mapping):
            raise ConfigError(
                f"-o {assignment}: {part!r} holds {below!r:.60}, so nothing is below it."
            )
        here[part] = dict(below)
        here = here[part]
    here[last] = value
    return changed
