"""What a trial comes to in numbers, by the names under which tools show them."""

import math
from collections.abc import Mapping, Sequence

from evomerge.core.objectives import Objective
from evomerge.search.observer import Progress
from evomerge.store.trials import Trial

_STAGES = ("merge", "evaluate")


def trial_metrics(trial: Trial, objectives: Sequence[Objective]) -> dict[str, float]:
    """Objective values with their standard errors, what is missed of constraints, seconds."""
    metrics: dict[str, float] = {}
    for objective, estimate in zip(objectives, trial.estimates, strict=False):
        metrics[f"objectives/{objective.name}"] = estimate.value
        metrics[f"standard errors/{objective.name}"] = estimate.standard_error
    if trial.constraints:
        metrics["constraints/violation"] = trial.violation
    metrics |= {f"seconds/{s}": trial.timings[s] for s in _STAGES if s in trial.timings}
    return finite(metrics)


def progress_metrics(
    progress: Progress, objectives: Sequence[Objective], failures: int
) -> dict[str, float]:
    """The trial's own numbers, and how the study stands after it."""
    metrics = trial_metrics(progress.trial, objectives)
    for objective, (value, _) in zip(objectives, progress.best, strict=False):
        metrics[f"best/{objective.name}"] = value
    metrics["search/front size"] = len(progress.front)
    metrics["search/item evaluations"] = progress.item_evaluations
    metrics["search/failures"] = failures
    return finite(metrics)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without NaN and infinities, which not every tool takes."""
    return {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
