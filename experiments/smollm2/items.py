"""Defines a question with its choices, and draws splits that share no text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RUN_OF_WORDS = 8
"""Two texts with this many words in a row in common count as the same text."""


@dataclass(frozen=True)
class Item:
    """One question.

    A training item may carry its answer as the only choice.
    """

    id: str
    context: str
    """What the model reads; the answer follows after one space."""

    choices: tuple[str, ...]
    label: int

    @property
    def answer(self) -> str:
        """The right choice."""
        return self.choices[self.label]


@dataclass(frozen=True)
class Splits:
    """The items of one task; no text occurs in two of the splits."""

    train: tuple[Item, ...]
    search: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]


@dataclass(frozen=True)
class Sizes:
    """How many items each evaluation split gets; training takes from the rest."""

    search: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        """Items in all three."""
        return self.search + self.validation + self.test


def fingerprints(text: str) -> frozenset[str]:
    """All runs of eight words of a text, or the whole text where it is shorter.

    Case, punctuation and spacing do not count.
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    last = max(1, len(words) - RUN_OF_WORDS + 1)
    return frozenset(" ".join(words[at : at + RUN_OF_WORDS]) for at in range(last))


class SeenTexts:
    """Remembers texts and tells whether a new one repeats a part of them."""

    def __init__(self) -> None:
        self._runs: set[str] = set()

    def is_new(self, fields: Iterable[str]) -> bool:
        """Whether no field repeats anything seen; if so, remember all of them.

        Args:
            fields: The texts of one item, for example title and description.
        """
        runs = frozenset().union(*(fingerprints(field) for field in fields))
        if runs & self._runs:
            return False
        self._runs |= runs
        return True


def cut(items: Sequence[Item], sizes: Sizes) -> tuple[tuple[Item, ...], ...]:
    """Cut shuffled items into search, validation, test and what is left over.

    Raises:
        ValueError: There are too few items.
    """
    if len(items) < sizes.total:
        raise ValueError(f"{sizes.total} items are needed, only {len(items)} are left.")
    first, second = sizes.search, sizes.search + sizes.validation
    return (
        tuple(items[:first]),
        tuple(items[first:second]),
        tuple(items[second : sizes.total]),
        tuple(items[sizes.total :]),
    )
