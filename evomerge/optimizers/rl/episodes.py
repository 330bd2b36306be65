"""Genomes as episodes: which action each gene's value is, and what a policy sees before it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.rl.policy import Observations
from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

Actions = NDArray[np.int64]
"""``(genes,)``: the number of the bin or option that each gene has."""

BINS = 10
"""The most parts that a number gene is cut into."""

_WHOLE = 64
"""Genes up to which the map has a place for each."""

_PLACES = 16
"""Places of the map of longer genomes: neighbouring genes have one together."""

_BACK = "back"


class EpisodeCode:
    """Turns genomes into actions and back, and episodes into observations.

    An observation holds, beside the position, the place that the cursor is at and the action
    before, as zeros and ones, and the map: how often each action was taken at each place. The
    cursor is the position, save where all genes choose among the same options and one of these
    is ``back``: there it moves as a ``layer_moves`` space reads it, one back for ``back`` and
    one on for everything else, so that the map is by layer.

    Args:
        genes: The genes, in the order in which they are picked.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self._length = len(genes)
        self.is_endless = any(isinstance(g, FloatGene) and g.low < g.high for g in genes)
        """Whether there are always genomes not seen before."""

        self._is_even = np.array([_has_equal_values(gene) for gene in genes])
        self.action_counts = [_actions(gene) for gene in genes]
        """How many actions each gene has."""

        self.most_actions = max(self.action_counts)
        self.allowed = np.arange(self.most_actions) < np.array(self.action_counts)[:, None]
        """``(genes, actions)``: which actions each gene has."""

        self._steps = np.ones(self.most_actions, dtype=np.int64)
        options = {gene.options if isinstance(gene, ChoiceGene) else () for gene in genes}
        own = next(iter(options))
        self._goes_back = len(options) == 1 and _BACK in own
        if self._goes_back:
            self._steps[own.index(_BACK)] = -1
        self._places = self._length if self._length <= _WHOLE else _PLACES
        self.mark = self._places / self._length
        """What one action adds to the map."""

        self._map = self._places + self.most_actions + 1
        self.features = self._map + self._places * self.most_actions
        """Features of an observation."""

    def actions_of(self, units: Units) -> Actions:
        """The actions that give a point of the unit cube, or one in the same bins."""
        counts = np.array(self.action_counts)
        return np.asarray(np.minimum((units * counts).astype(np.int64), counts - 1))

    def units_of(self, actions: Actions, rng: np.random.Generator) -> Units:
        """A point of the unit cube in the bins, drawn evenly where values differ in a bin."""
        within = np.where(self._is_even, 0.5, rng.random(self._length))
        return np.asarray((actions + within) / np.array(self.action_counts))

    def observations(self, actions: Actions, steps: NDArray[np.int64]) -> Observations:
        """What was seen before the actions of some steps, which are in order."""
        before = np.concatenate([[self.most_actions], actions[:-1]])
        cursors = self._cursors(actions)
        seen = np.zeros((len(steps) + 1, self.features))
        # Each mark goes to the first of the steps after it, and from there to all later ones.
        following = np.searchsorted(steps, np.arange(self._length), side="right")
        np.add.at(seen, (following, self.map_rows(cursors, actions)), self.mark)
        seen = seen[:-1].cumsum(0)
        now = self.now_rows(cursors[steps], before[steps])
        np.put_along_axis(seen, now, 1.0, axis=1)
        return Observations(steps, seen)

    def now_rows(self, cursor: Actions, before: Actions) -> NDArray[np.int64]:
        """``(episodes or steps, 2)``: the features that are 1 beside the map."""
        return np.stack([self._place(cursor), self._places + before], axis=1)

    def map_rows(self, cursor: Actions, taken: Actions) -> NDArray[np.int64]:
        """The features of the map that stand for actions taken at places."""
        return np.asarray(self._map + self._place(cursor) * self.most_actions + taken)

    def moved(self, cursor: Actions, taken: Actions) -> Actions:
        """Where the cursor is after an action."""
        return np.asarray(np.clip(cursor + self._steps[taken], 0, self._length - 1))

    def _cursors(self, actions: Actions) -> Actions:
        if not self._goes_back:
            return np.arange(self._length)
        cursors = np.zeros_like(actions)
        for step in range(1, self._length):
            cursors[step] = self.moved(cursors[step - 1], actions[step - 1])
        return cursors

    def _place(self, position: Actions) -> Actions:
        return position * self._places // self._length


def _actions(gene: Gene) -> int:
    if isinstance(gene, ChoiceGene):
        return len(gene.options)
    if isinstance(gene, IntGene):
        return min(BINS, gene.high - gene.low + 1)
    return BINS


def _has_equal_values(gene: Gene) -> bool:
    """Whether all of an action's points stand for one value."""
    if isinstance(gene, IntGene):
        return gene.high - gene.low < BINS
    return isinstance(gene, ChoiceGene)
