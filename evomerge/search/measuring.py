"""Measuring: what a trial's answers come to, its objectives and its constraints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evomerge.core.constraints import Constraint, total_violation
from evomerge.core.errors import TrialError
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.outcomes import Failed
from evomerge.core.responses import Items, Responses
from evomerge.search.asking import covers, only
from evomerge.search.item_scores import item_scores
from evomerge.search.objective_values import ObjectiveValues
from evomerge.search.scoring import Fitness, Scoring
from evomerge.store.trials import Trial

ReadSources = Callable[[], Mapping[str, Responses]]
"""Gives the stored responses of every source model that was scored, by its name."""


class Measuring:
    """Turns responses into estimates of objectives and constraints, and these into an end.

    Args:
        scoring: The study's.
        fitness: What estimates means over items.
        read_sources: For what is compared with source models.
        by_item: Whether every item's score is wanted besides, which some metrics do not allow.
    """

    def __init__(
        self,
        scoring: Scoring,
        fitness: Fitness,
        read_sources: ReadSources,
        *,
        by_item: bool = False,
    ) -> None:
        self._scoring = scoring
        self._fitness = fitness
        self._read_sources = read_sources
        self._by_item = by_item
        constraints = scoring.constraints
        self._objectives = self._values(scoring.objectives)
        self._paired = self._values([c.measured for c in constraints])
        self._apart = self._values([c.quantity for c in constraints])
        self._references = {c.reference or "" for c in constraints if c.is_loss}
        self._known: Mapping[str, Responses] = {}
        self._compared: Items = {}

    def _values(self, quantities: Sequence[Objective]) -> ObjectiveValues:
        scoring = self._scoring
        return ObjectiveValues(
            quantities,
            self._fitness.estimator,
            scoring.derived or scoring.estimator,
            scoring.recipe_value,
            self._read_sources,
        )

    def ended(self, trial: Trial, responses: Responses) -> Trial:
        """The trial as it ends with the responses to exactly the items that are to count."""
        try:
            measured = self.measured(trial, responses)
            if self._by_item:
                item_scores(self._scoring.objectives, responses)
        except TrialError as error:
            return replace(trial, status="failed", failure=Failed("score", str(error)))
        return replace(measured, status="complete")

    def measured(self, trial: Trial, responses: Responses) -> Trial:
        """The trial with the estimates that these responses give.

        Raises:
            TrialError, ConfigError: As ``ObjectiveValues.of`` does.
        """
        estimates = self._objectives.of(trial, responses)
        constraints = self._of_constraints(trial, responses)
        missed = total_violation(self._scoring.constraints, constraints)
        return replace(trial, estimates=estimates, constraints=constraints, violation=missed)

    def _of_constraints(self, trial: Trial, responses: Responses) -> tuple[Estimate, ...]:
        """One estimate a constraint.

        A loss is the mean difference to the reference item by item, where both have answered
        the same items and these are all that counts. Where the estimator predicts what others
        answer to the rest of the bank, or items rotate past those that the reference has
        answered, it is the difference of the two estimates, their errors independent.
        """
        constraints = self._scoring.constraints
        if not constraints:
            return ()
        if not self._references:
            return self._apart.of(trial, responses)
        known = self._known_to(trial, responses)
        if not self._fitness.predicts and self._cover(known, _items(responses)):
            return self._paired.of(trial, responses)
        own = self._apart.of(trial, responses)
        return tuple(
            self._loss(constraint, estimate, known) if constraint.is_loss else estimate
            for constraint, estimate in zip(constraints, own, strict=True)
        )

    def _known_to(self, trial: Trial, responses: Responses) -> Mapping[str, Responses]:
        """What the references have answered; read anew only where more may be known."""
        if trial.kind == "source":  # a reference is compared with itself
            return {**self._read_sources(), trial.name: responses}
        items = _items(responses)
        if items != self._compared:
            self._compared = items
            if not self._cover(self._known, items):
                self._known = self._read_sources()
        return self._known

    def _cover(self, known: Mapping[str, Responses], items: Items) -> bool:
        return all(covers(known.get(name, {}), items) for name in self._references)

    def _loss(
        self, constraint: Constraint, own: Estimate, known: Mapping[str, Responses]
    ) -> Estimate:
        """The reference's score on the items that every source answers, less a trial's own."""
        name = constraint.reference or ""
        items = self._scoring.items["search"]
        tasks = {task: items[task] for task in constraint.quantity.tasks}
        if not covers(known.get(name, {}), tasks):
            raise TrialError(f"{constraint.name}: source model {name!r} has not been scored.")
        (whole,) = self._scoring.estimator.estimate(
            only(known[name], tasks), [constraint.quantity]
        )
        error = (own.standard_error**2 + whole.standard_error**2) ** 0.5
        return Estimate(whole.value - own.value, error)

    def waves(self, plain: Sequence[Trial]) -> list[list[Trial]]:
        """Sources and baselines in groups, each to be finished before the next begins.

        Where others are compared with sources, reference models come first, then the other
        sources, so that no value depends on which of several workers is faster.
        """
        groups = self._objectives.waves(plain)
        if not self._references:
            return groups
        first = [t for t in plain if t.kind == "source" and t.name in self._references]
        numbers = {t.number for t in first}
        rest = [[t for t in group if t.number not in numbers] for group in groups]
        return [first, *rest]

    def refuse_lost_references(self, trials: Sequence[Trial]) -> None:
        """End a search that nothing could be compared in.

        Raises:
            TrialError: A reference model could not be scored.
        """
        self._objectives.refuse_lost_references(trials)
        for trial in trials:
            if trial.kind == "source" and trial.name in self._references and trial.failure:
                raise TrialError(
                    f"a constraint bounds what is lost against source model {trial.name!r}, "
                    f"which could not be scored: {trial.failure.reason}"
                )


def _items(responses: Responses) -> dict[str, tuple[int, ...]]:
    return {task: answered.items for task, answered in responses.items()}
