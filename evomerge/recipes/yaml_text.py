"""YAML as every file of evomerge is read and written: plain values, read the YAML 1.2 way."""

import re
from typing import Any

import yaml

_PLAIN_SCALARS: tuple[tuple[str, str, list[str] | None], ...] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^<<$", ["<"]),
)
_CONSTRUCTED = ("null", "bool", "int", "float", "str", "seq", "map")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader without the surprises of YAML 1.1.

    ``1e-3`` is a number; ``no``, ``on``, dates and ``12:30`` are text (an expert may be named
    ``no``); a key that stands twice is an error. Other types than plain ones are refused.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    yaml_constructors = {  # noqa: RUF012 - PyYAML's own way
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _CONSTRUCTED
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401
        """A mapping, unless a key stands twice in it."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return node


# In C where PyYAML was built with it: the recipes of a front are many.
_DUMPER: type[yaml.SafeDumper] = type(
    "_Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {}
)

for _tag, _pattern, _first in _PLAIN_SCALARS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
# So that text which only Loader takes for a number, such as 1e3, is quoted too.
_DUMPER.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(_PLAIN_SCALARS[2][1]), _PLAIN_SCALARS[2][2]
)


class YamlError(ValueError):
    """A text is not YAML as evomerge takes it.

    Args:
        reason: What is wrong, in one line.
        line: Where, from 1, if known.
    """

    def __init__(self, reason: str, line: int | None) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason if line is None else f"line {line}: {reason}")


def load_yaml(text: str) -> Any:  # noqa: ANN401 - anything YAML can hold
    """The value of a YAML text.

    Raises:
        YamlError: Not YAML, or a key stands twice.
    """
    return load_yaml_with_nodes(text)[0]


def load_yaml_with_nodes(text: str) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and the nodes it was made of, which know their lines.

    Raises:
        YamlError: Not YAML, or a key stands twice.
    """
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(str(error.problem), line) from error
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
    ) as error:  # e.g. control characters, !!int x
        raise YamlError(" ".join(str(error).split()), None) from error


def dump_yaml(value: object) -> str:
    """Plain values as YAML text, in their own order; ``load_yaml`` gives them back."""
    return yaml.dump(
        value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


def yaml_scalar(text: str) -> str:
    """A string of one line as it may stand anywhere in YAML, flow lists and keys included."""
    listed = yaml.dump(
        [text], Dumper=_DUMPER, default_flow_style=True, allow_unicode=True, width=1_000_000
    )
    return listed.strip()[1:-1]
