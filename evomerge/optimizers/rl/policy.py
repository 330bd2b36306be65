"""A small actor and critic, and how proximal policy optimisation improves them.

In plain numpy: networks of two hidden layers need no model framework, and the driver of a
search loads none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.rl.options import RlOptions

Array = NDArray[np.float64]

HIDDEN = 64
"""Units of each of the two hidden layers, as in RMM's networks."""

_CRITIC = 3.0
"""Step size of the critic by that of the actor, about RMM's 1e-3 / 3e-4."""

_VALUE = 0.5
"""Weight of the squared error of the critic."""

_FIRST_POLICY = 0.01
"""Scale of the actor's last layer at the start: all actions about equally likely."""


@dataclass(frozen=True, eq=False)
class Observations:
    """What a policy sees before its decisions."""

    positions: NDArray[np.int64]
    """``(steps,)``: which decision of the episode each is."""

    features: Array
    """``(steps, features)``."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Decisions to learn from, over any number of episodes."""

    observations: Observations

    allowed: NDArray[np.bool_]
    """``(steps, actions)``: which actions there were."""

    actions: NDArray[np.int64]
    """``(steps,)``: which was taken."""

    log_probabilities: Array
    """``(steps,)``: of the action, when it was taken."""

    returns: Array
    """``(steps,)``: what came of it."""


_Gradients = list[tuple[NDArray[np.int64] | slice, Array]]
"""For each parameter the rows that have a derivative, and their derivatives."""


class Network:
    """Two hidden layers of tanh, and a linear layer after them.

    Args:
        positions: Decisions of an episode; each has weights of its own, as if it were a
            feature that is 1 there and 0 elsewhere.
        features: Number of other features.
        outputs: Number of outputs.
        rng: Draws the first weights.
        last: Scale of the last layer's first weights.
    """

    def __init__(
        self,
        positions: int,
        features: int,
        outputs: int,
        rng: np.random.Generator,
        *,
        last: float = 1.0,
    ) -> None:
        def weights(rows: int, columns: int, scale: float) -> Array:
            return rng.standard_normal((rows, columns)) * scale

        self.parameters = [
            weights(positions, HIDDEN, features**-0.5),
            weights(features, HIDDEN, features**-0.5),
            np.zeros(HIDDEN),
            weights(HIDDEN, HIDDEN, HIDDEN**-0.5),
            np.zeros(HIDDEN),
            weights(HIDDEN, outputs, last * HIDDEN**-0.5),
            np.zeros(outputs),
        ]

    def forward(self, seen: Observations) -> Array:
        """``(steps, outputs)``."""
        return self.after_first(self._first_sums(seen))

    def after_first(self, sums: Array) -> Array:
        """``(steps, outputs)`` from the first layer's weighted sums ``(steps, HIDDEN)``."""
        weights, bias, last_weights, last_bias = self.parameters[3:]
        return np.asarray(np.tanh(np.tanh(sums) @ weights + bias) @ last_weights + last_bias)

    def gradients(self, seen: Observations, of_outputs: Array) -> _Gradients:
        """Derivatives by every parameter, from those by the outputs of ``forward``."""
        weights, bias, last_weights, _ = self.parameters[3:]
        one = np.tanh(self._first_sums(seen))
        two = np.tanh(one @ weights + bias)
        of_two = (of_outputs @ last_weights.T) * (1 - two**2)
        of_one = (of_two @ weights.T) * (1 - one**2)
        rows, place = np.unique(seen.positions, return_inverse=True)
        of_rows = np.zeros((len(rows), HIDDEN))
        np.add.at(of_rows, place, of_one)
        whole = slice(None)
        return [
            (rows, of_rows),
            (whole, seen.features.T @ of_one),
            (whole, of_one.sum(0)),
            (whole, one.T @ of_two),
            (whole, of_two.sum(0)),
            (whole, two.T @ of_outputs),
            (whole, of_outputs.sum(0)),
        ]

    def _first_sums(self, seen: Observations) -> Array:
        of_positions, of_features, bias = self.parameters[:3]
        return np.asarray(seen.features @ of_features + of_positions[seen.positions] + bias)


class Adam:
    """Adam (Kingma and Ba 2015) on the parameters of a network, in place.

    Rows without a derivative stay as they are. Sums are in double, what is kept of the
    parameters in single precision: the last digits, in which linear algebra libraries differ,
    seldom outlive a step.
    """

    def __init__(self, network: Network, rate: float) -> None:
        self._network = network
        self._rate = rate
        self._means = [np.zeros_like(p) for p in network.parameters]
        self._squares = [np.zeros_like(p) for p in network.parameters]
        self._steps = 0

    def step(self, gradients: _Gradients) -> None:
        """Go down along the gradients."""
        self._steps += 1
        to_mean, to_square = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        rate = self._rate * np.sqrt(to_square) / to_mean
        for k, (rows, gradient) in enumerate(gradients):
            mean = self._means[k][rows] + 0.1 * (gradient - self._means[k][rows])
            square = self._squares[k][rows]
            square = square + 0.001 * (gradient**2 - square)
            self._means[k][rows], self._squares[k][rows] = mean, square
            own = self._network.parameters[k]
            own[rows] = (own[rows] - rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)


class ActorCritic:
    """A policy and what it expects to come of an observation.

    Args:
        positions: Decisions of an episode.
        features: Of an observation.
        actions: The most actions that any step has.
        options: Step size, clipping, entropy, rounds.
        rng: Draws the first weights.
    """

    def __init__(
        self,
        positions: int,
        features: int,
        actions: int,
        options: RlOptions,
        rng: np.random.Generator,
    ) -> None:
        self.actor = Network(positions, features, actions, rng, last=_FIRST_POLICY)
        self.critic = Network(positions, features, 1, rng)
        self._options = options
        self._adams = (
            Adam(self.actor, options.learning_rate),
            Adam(self.critic, _CRITIC * options.learning_rate),
        )

    def update(self, steps: Steps) -> None:
        """Learn from steps by the clipped objective (Schulman et al. 2017, equation 9)."""
        advantages = steps.returns - self.critic.forward(steps.observations)[:, 0]
        for _ in range(self._options.epochs):
            of_logits = self._by_logits(steps, advantages)
            self._adams[0].step(self.actor.gradients(steps.observations, of_logits))
            errors = self.critic.forward(steps.observations)[:, 0] - steps.returns
            of_values = (2 * _VALUE / len(errors)) * errors[:, np.newaxis]
            self._adams[1].step(self.critic.gradients(steps.observations, of_values))

    def loss(self, steps: Steps, advantages: Array) -> float:
        """What the actor goes down: the clipped objective and the entropy, both negative."""
        logs, chances = log_probabilities(self.actor.forward(steps.observations), steps.allowed)
        ratio = np.exp(_of_actions(logs, steps) - steps.log_probabilities)
        clip = self._options.clip
        clipped = np.clip(ratio, 1 - clip, 1 + clip)
        gain = np.minimum(ratio * advantages, clipped * advantages)
        entropy = -(chances * logs).sum(1)
        return float(-(gain + self._options.entropy * entropy).mean())

    def _by_logits(self, steps: Steps, advantages: Array) -> Array:
        """``(steps, actions)`` derivatives of ``loss`` by the actor's outputs."""
        logs, chances = log_probabilities(self.actor.forward(steps.observations), steps.allowed)
        ratio = np.exp(_of_actions(logs, steps) - steps.log_probabilities)
        clip = self._options.clip
        beyond = np.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
        of_chosen = np.where(beyond, 0.0, advantages * ratio)[:, np.newaxis]
        taken = np.zeros_like(chances)
        taken[np.arange(len(taken)), steps.actions] = 1.0
        entropy = -(chances * logs).sum(1, keepdims=True)
        of_entropy = -chances * (logs + entropy)
        gain = of_chosen * (taken - chances) + self._options.entropy * of_entropy
        return np.asarray(-gain / len(gain))


def log_probabilities(logits: Array, allowed: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Log-probabilities and probabilities of actions; both 0 where they are not allowed.

    Args:
        logits: ``(steps, actions)``.
        allowed: The same shape; at least one a step.
    """
    masked = np.where(allowed, logits, -np.inf)
    shifted = masked - masked.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return np.where(allowed, logs, 0.0), np.exp(logs)


def _of_actions(logs: Array, steps: Steps) -> Array:
    return np.asarray(logs[np.arange(len(logs)), steps.actions])
