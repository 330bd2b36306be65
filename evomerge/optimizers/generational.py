"""The ask/tell bookkeeping of optimizers that learn from whole generations."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from typing_extensions import override

from evomerge.core.outcomes import Candidate, Outcome
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import Gene, genome_from_unit


class Generational(Optimizer):
    """Hands a generation out one by one and makes the next once all of it is told.

    What is told is learned from in the order of ids, so that the order of arrival within a
    generation has no effect. While the last members are out, ``ask`` gives nothing, unless
    some are proposed ahead: the first proposal is larger by so many, and from then on each
    generation is learned from while the last ``ahead`` proposed wait for the next one. So that
    many workers always have something to do, at the price of outcomes used later, and what is
    proposed is still the same for any number of workers.

    A subclass proposes and learns in the unit cube. It calls ``_begin`` at the end of its own
    ``__init__``.

    Args:
        genes: The genes, one column of the unit cube each.
        objectives: Losses a scored candidate has.
        ahead: Rows by which the first proposal exceeds a generation.
    """

    def __init__(self, genes: Sequence[Gene], objectives: int, ahead: int = 0) -> None:
        self._genes = tuple(genes)
        self._candidates = OpenCandidates(objectives)
        self._ahead = ahead
        self._outcomes: dict[int, Outcome] = {}
        self._rows: Units = np.empty((0, len(self._genes)))  # not learned from yet
        self._known = 0  # id of the first of them
        self._block = 0  # of the generation that is learned from next
        self._origins: list[tuple[int, int]] = []  # of each row: generation, what was known
        self._asked = 0  # how many of the rows
        self._number = -1
        self._finished: str | None = None

    @abstractmethod
    def _propose(self) -> Units:
        """The next generation, ``(n, genes)``; without rows there is nothing new left."""

    @abstractmethod
    def _learn(self, units: Units, outcomes: Sequence[Outcome]) -> None:
        """Learn from a whole generation: its rows as proposed, and the outcome of each."""

    @override
    def ask(self, count: int) -> list[Candidate]:
        first, last = self._asked, min(self._asked + max(0, count), len(self._rows))
        self._asked = last
        return [
            self._candidates.issue(
                genome_from_unit(self._genes, self._rows[k].tolist()), *self._origins[k]
            )
            for k in range(first, last)
        ]

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)
        self._outcomes.update(outcomes)
        while self._finished is None and all(id_ in self._outcomes for id_ in self._next()):
            told = [self._outcomes.pop(id_) for id_ in self._next()]
            self._learn(self._rows[: self._block], told)
            self._rows, self._origins = self._rows[self._block :], self._origins[self._block :]
            self._asked -= self._block
            self._known += self._block
            self._begin()

    @property
    @override
    def finished(self) -> str | None:
        return self._finished

    def _next(self) -> range:
        """The ids that are learned from next."""
        return range(self._known, self._known + self._block)

    def _begin(self) -> None:
        fresh = self._propose()
        self._number += 1
        self._block = len(fresh)
        if self._number == 0:
            self._block = max(1, len(fresh) - self._ahead)
        elif not len(fresh):
            self._block = len(self._rows)  # the last ones, proposed ahead
        self._rows = np.concatenate([self._rows, fresh])
        self._origins += [(self._number, self._known)] * len(fresh)
        if not len(self._rows):
            self._finished = (
                "every genome that could be found has been proposed; the search space is small."
            )
