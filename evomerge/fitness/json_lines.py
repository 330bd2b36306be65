"""Files of one JSON object a line, and messages about what is wrong in which line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_SHOWN = 3
"""Lines named for each kind of problem."""


class LineProblems:
    """What is wrong in a file's lines: each kind of problem once, with its first lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: dict[str, list[tuple[int, str]]] = {}
        self._count: dict[str, int] = {}

    def add(self, line: int, reason: str, detail: str = "") -> None:
        """Note a problem.

        Args:
            line: Counted from 1.
            reason: The kind, the same words for every line that has it.
            detail: What is special to this line.
        """
        self._count[reason] = self._count.get(reason, 0) + 1
        if self._count[reason] <= _SHOWN:
            self._first.setdefault(reason, []).append((line, detail))

    def sentences(self) -> list[str]:
        """``file:line: what is wrong``, the number of lines told where there are more."""
        told = []
        for reason, examples in self._first.items():
            first, *others = [f"{n}{f' ({d})' if d else ''}" for n, d in examples]
            line, _, detail = first.partition(" ")
            more = self._count[reason] - len(examples)
            also = f" Also: line {', '.join(others)}" if others else ""
            also += f" and {more} more" if more else ""
            told.append(
                f"{self._path}:{line}: {reason}{f' {detail}' if detail else ''}."
                f"{also}{'.' if also else ''}"
            )
        return told

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._first)


def read_json_lines(
    path: Path, problems: LineProblems
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a UTF-8 file with their line numbers; empty lines do not count.

    A byte order mark is skipped. Lines that hold no JSON object go to ``problems``.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                value = json.loads(text) if text else {}
            except UnicodeDecodeError:
                problems.add(number, "not UTF-8 text; save the file as UTF-8")
                continue
            except json.JSONDecodeError as error:
                problems.add(
                    number, "not JSON", f"{error.msg.lower()} at character {error.colno}"
                )
                continue
            if not isinstance(value, dict):
                problems.add(number, "each line must be a JSON object {…}", f"{value!r:.40}")
            elif text:
                yield number, value
