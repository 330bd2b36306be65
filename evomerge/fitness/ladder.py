"""Ladders: which items a candidate has to answer, rung by rung."""

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

    def items(self, rung: int, answered: Responses) -> Items:
        """Every item that is answered once a rung is done.

        Args:
            rung: From 0 to ``rungs`` - 1.
            answered: The candidate's answers, at least to the items of the rung below; what
                else it holds has no effect.
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

    def items(self, rung: int, answered: Responses) -> Items:  # noqa: ARG002 - as asked for
        """The items of a rung."""
        return self.steps[rung]
