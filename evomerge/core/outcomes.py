"""A candidate and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GeneValue = float | int | str
Genome = Mapping[str, GeneValue]
"""Gene values by gene name, in the search space's order."""

Stage = Literal["merge", "evaluate", "score", "worker"]
"""What failed; ``worker``: what it ran in died, took too long or too much memory."""


@dataclass(frozen=True)
class Candidate:
    """A genome proposed by an optimizer, under an id of the optimizer's own."""

    id: int
    genome: Genome

    generation: int = 0
    """Candidates of one generation are proposed together, from the same outcomes."""

    known: int = 0
    """It was proposed when the outcomes of all candidates with smaller ids than this had been
    told. Others made no difference, except to an optimizer that learns from outcomes as they
    arrive."""


@dataclass(frozen=True)
class Scored:
    """The candidate's losses, one per objective, all to be minimised and finite."""

    losses: tuple[float, ...]
    standard_errors: tuple[float, ...] = ()

    violation: float = 0.0
    """By how much it misses the constraints, all together; 0 where it meets them. A candidate
    that misses some ranks behind every one that misses none, whatever its losses."""

    items: Mapping[str, float] = field(default_factory=dict)
    """Score on each item by the item's name, 0 … 1, larger being better. Given to optimizers
    that learn from items; empty for others."""


@dataclass(frozen=True)
class Failed:
    """The candidate has no score, and why."""

    stage: Stage
    reason: str


Outcome = Scored | Failed
