"""Unknown names answered with the nearest known one."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """A sentence such as ``unknown operator 'tise'; did you mean 'ties'? known: …``."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    return f"unknown {kind} {name!r}; {hint}known: {listed}"
