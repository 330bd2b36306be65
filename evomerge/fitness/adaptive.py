"""Computerised adaptive testing: further items follow from a candidate's own answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.information import next_items
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.ladder import Ladder
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.scale import Scale

ADAPTIVE = ("irt", "p_irt")
"""Estimators that any set of items serves. The others weigh the items by how they were chosen,
or already take those that tell most whatever is answered."""


@dataclass(frozen=True, eq=False)
class AdaptiveTask:
    """What decides a task's next items."""

    metric: str
    """Whose answers tell the ability."""

    parameters: ItemParameters
    """Of the bank's items, in its order."""

    bank: Sequence[int]
    scale: Scale

    @classmethod
    def fitted(
        cls, metric: str, calibration: TaskCalibration, bank: Sequence[int], scale: Scale
    ) -> "AdaptiveTask":
        """From the same item parameters as the estimators use."""
        parameters = fit_items(calibration.matrix.values).parameters
        return cls(metric, parameters, bank, scale)

    def further(self, answered: ItemResponses, count: int) -> tuple[int, ...]:
        """The items that tell most about the ability which the answers show.

        Args:
            answered: Answers so far.
            count: How many items to choose.
        """
        columns = {item: column for column, item in enumerate(self.bank)}
        seen = np.array([columns[item] for item in answered.items], dtype=np.intp)
        values = np.asarray(answered.values[self.metric], dtype=np.float64)
        answers = self.scale.applied(values)[None]
        ability = fit_ability(self.parameters.subset(seen), answers)
        chosen = next_items(self.parameters, ability.theta[0], seen, count)
        return tuple(self.bank[column] for column in chosen)


class AdaptiveLadder:
    """The first rung is the same for all; what follows depends on the answers.

    Args:
        fixed: A ladder whose first rung is taken, and of the others how many items they have.
        tasks: By name; the items of others are taken from the fixed ladder.
    """

    def __init__(self, fixed: Ladder, tasks: Mapping[str, AdaptiveTask]) -> None:
        self._fixed = fixed
        self._tasks = tasks

    @property
    def rungs(self) -> int:
        """As many as the fixed ladder has."""
        return self._fixed.rungs

    def items(self, rung: int, answered: Responses, generation: int = 0) -> Items:
        """Every item of a rung, found anew from the first one upwards."""
        chosen = dict(self._fixed.items(0, answered, generation))
        for step in range(1, rung + 1):
            for task, listed in self._fixed.items(step, answered, generation).items():
                if task not in self._tasks:
                    chosen[task] = listed
                    continue
                known = answered[task].only(chosen[task])
                more = len(listed) - len(chosen[task])
                chosen[task] = (*chosen[task], *self._tasks[task].further(known, more))
        return chosen
