"""The archive of M2N2: members compete for items, and mates attract by what they add.

Each item is worth 1 in all, shared by those that are good at it in proportion to their score,
so that rare skills are worth more than common ones. Raw scores are kept, and what they are
worth is worked out anew from the members that there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import Scored
from evomerge.optimizers.ranking import ranks

Content = TypeVar("Content")


@dataclass(frozen=True, eq=False)
class Member(Generic[Content]):
    """A candidate that the archive holds."""

    content: Content
    scored: Scored
    items: NDArray[np.float64]
    """Its scores in the archive's columns when it came; NaN where it has none."""


class Archive(Generic[Content]):
    """The best candidates by shared fitness, at most so many.

    Items of one objective are worth as much in all as those of any other. An item that a member
    has no score for counts as its mean over the objective's items. An objective without items
    is one item, scored by the rank of its loss. Infeasible members leave first, and are parents
    only while there are fewer than two feasible ones.

    Args:
        capacity: Most members.
        objectives: Losses of a scored candidate.
        alpha: How fully what an item is worth is shared, 0 … 1.
    """

    def __init__(self, capacity: int, objectives: int, alpha: float) -> None:
        self._capacity = capacity
        self._objectives = objectives
        self._alpha = alpha
        self._members: list[Member[Content]] = []
        self._columns: dict[str, int] = {}
        self._groups: list[int] = []  # the objective of each column

    def add(self, content: Content, scored: Scored) -> None:
        """Take a candidate in; if that is one too many, the least one leaves."""
        for name in scored.items:
            if name not in self._columns:
                self._columns[name] = len(self._columns)
                self._groups.append(self._group(name))
        items = np.full(len(self._columns), np.nan)
        for name, score in scored.items.items():
            items[self._columns[name]] = score
        self._members.append(Member(content, scored, items))
        if len(self._members) > self._capacity:
            self._members.pop(self._least())

    @property
    def parents(self) -> list[Member[Content]]:
        """Members that children may come from, the oldest first."""
        feasible = [member for member in self._members if member.scored.violation == 0]
        return feasible if len(feasible) > 1 else list(self._members)

    def worth(self) -> NDArray[np.float64]:
        """``(parents, items)``: what each gets of each item; row sums are shared fitness."""
        return self._worth(self.parents)

    def _worth(self, members: Sequence[Member[Content]]) -> NDArray[np.float64]:
        scores, groups = self._scores(members)
        whole = scores.sum(axis=0)
        # An item that nobody is good at is worth nothing, whatever it is divided by.
        shared = scores / np.where(whole > 0, whole, 1.0) * whole ** (1.0 - self._alpha)
        counts = np.bincount(groups, minlength=self._objectives)
        return np.asarray(shared / counts[groups])

    def _scores(
        self, members: Sequence[Member[Content]]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """``(members, items)`` scores without gaps, and the objective of each item."""
        scores = np.full((len(members), len(self._columns)), np.nan)
        for row, member in zip(scores, members, strict=True):
            row[: len(member.items)] = member.items
        scores = np.clip(scores, 0.0, None)  # shares of less than nothing make no sense
        scores = scores[:, (known := ~np.isnan(scores).all(axis=0))]
        groups = np.array(self._groups, dtype=np.int64)[known]
        added, outcomes = [], [member.scored for member in members]
        for number in range(self._objectives):
            own = np.flatnonzero(groups == number)
            if len(own):
                scores[:, own] = _filled(scores[:, own])
            else:
                placed = ranks(outcomes, [o.losses[number] for o in outcomes])
                added.append((number, 1.0 - np.array(placed) / len(members)))
        columns = [scores, *(column[:, None] for _, column in added)]
        return np.hstack(columns), np.array([*groups, *(n for n, _ in added)], dtype=np.int64)

    def _least(self) -> int:
        violations = [member.scored.violation for member in self._members]
        if max(violations) > 0:
            return int(np.argmax(violations))
        return int(np.argmin(self._worth(self._members).sum(axis=1)))

    def _group(self, name: str) -> int:
        """The objective that an item is for: the number before ``|``, else the first."""
        number = name.partition("|")[0]
        known = number.isascii() and number.isdecimal() and int(number) < self._objectives
        return int(number) if known else 0


def _filled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaps filled with the row's mean; 0 where a row has nothing else."""
    present = ~np.isnan(scores)
    counts = np.maximum(1, present.sum(axis=1, keepdims=True))
    means = np.where(present, scores, 0.0).sum(axis=1, keepdims=True) / counts
    return np.where(present, scores, means)
