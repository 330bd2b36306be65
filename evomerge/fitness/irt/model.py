"""ItemParameters: the multidimensional two-parameter logistic model of a set of items.

One convention everywhere: a model of ability θ ∈ R^D answers item i correctly with probability

    p_i(θ) = σ(a_i · θ − b_i),    σ(z) = 1 / (1 + e^(−z)).

The discrimination a_i may be negative (stronger models do worse on such items). The difficulty
b_i is on the logit scale; the ability at which a one-dimensional item is solved half the time
is its *location* b_i / a_i. Other packages are converted on the way in:

==================================  =============================  ===========================
package                             its logit                      here
==================================  =============================  ===========================
py-irt 1PL, 2PL, multidim_2pl;      Σ_d a_d (θ_d − β_d)            b = Σ_d a_d β_d
girth
tinyBenchmarks' branch of py-irt    Σ_d (a_d θ_d − β), β one per   b = Σ_d β_d, that is D β for
                                    item, or one per dimension     one per item
==================================  =============================  ===========================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evomerge.core.errors import ConfigError

LOGIT_BOUND = 30.0
"""Logits are clipped to ± this in probabilities, as in tinyBenchmarks; σ(−30) ≈ 1e−13."""

_ARRAYS = {"discrimination": 2, "difficulty": 1}


@dataclass(frozen=True, eq=False)
class ItemParameters:
    """Discriminations and difficulties of items under p = σ(a·θ − b).

    Raises:
        ConfigError: Shapes disagree, there is no item or dimension, or a number is not finite.
    """

    discrimination: np.ndarray
    """``(items, dims)`` a, float64."""

    difficulty: np.ndarray
    """``(items,)`` b on the logit scale, float64."""

    def __post_init__(self) -> None:
        """Keep both as float64 and check them."""
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        problems = _problems(self.discrimination, self.difficulty)
        if problems:
            raise ConfigError(problems)

    @classmethod
    def from_locations(
        cls, discrimination: np.ndarray, locations: np.ndarray
    ) -> "ItemParameters":
        """From Σ_d a_d (θ_d − β_d), the convention of py-irt and girth.

        Args:
            discrimination: ``(items, dims)`` or, for one dimension, ``(items,)``.
            locations: β, of the same shape.
        """
        slopes, places = (
            np.asarray(part, dtype=np.float64) for part in (discrimination, locations)
        )
        if slopes.ndim == 1:
            slopes, places = slopes[:, None], places.reshape(-1, 1)
        if slopes.shape != places.shape:
            raise ConfigError(
                f"item parameters: discriminations have shape {slopes.shape}, locations "
                f"{places.shape}; they must be equal."
            )
        return cls(slopes, (slopes * places).sum(axis=1))

    @classmethod
    def from_shared_offsets(
        cls, discrimination: np.ndarray, offsets: np.ndarray
    ) -> "ItemParameters":
        """From Σ_d (a_d θ_d − β_d), where β may be one number an item: tinyBenchmarks.

        Args:
            discrimination: ``(items, dims)``.
            offsets: β, ``(items, dims)``, or ``(items, 1)`` to be used in every dimension.
        """
        slopes = np.asarray(discrimination, dtype=np.float64)
        try:
            spread = np.broadcast_to(np.asarray(offsets, dtype=np.float64), slopes.shape)
        except ValueError as error:
            raise ConfigError(
                f"item parameters: offsets of shape {np.shape(offsets)} do not fit "
                f"discriminations of shape {slopes.shape}; expected (items, dims) or "
                "(items, 1)."
            ) from error
        return cls(slopes, spread.sum(axis=1))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ItemParameters":
        """From what :meth:`to_arrays` gave; other arrays beside them are left alone.

        Raises:
            ConfigError: An array is missing or wrong.
        """
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise ConfigError(
                f"item parameters: array {missing[0]!r} is missing, found "
                f"{', '.join(sorted(arrays)) or 'none'}; calibrate again."
            )
        return cls(*(np.asarray(arrays[name]) for name in _ARRAYS))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for ``np.savez``; read them with ``allow_pickle=False``."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.difficulty)

    @property
    def dims(self) -> int:
        """Number D of ability dimensions."""
        return int(self.discrimination.shape[1])

    def subset(self, items: Sequence[int] | np.ndarray) -> "ItemParameters":
        """The parameters of these items, in this order."""
        chosen = np.asarray(items, dtype=np.intp)
        return ItemParameters(self.discrimination[chosen], self.difficulty[chosen])

    def logits(self, theta: np.ndarray) -> np.ndarray:
        """a·θ − b, ``(models, items)``, of abilities ``(models, dims)``.

        Raises:
            ValueError: Abilities of another shape.
        """
        abilities = np.asarray(theta, dtype=np.float64)
        if abilities.ndim != 2 or abilities.shape[1] != self.dims:
            raise ValueError(
                f"abilities must have shape (models, {self.dims}), they have {abilities.shape}"
            )
        return np.asarray(abilities @ self.discrimination.T - self.difficulty)

    def probabilities(self, theta: np.ndarray) -> np.ndarray:
        """Probability of a right answer, ``(models, items)``, within (0, 1)."""
        return np.asarray(expit(np.clip(self.logits(theta), -LOGIT_BOUND, LOGIT_BOUND)))


def _problems(discrimination: np.ndarray, difficulty: np.ndarray) -> list[str]:
    problems = []
    for (name, axes), array in zip(_ARRAYS.items(), (discrimination, difficulty), strict=True):
        if array.ndim != axes or 0 in array.shape:
            problems.append(
                f"item parameters: {name} must be {axes}-dimensional and not empty, it has "
                f"shape {array.shape}."
            )
        elif not np.isfinite(array).all():
            problems.append(f"item parameters: {name} holds numbers that are not finite.")
    if not problems and len(discrimination) != len(difficulty):
        problems.append(
            f"item parameters: {len(discrimination)} discriminations for {len(difficulty)} "
            "difficulties."
        )
    return problems
