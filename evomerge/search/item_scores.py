"""Scores of single items, for optimizers that learn from which items a candidate solves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Outcome, Scored
from evomerge.core.responses import Items, Responses

_AS_SHARE: Mapping[str, Callable[[float], float]] = {
    "gold_logprob": lambda nats: math.exp(min(0.0, nats)),
    "margin": lambda nats: 1 / (1 + math.exp(-max(-700.0, min(700.0, nats)))),
}
"""Metrics in nats as the probability of the right answer; others must lie between 0 and 1."""


def item_scores(objectives: Sequence[Objective], responses: Responses) -> dict[str, float]:
    """The score on every item of every objective that is a mean over items.

    Returns:
        0 … 1, larger being better, by ``objective|task|item`` with the objective's place.

    Raises:
        TrialError: A metric that is not a share of 1, or none of the objectives has items.
    """
    scores: dict[str, float] = {}
    for place, objective in enumerate(objectives):
        if objective.kind != "mean":
            continue
        for task in objective.tasks:
            answered = responses[task]
            for item, value in zip(
                answered.items, answered.values[objective.metric], strict=True
            ):
                share = _share(objective.metric, value)
                better = share if objective.direction == "maximize" else 1 - share
                scores[f"{place}|{task}|{item}"] = better
    if not scores:
        raise TrialError(
            "this optimizer learns from single items, and no objective is a mean over items; "
            "add one such as accuracy, or use nsga2."
        )
    return scores


def with_item_scores(
    told: Outcome, objectives: Sequence[Objective], responses: Responses, items: Items
) -> Outcome:
    """A scored outcome together with the scores of those of the items that were answered."""
    if not isinstance(told, Scored):
        return told
    return replace(told, items=item_scores(objectives, _answered(responses, items)))


def _answered(responses: Responses, items: Items) -> Responses:
    return {
        task: responses[task].only(sorted(set(chosen) & set(responses[task].items)))
        for task, chosen in items.items()
        if task in responses
    }


def _share(metric: str, value: float) -> float:
    if metric in _AS_SHARE:
        return _AS_SHARE[metric](value)
    if not 0 <= value <= 1:
        raise TrialError(
            f"this optimizer learns from scores of items between 0 and 1, and metric "
            f"{metric!r} gave {value:g}; use another metric, or another optimizer."
        )
    return value
