"""Ladders: which items a candidate has to answer, rung by rung."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from evomerge.core.responses import Items, Responses


class Ladder(Protocol):
    """Items in rungs; each rung holds the items of those below it and more.

    A candidate climbs until it is eliminated or has answered the last rung.
    """

    @property
    def rungs(self) -> int:
        """How many rungs there are, at least 1."""

    def items(self, rung: int, answered: Responses, generation: int = 0) -> Items:
        """Every item that is answered once a rung is done.

        Args:
            rung: From 0 to ``rungs`` - 1.
            answered: The candidate's answers, at least to the items of the rung below; what
                else it holds has no effect.
            generation: The candidate's, from 0.
        """


@dataclass(frozen=True)
class FixedLadder:
    """The same items for every candidate, whatever it answers."""

    steps: tuple[Items, ...]
    """All items of each rung, the lower ones' included."""

    @property
    def rungs(self) -> int:
        """One rung a step."""
        return len(self.steps)

    def items(self, rung: int, answered: Responses, generation: int = 0) -> Items:  # noqa: ARG002
        """The items of a rung."""
        return self.steps[rung]


@dataclass(frozen=True)
class RotatingLadder:
    """Each generation answers other items, so that a search cannot adapt to a few of them.

    Candidates of one generation answer the same items and can be compared; over generations
    every item of the bank has its turn.
    """

    orders: Mapping[str, tuple[int, ...]]
    """By task, the bank's items in the order of their turns."""

    counts: Mapping[str, tuple[int, ...]]
    """By task, how many items each rung holds."""

    @property
    def rungs(self) -> int:
        """As many as every task has counts."""
        return len(next(iter(self.counts.values())))

    def items(self, rung: int, answered: Responses, generation: int = 0) -> Items:  # noqa: ARG002
        """The items of a rung: a stretch of each task's order, which begins anew at its end."""
        chosen = {}
        for task, order in self.orders.items():
            counts = self.counts[task]
            start = generation * counts[0] % len(order)
            around = (*order[start:], *order[:start])
            chosen[task] = tuple(sorted(around[: counts[rung]]))
        return chosen
