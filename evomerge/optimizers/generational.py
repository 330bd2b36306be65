"""The ask/tell bookkeeping of optimizers that learn from several outcomes at a time."""

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from evomerge.core.outcomes import Candidate, Outcome
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.options import Parallel
from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import Gene, genome_from_unit


@dataclass(frozen=True, eq=False)
class Proposal:
    """A point that an optimizer proposes."""

    units: Units
    """``(genes,)`` in the unit cube."""

    note: object = None
    """What the optimizer wants to find again beside its outcome."""


Told = tuple[Proposal, Outcome]
"""A proposal and what came of it."""

_NOTHING_NEW = "every genome that could be found has been proposed; the search space is small."


@dataclass(frozen=True)
class _Place:
    """When a proposal was made."""

    proposal: Proposal
    generation: int
    known: int


class Generational(Optimizer):
    """Hands proposals out one by one, and learns from a whole block of outcomes at a time.

    A block is as long as the proposal before it: a population in generational methods, a
    single candidate in steady-state ones.

    Outcomes are learned from in the order of ids, so that neither the number of workers nor
    the order of arrival has an effect. While the last of a block are out, ``ask`` gives
    nothing, unless some are proposed ahead: the first proposal is larger by so many, and from
    then on each block is learned from while the last ``ahead`` proposed wait for the next one.
    So that many workers always have something to do, at the price of outcomes used later.

    Where it is ``asynchronous``, outcomes are learned from as they arrive, and ``ask`` always
    gives as many as it is asked for: no worker ever waits, but what is proposed depends on the
    order of arrival. A replay of the recorded order proposes the same.

    A subclass proposes and learns in the unit cube. It calls ``_begin`` at the end of its own
    ``__init__``.

    Args:
        genes: The genes, one column of the unit cube each.
        objectives: Losses a scored candidate has.
        parallel: How many are proposed ahead, or whether outcomes are used as they arrive.
    """

    def __init__(
        self, genes: Sequence[Gene], objectives: int, parallel: Parallel | None = None
    ) -> None:
        parallel = parallel or Parallel()
        self._genes = tuple(genes)
        self._candidates = OpenCandidates(objectives)
        self._ahead = parallel.ahead
        self._asynchronous = parallel.asynchronous
        self._waiting: deque[_Place] = deque()  # proposed, not asked for
        self._out: dict[int, Proposal] = {}  # asked for, not learned from
        self._outcomes: dict[int, Outcome] = {}  # not learned from, in the order of arrival
        self._told = _LowWater()
        self._issued = 0
        self._learned = 0
        self._block = 0  # outcomes that are learned from next
        self._first_block = 1
        self._number = -1  # of the generation proposed last
        self._finished: str | None = None

    @abstractmethod
    def _propose(self) -> list[Proposal]:
        """The next proposals; an empty list where there is nothing new left.

        It may be called twice without an outcome learned from in between.
        """

    @abstractmethod
    def _learn(self, told: Sequence[Told]) -> None:
        """Learn from a whole block of proposals and their outcomes.

        In order, those proposed ahead may rest on older knowledge than the rest of the block;
        asynchronously, any may.
        """

    @override
    def ask(self, count: int) -> list[Candidate]:
        asked: list[Candidate] = []
        while len(asked) < count:
            if not self._waiting and not (self._asynchronous and self._proposed_more()):
                break
            asked.append(self._issue(self._waiting.popleft()))
        return asked

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)
        for id_ in sorted(outcomes):
            self._outcomes[id_] = outcomes[id_]
            self._told.add(id_)
        while self._finished is None and self._block_is_told():
            ids = self._next_ids()
            told = [(self._out.pop(id_), self._outcomes.pop(id_)) for id_ in ids]
            self._learned += len(ids)
            self._learn(told)
            self._begin()

    @property
    @override
    def finished(self) -> str | None:
        return self._finished

    def _issue(self, place: _Place) -> Candidate:
        genome = genome_from_unit(self._genes, place.proposal.units.tolist())
        generation, known = place.generation, place.known
        if self._asynchronous:
            generation = self._issued // self._first_block
        self._out[self._issued] = place.proposal
        self._issued += 1
        return self._candidates.issue(genome, generation, known)

    def _block_is_told(self) -> bool:
        if self._asynchronous:
            return len(self._outcomes) >= self._block
        return all(id_ in self._outcomes for id_ in self._next_ids())

    def _next_ids(self) -> list[int]:
        """The ids that are learned from next."""
        if self._asynchronous:
            return list(self._outcomes)[: self._block]
        return list(range(self._learned, self._learned + self._block))

    def _begin(self) -> None:
        """Propose what the outcomes learned from so far suggest."""
        if self._asynchronous:
            self._waiting.clear()  # they rest on less than is known now
        fresh = self._propose()
        self._block = len(fresh)
        if self._number < 0:
            self._block = max(1, len(fresh) - self._ahead)
            self._first_block = self._block
        elif not fresh:
            self._block = len(self._out) + len(self._waiting)  # the last ones
        self._add(fresh)
        if not self._block:
            self._finished = _NOTHING_NEW

    def _proposed_more(self) -> bool:
        """Propose further ones from the same knowledge; tells whether there were any."""
        if self._finished is None:
            self._add(self._propose())
        return bool(self._waiting)

    def _add(self, fresh: Sequence[Proposal]) -> None:
        self._number += 1
        known = self._told.below if self._asynchronous else self._learned
        self._waiting.extend(_Place(p, self._number, known) for p in fresh)


class _LowWater:
    """The first id that has not been added, of ids added in any order."""

    def __init__(self) -> None:
        self.below = 0
        self._above: set[int] = set()

    def add(self, id_: int) -> None:
        self._above.add(id_)
        while self.below in self._above:
            self._above.remove(self.below)
            self.below += 1
