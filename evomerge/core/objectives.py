"""Objectives: what is scored and which way is better; signs are flipped here only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

Direction = Literal["maximize", "minimize"]

Kind = Literal["mean", "information", "forgetting", "parameters", "flops", "layers"]
"""What an objective is computed from.

``mean``: one response an item. ``information``: all choices of a task together.
``forgetting``: responses less those of a reference model. ``parameters``, ``flops`` and
``layers``: the recipe alone.
"""


@dataclass(frozen=True)
class Objective:
    """A metric of one task, or its weighted mean over several, with a direction."""

    metric: str
    """What responses are called that hold its value item by item; for objectives of the
    recipe alone, what to call it."""

    tasks: Mapping[str, float]
    """Weight by task; weights are positive and sum to 1. Empty for objectives of the recipe
    alone."""

    direction: Direction = "maximize"
    kind: Kind = "mean"
    reference: str | None = None
    """Forgetting: the source model whose responses are compared with."""

    of: str | None = None
    """Forgetting: the metric that is compared."""

    context: int | None = None
    """FLOPs: tokens of context."""

    collapse: float | None = None
    """Share of equal answers to a task from which a merged model counts as collapsed; None
    where nothing is refused."""

    @property
    def name(self) -> str:
        """A short label, e.g. ``accuracy(sum)``, ``accuracy(sum+sort)`` or ``parameters``."""
        return f"{self.metric}({'+'.join(self.tasks)})" if self.tasks else self.metric

    @property
    def sign(self) -> int:
        """+1 where smaller is better, -1 where larger is better."""
        return 1 if self.direction == "minimize" else -1

    def to_plain(self) -> dict[str, Any]:
        """The objective as plain JSON values; what is not set is left out."""
        plain: dict[str, Any] = {
            "metric": self.metric,
            "tasks": dict(self.tasks),
            "direction": self.direction,
            "kind": self.kind,
        }
        more = ("reference", "of", "context", "collapse")
        return plain | {k: v for k in more if (v := getattr(self, k)) is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``to_plain``; an objective without a kind is a mean."""
        return cls(
            metric=plain["metric"],
            tasks=plain.get("tasks") or {},
            direction=plain["direction"],
            kind=plain.get("kind", "mean"),
            reference=plain.get("reference"),
            of=plain.get("of"),
            context=plain.get("context"),
            collapse=plain.get("collapse"),
        )


@dataclass(frozen=True)
class Estimate:
    """An objective's value with its standard error."""

    value: float
    standard_error: float


def losses(objectives: Sequence[Objective], values: Sequence[float]) -> tuple[float, ...]:
    """Objective values as losses, all to be minimised."""
    return tuple(o.sign * v for o, v in zip(objectives, values, strict=True))
