"""PrefixStates: hidden states of the first layers that candidates have in common.

A trie for each batch of rows: its edges are layers, and a node is the hidden state after the
layers on the way to it. It is kept flat, by a key for each way from the root, and within a
limit of bytes.
"""

import hashlib
import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

State = TypeVar("State")

_FRESH = 2
"""Candidates, the present one included, whose batches are taken for those to come."""

_PATHS = 2
"""Candidates whose states a batch should have room for at once: where they do not fit as they
are, only every second or third layer's states are kept."""

_PATIENCE = 16
"""Candidates in a row that share no layer with any before them, after which none is expected
to and nothing is kept until one does."""

_RECENT, _FEWEST = 24, 8
"""Candidates whose common layers tell how deep those of the next may go, once there are as many
as the second number; before that, any depth is expected."""

_KEYS_KNOWN = 50_000
"""Ways from the root that are remembered without a state, to see whether any is taken twice."""


@dataclass(frozen=True)
class SharingStatistics:
    """How much work was shared so far."""

    asked: int = 0
    """Layers that candidates put batches through, one for each layer and batch."""

    run: int = 0
    """Those that were computed; comparing shared with whole passes counts here as well."""

    held: int = 0
    """Bytes of states now in memory."""

    most_held: int = 0
    """The most bytes at any time."""

    @property
    def saved(self) -> float:
        """Share of the layers asked for that was not computed."""
        return 1 - self.run / self.asked if self.asked else 0.0


@dataclass
class _Batch(Generic[State]):
    size: int
    """Bytes of one state; the same after every layer."""

    used: int
    """The candidate that last asked for the batch."""

    states: OrderedDict[bytes, State] = field(default_factory=OrderedDict)
    """By key; the least recently used first and, of one path, the deepest first."""


class PrefixStates(Generic[State]):
    """Hidden states by batch and path of layers, up to a limit of bytes.

    Room is made by giving up batches that candidates no longer ask for; then, in the batch
    with the most states, the path that was not used for longest, from its deepest layer on.

    Args:
        limit: Most bytes held; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._batches: dict[str, _Batch[State]] = {}
        self._fresh_bytes = 0  # of one state of each fresh batch
        self._ranks: list[tuple[tuple[int, int], str]] | None = None  # a heap, with old ranks
        self._path: list[bytes] = []
        self._candidate = 0
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._fruitless = 0
        self._common: deque[int] = deque(maxlen=_RECENT)
        self._statistics = SharingStatistics()

    @property
    def statistics(self) -> SharingStatistics:
        """Since the beginning."""
        return self._statistics

    @property
    def promising(self) -> bool:
        """Whether candidates are expected to share layers; if not, nothing is kept."""
        return self._fruitless < _PATIENCE

    def begin(self, before: str, layers: Sequence[str]) -> None:
        """Take this candidate for the one that is scored from now on.

        Args:
            before: Identity of what is computed before the first layer.
            layers: Identity of each layer, from the first on.
        """
        self._path = _keys(before, layers)
        self._candidate += 1
        self._ranks = None
        self._fresh_bytes = sum(b.size for b in self._batches.values() if self._fresh(b))
        if self._path[-1] in self._known:
            return  # asked again, which says nothing of candidates to come
        known = [key in self._known for key in self._path[1:]] or [False]
        self._common.append(known.index(False))
        if known[0]:
            self._fruitless = 0
        else:
            self._fruitless += 1
            if self._fruitless == _PATIENCE:
                self.clear()
        self._known.update(dict.fromkeys(self._path))
        while len(self._known) > _KEYS_KNOWN:
            self._known.popitem(last=False)

    def longest(self, batch: str) -> tuple[int, State | None]:
        """The state after as many of the candidate's first layers as possible.

        Returns:
            How many layers, and the state; 0 and None where none is known.
        """
        known = self.depths(batch)
        return (known[-1], self.state(batch, known[-1])) if known else (0, None)

    def depths(self, batch: str) -> list[int]:
        """After how many of the candidate's layers a state is known, ascending."""
        found = self._batches.get(batch)
        if found is None:
            return []
        self.touch(batch)
        return [d for d, key in enumerate(self._path) if d and key in found.states]

    def state(self, batch: str, depth: int) -> State:
        """The state after so many of the candidate's layers.

        Raises:
            KeyError: It is not known.
        """
        return self._batches[batch].states[self._path[depth]]

    def has(self, batch: str, depth: int) -> bool:
        """Whether the state after so many of the candidate's layers is known."""
        found = self._batches.get(batch)
        return found is not None and self._path[depth] in found.states

    def wants(self, batch: str, depth: int, size: int) -> bool:
        """Whether a state after so many layers would be kept.

        Args:
            batch: Identity of the batch.
            depth: Layers passed.
            size: Bytes of the state.
        """
        if not self.promising or size > self.limit or not size:
            return False
        if self.has(batch, depth):
            return False
        own = self._batches.get(batch)
        others = self._fresh_bytes - (own.size if own is not None and self._fresh(own) else 0)
        room = self.limit // (size + others)
        deepest = len(self._path) - 1
        if len(self._common) >= _FEWEST:
            deepest = min(deepest, max(self._common) + 1)
        stride = 1  # doubled, so that candidates of other depths keep the same layers' states
        while stride * room < deepest * _PATHS:
            if not room or stride > deepest:
                return False
            stride *= 2
        return depth <= deepest and depth % stride == 0

    def keep(self, batch: str, depth: int, state: State, size: int) -> None:
        """Keep the state after so many of the candidate's layers, if room can be made."""
        own = self._batches.get(batch)
        if own is None:
            own = self._batches[batch] = _Batch(size, self._candidate)
            self._fresh_bytes += size
        self._use(batch, own)
        while self._statistics.held + size > self.limit:
            if not self._give_up_one(batch):
                return
        own.states[self._path[depth]] = state
        self._hold(size)
        self._ranked(batch, own)

    def touch(self, batch: str) -> None:
        """Note that the candidate's states of a batch were used."""
        own = self._batches.get(batch)
        if own is None:
            return
        self._use(batch, own)
        for key in reversed(self._path):
            if key in own.states:
                own.states.move_to_end(key)

    def drop(self, batch: str) -> None:
        """Give up the candidate's states of a batch, and with them those of others."""
        own = self._batches.get(batch)
        if own is not None:
            for key in self._path:
                if own.states.pop(key, None) is not None:
                    self._hold(-own.size)
            self._ranked(batch, own)

    def clear(self) -> None:
        """Give up all states."""
        self._batches.clear()
        self._ranks = None
        self._fresh_bytes = 0
        self._hold(-self._statistics.held)

    def count(self, asked: int, run: int) -> None:
        """Count layers asked for and computed."""
        now = self._statistics
        self._statistics = replace(now, asked=now.asked + asked, run=now.run + run)

    def _hold(self, more: int) -> None:
        now = self._statistics
        held = now.held + more
        self._statistics = replace(now, held=held, most_held=max(held, now.most_held))

    def _use(self, name: str, batch: _Batch[State]) -> None:
        was_fresh, batch.used = self._fresh(batch), self._candidate
        if not was_fresh:
            self._fresh_bytes += batch.size
            self._ranked(name, batch)

    def _fresh(self, batch: _Batch[State]) -> bool:
        return batch.used > self._candidate - _FRESH

    def _give_up_one(self, wanted: str) -> bool:
        """Give up one state for the sake of a batch; False where none is worth less."""
        name = self._least_wanted()
        if name is None:
            return False
        chosen = self._batches[name]
        first = next(iter(chosen.states))
        if name == wanted and first in self._path:
            return False
        del chosen.states[first]
        self._hold(-chosen.size)
        self._ranked(name, chosen)
        if not chosen.states and name != wanted:
            self._fresh_bytes -= chosen.size if self._fresh(chosen) else 0
            del self._batches[name]
        return True

    def _least_wanted(self) -> str | None:
        """The batch to give up a state of; None where none has any."""
        if self._ranks is None:
            held = self._batches.items()
            self._ranks = [(self._rank(batch), name) for name, batch in held if batch.states]
            heapq.heapify(self._ranks)
        while self._ranks:
            rank, name = self._ranks[0]
            found = self._batches.get(name)
            if found is not None and found.states and self._rank(found) == rank:
                return name
            heapq.heappop(self._ranks)
        return None

    def _rank(self, batch: _Batch[State]) -> tuple[int, int]:
        used = self._candidate if self._fresh(batch) else batch.used
        return used, -len(batch.states)

    def _ranked(self, name: str, batch: _Batch[State]) -> None:
        """Note that a batch's rank is another now."""
        if self._ranks is not None:
            heapq.heappush(self._ranks, (self._rank(batch), name))


def _keys(before: str, layers: Sequence[str]) -> list[bytes]:
    """One more than there are layers; each stands for the way up to it."""
    keys = [hashlib.sha256(before.encode()).digest()]
    for layer in layers:
        keys.append(hashlib.sha256(keys[-1] + layer.encode()).digest())
    return keys
