"""Constraints: bounds that a merged model must keep, and by how much it misses them.

A candidate that keeps all of them is feasible. Feasible ones rank by their objectives, the
others behind all of those by their violation (Deb, An efficient constraint handling method for
genetic algorithms, 2000, section 3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from evomerge.core.objectives import Estimate, Objective

Sense = Literal["at_most", "at_least"]
"""Which side of its bound a value has to be on."""

_ROUNDING = 1e-9
"""Share of the scale by which a value may pass its bound through rounding of sums: two of a
hundred items lost are no more than 0.02."""


@dataclass(frozen=True)
class Constraint:
    """One bound on one number."""

    quantity: Objective
    """What is bounded; its direction says nothing here."""

    sense: Sense
    bound: float
    """In the number's own unit."""

    scale: float = 1.0
    """So much beyond the bound is a violation of 1: 1 for scores, whose whole range it is
    where they are shares, and the bound itself for sizes."""

    margin: float = 0.0
    """The value has to keep the bound by so many of its standard errors; below 0 it may pass
    it by so many."""

    reference: str | None = None
    """The source model that scores are compared with: what is bounded is then the loss, its
    score less the merged model's. For a size, the model whose share the bound is."""

    share: float | None = None
    """For a size: the bound as a share of the reference's."""

    reference_value: float | None = None
    """The reference's size; None where only answers tell its value."""

    @property
    def of_recipe(self) -> bool:
        """Whether the recipe alone decides it: exactly, and without a question."""
        return not self.quantity.tasks

    @property
    def is_loss(self) -> bool:
        """Whether a loss against the reference is bounded."""
        return self.reference is not None and not self.of_recipe

    @property
    def measured(self) -> Objective:
        """What the estimate is of: the quantity, or how much of it is lost item by item."""
        if not self.is_loss:
            return self.quantity
        return Objective(
            metric=f"forgetting ({self.quantity.metric}, {self.reference})",
            tasks=self.quantity.tasks,
            direction="minimize",
            kind="forgetting",
            reference=self.reference,
            of=self.quantity.metric,
        )

    @property
    def name(self) -> str:
        """What is bounded: ``parameters``, ``loss of accuracy(town) against base``."""
        return self.named(self.quantity.name)

    def named(self, quantity: str) -> str:
        """What is bounded, where the quantity is called so."""
        return f"loss of {quantity} against {self.reference}" if self.is_loss else quantity

    @property
    def limit(self) -> str:
        """The bound in words: ``at least 0.6``, ``at most 75% of base's``."""
        words = self.sense.replace("_", " ")
        if self.share is not None:
            return f"{words} {100 * self.share:.6g}% of {self.reference}'s"
        return f"{words} {self.bound:,.12g}"

    def excess(self, value: float) -> float:
        """How far a value is beyond the bound, below 0 where it keeps it."""
        beyond = value - self.bound if self.sense == "at_most" else self.bound - value
        return 0.0 if abs(beyond) <= _ROUNDING * self.scale else beyond

    def violation(self, estimate: Estimate) -> float:
        """By how many scales an estimate misses the bound, its margin included; 0 if not."""
        strict = self.margin * estimate.standard_error
        value = estimate.value
        held = value + strict if self.sense == "at_most" else value - strict
        return max(0.0, self.excess(held)) / self.scale

    def surely_missed(self, estimate: Estimate, errors: float) -> bool:
        """Whether a value is beyond the bound by more than so many standard errors."""
        beyond = self.excess(estimate.value)
        return beyond > 0 and beyond > errors * estimate.standard_error

    def to_plain(self) -> dict[str, Any]:
        """The constraint as plain JSON values; what is not set is left out."""
        plain: dict[str, Any] = {
            "quantity": self.quantity.to_plain(),
            "sense": self.sense,
            "bound": self.bound,
            "scale": self.scale,
            "margin": self.margin,
        }
        more = ("reference", "share", "reference_value")
        return plain | {k: v for k in more if (v := getattr(self, k)) is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``to_plain``."""
        return cls(**{**plain, "quantity": Objective.from_plain(plain["quantity"])})


def total_violation(constraints: Sequence[Constraint], estimates: Sequence[Estimate]) -> float:
    """The sum of all constraints' violations: 0 exactly where every one is met."""
    return math.fsum(
        constraint.violation(estimate)
        for constraint, estimate in zip(constraints, estimates, strict=True)
    )
