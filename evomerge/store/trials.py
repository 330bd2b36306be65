"""Trial: the record of one scored recipe, and its plain form in the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evomerge.core.objectives import Estimate, Objective, losses
from evomerge.core.outcomes import Failed, GeneValue, Outcome, Scored
from evomerge.core.recipe import Recipe

Kind = Literal["source", "baseline", "candidate"]
Status = Literal["open", "complete", "failed"]


@dataclass(frozen=True)
class Trial:
    """One recipe with what came of it; a value that later writes never change."""

    number: int
    """Counts from 1 over sources, baselines and candidates, in the order they were asked."""

    kind: Kind
    """A source model alone, a plain recipe to beat, or an optimizer's proposal."""

    name: str
    """``sum``, ``uniform average``, ``candidate 17`` …; unique within its kind."""

    recipe: Recipe
    status: Status
    genome: Mapping[str, GeneValue] | None = None
    """Gene values of a candidate; None for sources and baselines."""

    estimates: tuple[Estimate, ...] = ()
    """One per objective, on the search items; empty unless complete."""

    failure: Failed | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage (merge, evaluate); empty where every response was already known."""

    item_evaluations: int = 0
    """Items put to it for its search score; those answered before cost nothing."""

    asked_at: float = 0.0
    finished_at: float | None = None
    """Seconds since the epoch."""

    @property
    def values(self) -> tuple[float, ...]:
        """Objective values as the user names them, larger or smaller being better."""
        return tuple(estimate.value for estimate in self.estimates)


def outcome(trial: Trial, objectives: tuple[Objective, ...]) -> Outcome:
    """What an optimizer is told of a finished trial."""
    if trial.failure is not None:
        return trial.failure
    return Scored(
        losses(objectives, trial.values),
        tuple(estimate.standard_error for estimate in trial.estimates),
    )
