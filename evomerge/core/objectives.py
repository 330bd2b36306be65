"""Objectives: what is scored and which way is better; signs are flipped here only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """A metric of one task, or its weighted mean over several, with a direction."""

    metric: str
    tasks: Mapping[str, float]
    """Weight by task; weights are positive and sum to 1."""

    direction: Direction = "maximize"

    @property
    def name(self) -> str:
        """A short label, e.g. ``accuracy(sum)`` or ``accuracy(sum+sort)``."""
        return f"{self.metric}({'+'.join(self.tasks)})"

    @property
    def sign(self) -> int:
        """+1 where smaller is better, -1 where larger is better."""
        return 1 if self.direction == "minimize" else -1


@dataclass(frozen=True)
class Estimate:
    """An objective's value with its standard error."""

    value: float
    standard_error: float


def losses(objectives: Sequence[Objective], values: Sequence[float]) -> tuple[float, ...]:
    """Objective values as losses, all to be minimised."""
    return tuple(o.sign * v for o, v in zip(objectives, values, strict=True))
