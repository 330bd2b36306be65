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
    generation has no effect. While the last members are out, ``ask`` gives nothing.

    A subclass proposes and learns in the unit cube. It calls ``_begin`` at the end of its own
    ``__init__``.

    Args:
        genes: The genes, one column of the unit cube each.
        objectives: Losses a scored candidate has.
    """

    def __init__(self, genes: Sequence[Gene], objectives: int) -> None:
        self._genes = tuple(genes)
        self._candidates = OpenCandidates(objectives)
        self._outcomes: dict[int, Outcome] = {}
        self._generation: Units = np.empty((0, len(self._genes)))
        self._asked = 0
        self._number = -1
        self._finished: str | None = None

    @abstractmethod
    def _propose(self) -> Units:
        """The next generation, ``(n, genes)``; without rows the search is finished."""

    @abstractmethod
    def _learn(self, units: Units, outcomes: Sequence[Outcome]) -> None:
        """Learn from a whole generation: its rows as proposed, and the outcome of each."""

    @override
    def ask(self, count: int) -> list[Candidate]:
        rows = self._generation[self._asked : self._asked + max(0, count)]
        self._asked += len(rows)
        return [
            self._candidates.issue(genome_from_unit(self._genes, row), self._number)
            for row in rows.tolist()
        ]

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)
        self._outcomes.update(outcomes)
        if self._finished is None and len(self._outcomes) == len(self._generation):
            self._learn(
                self._generation, [self._outcomes[id_] for id_ in sorted(self._outcomes)]
            )
            self._begin()

    @property
    @override
    def finished(self) -> str | None:
        return self._finished

    def _begin(self) -> None:
        self._generation, self._asked, self._outcomes = self._propose(), 0, {}
        self._number += 1
        if not len(self._generation):
            self._finished = (
                "every genome that could be found has been proposed; the search space is small."
            )
