"""Unknown names answered with the nearest known one."""

import difflib
from collections.abc import Iterable


def unknown(
    kind: str, name: object, known: Iterable[str], listed: Iterable[str] | None = None
) -> str:
    """A sentence such as ``unknown operator 'tise'; did you mean 'ties'? known: …``.

    Args:
        kind: What the name is of.
        name: The unknown name.
        known: The names among which the nearest is looked for.
        listed: The names to list; None lists the known ones.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = names if listed is None else list(listed)
    if not shown:
        return f"unknown {kind} {name!r}; there are none"
    known_ones = ", ".join(shown[:20]) + (" …" if len(shown) > 20 else "")
    return f"unknown {kind} {name!r}; {hint}known: {known_ones}"
