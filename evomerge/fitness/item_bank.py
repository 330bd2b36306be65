"""ItemBank: all items of one task, numbered and divided into search, validation and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown

SPLITS = ("search", "validation", "test")
"""What a search may look at, what it may tune itself on, and what nothing may touch."""

SHARES = (0.5, 0.2, 0.3)
"""Shares of search, validation and test where a task brings no such splits of its own."""

_FEWEST = 2

_SHOWN = 3
"""Examples named in a message."""


@dataclass(frozen=True)
class ItemBank:
    """The items 0 … count-1 of a task.

    Raises:
        ValueError: The splits share an item, or do not hold every item exactly once.
    """

    task: str

    version: str
    """Digest of the task's configuration and of every document; equal versions of a task
    ask the same questions under the same item numbers."""

    count: int

    splits: Mapping[str, tuple[int, ...]]
    """Sorted items of ``search``, ``validation`` and ``test``."""

    overlap: tuple[str, ...] = ()
    """One sentence for each pair of splits in which equal documents appear."""

    whole: bool = False
    """Whether the task has one score for all items of a split, so that these are stand-ins
    that are only ever asked together."""

    def __post_init__(self) -> None:
        """Refuse splits that share or lose items."""
        held = sorted(item for name in SPLITS for item in self.splits[name])
        if held != list(range(self.count)):
            raise ValueError(
                f"task {self.task}: the splits must hold each of {self.count} items once, "
                f"they hold {len(held)} ({len(set(held))} different)"
            )

    def items(self, split: str) -> tuple[int, ...]:
        """The sorted items of a split.

        Raises:
            ConfigError: No such split.
        """
        if split not in self.splits:
            raise ConfigError(f"task {self.task}: {unknown('split', split, SPLITS)}")
        return self.splits[split]

    def split_of(self, item: int) -> str:
        """The split that holds an item.

        Raises:
            KeyError: No such item.
        """
        for name in SPLITS:
            if item in self.splits[name]:
                return name
        raise KeyError(f"task {self.task} has items 0 to {self.count - 1}, not {item}")


def choose(
    bank: ItemBank, split: str, count: int | None, rng: np.random.Generator
) -> tuple[int, ...]:
    """Items drawn from a split without replacement, sorted.

    Args:
        bank: Where to draw from.
        split: ``search``, ``validation`` or ``test``.
        count: How many; None takes all and draws nothing, as does a bank that is whole.
        rng: Decides which.

    Raises:
        ConfigError: No such split, or it does not hold that many items.
    """
    items = bank.items(split)
    if len(items) < _FEWEST:
        raise ConfigError(
            f"task {bank.task}: the {split} split has {len(items)} items; a score with a "
            f"standard error needs at least {_FEWEST}."
        )
    if count is None or bank.whole:
        return items
    if not 1 <= count <= len(items):
        raise ConfigError(
            f"task {bank.task}: {count} items asked of the {split} split, which has "
            f"{len(items)}; ask for 1 to {len(items)}, or leave the number out to take all."
        )
    return tuple(sorted(int(i) for i in rng.choice(items, size=count, replace=False)))


def divide(
    contents: Sequence[str], rng: np.random.Generator, shares: Sequence[float] = SHARES
) -> dict[str, tuple[int, ...]]:
    """Divide items at random into search, validation and test.

    Items of equal content stay together, so that no split shows another's documents.

    Args:
        contents: One content digest an item.
        rng: Decides the division.
        shares: Shares of the three splits; the last takes what rounding leaves.
    """
    copies: dict[str, list[int]] = {}
    for item, content in enumerate(contents):
        copies.setdefault(content, []).append(item)
    groups = list(copies.values())
    order = [item for k in rng.permutation(len(groups)) for item in groups[k]]
    cuts = [0, *(round(float(c) * len(order)) for c in np.cumsum(shares)[:-1]), len(order)]
    for k in range(1, len(cuts) - 1):  # a cut moves on to where a group of copies ends
        cuts[k] = max(cuts[k - 1], cuts[k])
        while 0 < cuts[k] < len(order) and (
            contents[order[cuts[k] - 1]] == contents[order[cuts[k]]]
        ):
            cuts[k] += 1
    return {
        name: tuple(sorted(order[start:end]))
        for name, start, end in zip(SPLITS, cuts[:-1], cuts[1:], strict=True)
    }


def overlaps(
    task: str, splits: Mapping[str, Sequence[int]], contents: Sequence[str]
) -> tuple[str, ...]:
    """One sentence for each pair of splits that hold documents of equal content."""
    problems = []
    first_item = {
        name: {contents[item]: item for item in reversed(splits[name])} for name in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        shared = [
            f"{item} = {first_item[other][content]}"
            for content, item in first_item[one].items()
            if content in first_item[other]
        ]
        if shared:
            examples = ", ".join(shared[:_SHOWN]) + (" …" if len(shared) > _SHOWN else "")
            problems.append(
                f"task {task}: {len(shared)} documents of the {one} split are also in the "
                f"{other} split (items {examples}); scores on {other} are too good."
            )
    return tuple(problems)
