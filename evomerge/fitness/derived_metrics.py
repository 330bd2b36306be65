"""Item values that follow from other responses: information of a task, forgetting of a model.

Their mean over the items is the objective and their spread gives its standard error, so that
the plain mean estimator and the paired bootstrap apply to them. They hold for exactly the items
that they were derived from and are never stored.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses, Responses
from evomerge.fitness.label_free import CHOICE

DERIVED = ("information", "forgetting")
"""Kinds of objectives whose item values are derived."""


def response_metrics(objective: Objective) -> tuple[str, ...]:
    """The metrics that a model's own responses must have for an objective."""
    guarded = (CHOICE,) if objective.collapse is not None else ()
    if objective.kind == "information":
        return (CHOICE, "entropy")
    if objective.kind == "forgetting":
        return (objective.of or "", *guarded)
    return (objective.metric, *guarded)


def with_derived(
    responses: Responses,
    objectives: Sequence[Objective],
    sources: Mapping[str, Responses],
) -> Responses:
    """Responses with the values of derived objectives under the objectives' own names.

    Args:
        responses: A model's responses; only to the items that are to count.
        objectives: All objectives; those of other kinds add nothing.
        sources: Responses of source models by name, to the same items.

    Raises:
        TrialError: The reference model has not answered the same items.
    """
    derived: dict[str, ItemResponses] = dict(responses)
    for objective in (o for o in objectives if o.kind in DERIVED):
        for task in objective.tasks:
            own = derived[task]
            if objective.kind == "information":
                values = information_values(own.values[CHOICE], own.values["entropy"])
            else:
                values = _forgotten(own, task, objective, sources)
            derived[task] = ItemResponses(own.items, {**own.values, objective.metric: values})
    return derived


def information_values(
    choices: Sequence[float], entropies: Sequence[float]
) -> tuple[float, ...]:
    """Jackknife pseudo-values of the information that a task's choices carry, in nats.

    Information is the entropy of how often each choice is picked less the mean entropy of the
    single answers: high where each answer is sure and answers differ, not where all are the
    same (Bridle, Heading and MacKay, Unsupervised classifiers, mutual information and phantom
    targets, NIPS 1991; they average the probabilities, here picks are counted, so that the
    value may fall below 0). Where no two items share a choice, the first part is the same for
    every model. The mean of the pseudo-values is the jackknife estimate, free of
    the plug-in entropy's first-order bias, and their variance over the number of items that of
    the estimate (Zahl, Jackknifing an index of diversity, Ecology 58, 1977).

    Args:
        choices: ``(items,)`` the choice picked.
        entropies: ``(items,)`` of the answers, in nats.
    """
    count = len(choices)
    if count == 1:
        return (-entropies[0],)
    picks = Counter(choices)
    whole = math.fsum(_x_log_x(n) for n in picks.values())
    marginal = math.log(count) - whole / count
    without = {
        choice: math.log(count - 1) - (whole - _x_log_x(n) + _x_log_x(n - 1)) / (count - 1)
        for choice, n in picks.items()
    }
    return tuple(
        count * marginal - (count - 1) * without[choice] - entropy
        for choice, entropy in zip(choices, entropies, strict=True)
    )


def _x_log_x(count: int) -> float:
    return count * math.log(count) if count else 0.0


def _forgotten(
    own: ItemResponses, task: str, objective: Objective, sources: Mapping[str, Responses]
) -> tuple[float, ...]:
    """The reference's responses less the model's, item by item."""
    name, metric = objective.reference or "", objective.of or ""
    there = sources.get(name, {}).get(task)
    if there is None or not set(own.items) <= set(there.items):
        raise TrialError(
            f"{objective.name}: source model {name!r} has no responses to the same items of "
            f"task {task} to compare with."
        )
    before = there.only(own.items).values[metric]
    return tuple(b - a for b, a in zip(before, own.values[metric], strict=True))
