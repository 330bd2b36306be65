"""Estimators: from responses to a few items to objectives with standard errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.responses import ItemResponses, Responses
from evomerge.fitness.estimators.contract import BankMeanEstimator
from evomerge.fitness.scale import Scale


class Estimator(Protocol):
    """Predicts what a model would score on all items from its responses to some."""

    def estimate(
        self, responses: Responses, objectives: Sequence[Objective]
    ) -> tuple[Estimate, ...]:
        """One estimate an objective, in order, in the metric's own direction.

        Raises:
            ConfigError: An objective needs a task or metric that was not answered.
        """


@dataclass(frozen=True)
class MeanEstimator:
    """The mean of the answered items, task by task, weighted over the objective's tasks.

    The variance of a task's mean is s²/n · (1 - n/N): the sample variance of its n answered
    items, with the correction for n drawn from N without replacement (Cochran, Sampling
    Techniques, 3rd ed., eq. 2.20). Tasks are independent. Items that all score the same
    give a standard error of 0, however few they are.
    """

    split_sizes: Mapping[str, int] = field(default_factory=dict)
    """Items N of the split that were drawn from, by task; without it N is infinite."""

    cautious: bool = False
    """Whether scores within 0…1 are joined by two pseudo-answers, 0 and 1, for the variance
    (Agresti and Coull 1998), so that a handful of equal answers does not claim certainty."""

    def estimate(
        self, responses: Responses, objectives: Sequence[Objective]
    ) -> tuple[Estimate, ...]:
        """One estimate an objective, in order.

        Raises:
            ConfigError: An objective needs a task or metric that was not answered, or a task
                has one answered item of several, from which no variance can be told.
        """
        return tuple(self._one(responses, objective) for objective in objectives)

    def _one(self, responses: Responses, objective: Objective) -> Estimate:
        value = variance = 0.0
        for task, weight in objective.tasks.items():
            answers = item_values(responses, task, objective.metric)
            value += weight * float(answers.mean())
            variance += weight**2 * self._variance_of_mean(task, answers)
        return Estimate(value, math.sqrt(variance))

    def _variance_of_mean(self, task: str, answers: np.ndarray) -> float:
        count = len(answers)
        size = self.split_sizes.get(task, math.inf)
        if count >= size:
            return 0.0
        if count == 1:
            raise ConfigError(
                f"task {task}: 1 item answered; a standard error needs at least 2 "
                "(fitness: items)."
            )
        spread = answers
        sampled = task in self.split_sizes  # of others, values tell their own error
        if self.cautious and sampled and answers.min() >= 0 and answers.max() <= 1:
            spread = np.append(answers, (0.0, 1.0))
        return float(spread.var(ddof=1)) / count * (1 - count / size)


def item_values(responses: Responses, task: str, metric: str) -> np.ndarray:
    """One metric's item values of a task, ``(items,)``, not empty.

    Raises:
        ConfigError: The task was not answered, or has no such metric.
    """
    if task not in responses:
        raise ConfigError(unknown("task", task, responses))
    answered = responses[task]
    if metric not in answered.values:
        raise ConfigError(f"task {task}: {unknown('metric', metric, answered.values)}")
    if not answered.items:
        raise ConfigError(f"task {task}: no item was answered; ask for at least 2.")
    return np.asarray(answered.values[metric], dtype=np.float64)


@dataclass(frozen=True)
class TaskEstimator:
    """A fitted estimator of one metric's mean over one task's bank."""

    fitted: BankMeanEstimator
    columns: Mapping[int, int]
    """Column of the calibration's matrix by item."""

    scale: Scale
    """How the metric's values lie in the calibration's matrix."""

    def estimate(self, answered: ItemResponses, metric: str) -> Estimate:
        """The bank's mean of a metric."""
        columns = np.array([self.columns[item] for item in answered.items], dtype=np.intp)
        values = np.asarray(answered.values[metric], dtype=np.float64)
        return self.scale.undone(self.fitted.estimate(columns, self.scale.applied(values)))


@dataclass(frozen=True)
class BankEstimator:
    """Estimates objectives by what is fitted to each task and metric; tasks are independent."""

    fitted: Mapping[tuple[str, str], TaskEstimator]
    """By task and metric. Tasks without one have a single score for all their items: the
    mean of the answers, with the standard error of a mean."""

    def estimate(
        self, responses: Responses, objectives: Sequence[Objective]
    ) -> tuple[Estimate, ...]:
        """One estimate an objective, in order.

        Raises:
            ConfigError: An objective needs a task or metric that was not answered.
        """
        return tuple(self._one(responses, objective) for objective in objectives)

    def _one(self, responses: Responses, objective: Objective) -> Estimate:
        value = variance = 0.0
        for task, weight in objective.tasks.items():
            item_values(responses, task, objective.metric)  # refuses what was not answered
            of_task = self.fitted.get((task, objective.metric))
            if of_task is not None:
                found = of_task.estimate(responses[task], objective.metric)
            else:
                alone = Objective(objective.metric, {task: 1.0})
                (found,) = MeanEstimator().estimate(responses, [alone])
            value += weight * found.value
            variance += (weight * found.standard_error) ** 2
        return Estimate(value, math.sqrt(variance))
