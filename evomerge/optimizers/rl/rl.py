"""Reinforcement learning of genomes, gene after gene, by proximal policy optimisation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Outcome
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.mean_ranks import mean_ranks
from evomerge.optimizers.rl.episodes import Actions, EpisodeCode
from evomerge.optimizers.rl.options import RlOptions
from evomerge.optimizers.rl.policy import (
    ActorCritic,
    Array,
    Observations,
    Steps,
    log_probabilities,
)
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes
from evomerge.spaces.genes import genome_from_unit

_REDRAWS = 12
"""Draws of a genome until one is new, each at twice the temperature of the one before."""

_LEARNED_STEPS = 256
"""About the most decisions that are learned from at a time; of more a random share."""


@dataclass(frozen=True, eq=False)
class _Episode:
    """How a genome came about."""

    actions: Actions
    """``(genes,)``."""

    log_probabilities: Array
    """``(genes,)``, of each action when it was taken."""


class Rl(Generational):
    """Reinforced Model Merging's search (RMM, Han et al. 2025, arXiv 2503.21272) on any genes.

    A policy picks the genes one after another; one episode is one candidate. It sees the
    position, the action before, and the map of what was chosen where (RMM's merging map, of
    ``layer_moves`` by the layer that the moves have come to). After some episodes, actor and
    critic learn by PPO (Schulman et al. 2017) with RMM's networks. Differences from RMM:

    * The reward is the rank among the latest candidates, standardised; the mean of the ranks
      in every objective (RMM: mean accuracy). No scale of scores has to be known, and failed
      candidates are last without a number for them.
    * Number genes are cut into at most ten equal bins; in a bin the value is drawn evenly.
    * Where no gene is a real number, a genome that was proposed before is drawn again, each
      time at twice the temperature, so that a policy that is sure of itself still spends no
      candidate twice.

    Args:
        problem: What is searched; its initial genomes are proposed first; learned from as if
            the policy had drawn them.
        options: Of the learning.
    """

    def __init__(self, problem: SearchProblem, options: RlOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._options = options
        self._objectives = problem.objectives
        self._beyond = options.ahead
        self._rng = stream(problem.seed, "optimizer", "rl")
        self._code = EpisodeCode(problem.genes)
        self._policy = ActorCritic(
            len(self._genes),
            self._code.features,
            self._code.most_actions,
            options,
            self._rng,
        )
        self._window: list[Outcome] = []
        self._seen: set[tuple[object, ...]] = set()
        self._initial: Units = units_of_genomes(problem.genes, problem.initial)
        self._begin()

    @override
    def _propose(self) -> list[Proposal]:
        size = self._options.episodes + self._beyond
        self._beyond = 0
        proposals = [self._given(row) for row in self._initial]
        self._initial = self._initial[:0]
        temperature = 1.0
        for _ in range(_REDRAWS):
            missing = size - len(proposals)
            if missing <= 0:
                break
            proposals += self._drawn(missing, temperature)
            temperature *= 2
        return proposals

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        if (
            self._options.asynchronous and self._seen
        ):  # what waits is dropped, and may be proposed again
            self._seen -= {self._key(place.proposal.units) for place in self._waiting}
        rewards = self._rewards([outcome for _, outcome in told])
        episodes = [p.note for p, _ in told if isinstance(p.note, _Episode)]
        if np.any(rewards):
            self._policy.update(self._steps(episodes, rewards))

    def _rewards(self, outcomes: Sequence[Outcome]) -> Array:
        """``(outcomes,)``: by how many deviations each stands above the window's mean rank."""
        self._window += outcomes
        ranked = mean_ranks(self._window, self._objectives)
        spread = float(ranked.std())
        scores = (ranked.mean() - ranked) / spread if spread else np.zeros_like(ranked)
        del self._window[: -self._options.window]
        return scores[-len(outcomes) :]

    def _steps(self, episodes: Sequence[_Episode], rewards: Array) -> Steps:
        genes = len(self._genes)
        learned = np.arange(genes)
        share = max(1, _LEARNED_STEPS // len(episodes))
        if genes > share:
            learned = np.sort(self._rng.choice(genes, share, replace=False))
        discounts = self._options.discount ** (genes - 1 - learned)
        seen = [self._code.observations(e.actions, learned) for e in episodes]
        return Steps(
            Observations(
                np.tile(learned, len(episodes)),
                np.concatenate([each.features for each in seen]),
            ),
            np.tile(self._code.allowed[learned], (len(episodes), 1)),
            np.concatenate([e.actions[learned] for e in episodes]),
            np.concatenate([e.log_probabilities[learned] for e in episodes]),
            np.concatenate([reward * discounts for reward in rewards]),
        )

    def _given(self, units: Units) -> Proposal:
        """A given genome, as an episode of the policy as it is."""
        self._is_new(units)
        actions = self._code.actions_of(units)
        every = np.arange(len(actions))
        logits = self._policy.actor.forward(self._code.observations(actions, every))
        logs, _ = log_probabilities(logits, self._code.allowed)
        return Proposal(units, _Episode(actions, logs[every, actions]))

    def _drawn(self, count: int, temperature: float) -> list[Proposal]:
        """Episodes of the policy, those left out whose genome was proposed before."""
        actions, logs = self._draw(count, temperature)
        proposals = []
        for own, own_logs in zip(actions, logs, strict=True):
            units = self._code.units_of(own, self._rng)
            if self._is_new(units):
                proposals.append(Proposal(units, _Episode(own, own_logs)))
        return proposals

    def _is_new(self, units: Units) -> bool:
        if self._code.is_endless:
            return True
        key = self._key(units)
        new = key not in self._seen
        self._seen.add(key)
        return new

    def _key(self, units: Units) -> tuple[object, ...]:
        return tuple(genome_from_unit(self._genes, units.tolist()).values())

    def _draw(self, count: int, temperature: float) -> tuple[NDArray[np.int64], Array]:
        """``(count, genes)`` actions and their log-probabilities, all episodes side by side."""
        code, actor = self._code, self._policy.actor
        of_positions, weights, bias = actor.parameters[:3]
        actions = np.zeros((count, len(self._genes)), dtype=np.int64)
        logs = np.zeros(actions.shape)
        every = np.arange(count)
        chance = self._rng.random((len(self._genes), count, 1))
        seen = np.tile(bias, (count, 1))  # the first layer's sums over the map so far
        cursor = np.zeros(count, dtype=np.int64)
        before = np.full(count, code.most_actions)
        for step in range(len(self._genes)):
            now = weights[code.now_rows(cursor, before)].sum(1) + of_positions[step]
            logits = actor.after_first(seen + now)[:, : code.action_counts[step]] / temperature
            of_all, chances = log_probabilities(logits, np.ones(logits.shape, dtype=bool))
            last = logits.shape[1] - 1
            taken = np.minimum((chances.cumsum(1) < chance[step]).sum(1), last)
            actions[:, step], logs[:, step] = taken, of_all[every, taken]
            seen += weights[code.map_rows(cursor, taken)] * code.mark
            cursor, before = code.moved(cursor, taken), taken
        return actions, logs
