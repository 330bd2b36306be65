"""The Optimizer contract: ask for candidates, tell what came of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from evomerge.core.outcomes import Candidate, Outcome


class Optimizer(ABC):
    """Proposes genomes and learns from their outcomes.

    Any number of candidates may be open at once. Outcomes are told by candidate id, in any
    order and in batches of any size, failures included. A failed candidate ranks behind every
    scored one, and a scored one that misses a constraint behind all that miss none. An
    optimizer never sees models, draws only from the random stream of the seed it was given,
    and leaves the global generators of python, numpy and torch as they were.

    Given the same seed, the same sequence of ``ask`` and ``tell`` calls gives the same genomes
    in every process. Search resumes by replaying that sequence.
    """

    learns_from_items: ClassVar[bool] = False
    """Whether outcomes must come with the scores of single items."""

    @abstractmethod
    def ask(self, count: int) -> list[Candidate]:
        """Up to ``count`` new candidates, ids counting up from 0 over the whole search.

        Fewer, or none, come back while the optimizer waits for outcomes of open candidates;
        with nothing open at least one comes back, unless the optimizer is ``finished``.
        """

    @abstractmethod
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Learn outcomes by candidate id.

        Raises:
            KeyError: An id was never asked, or is told a second time.
        """

    @property
    def finished(self) -> str | None:
        """Why the optimizer has nothing more to propose, or None while it goes on."""
        return None
