"""The guard against collapsed outputs: a merged model that gives one answer to everything.

Such a model is perfectly sure, stable and brief, so it would win every objective that asks no
right answer. Only answers that can repeat show it. Where the choices differ from item to item,
a model that ignores the question still picks different ones; there an objective with right
answers has to stand beside the label-free one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses, Responses
from evomerge.fitness.label_free import CHOICE

DEFAULT_SHARE = 0.95
"""Share of equal answers from which outputs count as collapsed."""

FEWEST_ITEMS = 10
"""Below this, equal answers are no sign: three of two choices agree in one case of four."""


def collapsed(
    responses: Responses, objectives: Sequence[Objective], sources: Mapping[str, Responses]
) -> str | None:
    """Why a merged model's outputs have collapsed, or None.

    They have where the commonest answer to a task makes up the objective's ``collapse`` or
    more of all answers, while it makes up less with at least one source model: a task whose
    right answer is nearly always the same fails nobody.

    Args:
        responses: The merged model's, with ``choice``.
        objectives: Those with ``collapse`` are guarded, on each of their tasks.
        sources: Responses of the source models by name, to the same items.
    """
    for objective in (o for o in objectives if o.collapse is not None):
        limit = objective.collapse or 1.0
        for task in objective.tasks:
            own = commonest_share(responses[task])
            if len(responses[task].items) < FEWEST_ITEMS or own < limit:
                continue
            others = {
                name: commonest_share(known[task])
                for name, known in sources.items()
                if task in known and CHOICE in known[task].values
            }
            varied = min(others, key=lambda name: others[name], default=None)
            if varied is not None and others[varied] < limit:
                return (
                    f"its outputs have collapsed: at least {limit:.0%} of its answers to task "
                    f"{task} are the same, those of source model {varied!r} are not "
                    f"(objective {objective.name}: collapse)"
                )
    return None


def commonest_share(answered: ItemResponses) -> float:
    """Share of a task's answers that equal the commonest one, 0 without answers."""
    choices = answered.values.get(CHOICE, ())
    return max(Counter(choices).values()) / len(choices) if choices else 0.0
