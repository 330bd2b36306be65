"""Trial: the record of one scored recipe, and its plain form in the database."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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

    constraints: tuple[Estimate, ...] = ()
    """One per constraint of the study, on the same items; empty unless complete."""

    violation: float = 0.0
    """By how much these miss the constraints, all together; 0 where they meet them."""

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

    @property
    def feasible(self) -> bool:
        """Whether it was scored and meets every constraint, by its estimates."""
        return self.status == "complete" and self.violation == 0


def outcome(trial: Trial, objectives: tuple[Objective, ...]) -> Outcome:
    """What an optimizer is told of a finished trial."""
    if trial.failure is not None:
        return trial.failure
    return Scored(
        losses(objectives, trial.values),
        tuple(estimate.standard_error for estimate in trial.estimates),
        trial.violation,
    )


def written_estimates(estimates: Sequence[Estimate]) -> str:
    """Estimates as JSON: ``[[value, standard error], …]``."""
    pairs = [[e.value, e.standard_error] for e in estimates]
    return json.dumps(pairs, separators=(",", ":"), allow_nan=False)


def estimates_of(written: str | None) -> tuple[Estimate, ...]:
    """The inverse of ``written_estimates``; none where nothing was written."""
    return tuple(Estimate(*pair) for pair in json.loads(written or "[]"))


SELECT_TRIALS = (
    "SELECT number, kind, name, genome, recipe, status, estimates, constraints, violation, "
    "stage, reason, timings, item_evaluations, asked_at, finished_at FROM trials"
)
"""Every column of ``trial_of_row``, in its order."""


def trial_of_row(row: Sequence[Any]) -> Trial:
    """The trial in a row of ``SELECT_TRIALS``."""
    number, kind, name, genome, recipe, status, *rest = row
    estimates, constraints, violation, stage, reason, timings, *rest = rest
    item_evaluations, asked_at, finished_at = rest
    return Trial(
        number=number,
        kind=kind,
        name=name,
        recipe=Recipe.from_plain(json.loads(recipe)),
        status=status,
        genome=json.loads(genome) if genome else None,
        estimates=estimates_of(estimates),
        constraints=estimates_of(constraints),
        violation=violation,
        failure=Failed(stage, reason) if status == "failed" else None,
        timings=json.loads(timings),
        item_evaluations=item_evaluations,
        asked_at=asked_at,
        finished_at=finished_at,
    )
