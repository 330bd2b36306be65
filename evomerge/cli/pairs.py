"""``NAME=VALUE`` arguments."""

from collections.abc import Sequence

from evomerge.core.errors import ConfigError


def named_pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """A mapping from ``NAME=VALUE`` strings.

    Raises:
        ConfigError: One has no name or value, or a name stands twice.
    """
    pairs: dict[str, str] = {}
    problems = []
    for text in given:
        name, _, value = text.partition("=")
        if not name or not value:
            problems.append(f"{option} {text}: expected NAME=PLACE, e.g. math=./folder.")
        elif name in pairs:
            problems.append(f"{option} {text}: the name {name!r} is given twice.")
        pairs[name] = value
    if problems:
        raise ConfigError(problems)
    return pairs
