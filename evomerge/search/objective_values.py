"""From a trial's responses and recipe to its objectives: the one place where kinds differ."""

from collections.abc import Callable, Mapping, Sequence

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.recipe import Recipe
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.collapse import collapsed
from evomerge.fitness.derived_metrics import DERIVED, with_derived
from evomerge.fitness.estimate import Estimator
from evomerge.store.trials import Trial

RecipeValue = Callable[[Objective, Recipe], float]
"""The value of an objective of the recipe alone."""


class ObjectiveValues:
    """Estimates every objective of a trial.

    Args:
        objectives: In the order of the results.
        estimator: For objectives that are a mean over items.
        derived: For objectives whose item values follow from other responses; a plain mean,
            since they hold for these items only.
        recipe_value: For objectives without a task.
        read_sources: Gives the stored responses of every source model that was scored, by
            its name.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        estimator: Estimator,
        derived: Estimator,
        recipe_value: RecipeValue | None,
        read_sources: Callable[[], Mapping[str, Responses]],
    ) -> None:
        self._objectives = tuple(objectives)
        self._estimator = estimator
        self._derived = derived
        self._recipe_value = recipe_value
        self._read_sources = read_sources
        self._sources: Mapping[str, Responses] = {}
        self._compared: tuple[Items, dict[str, Responses]] = ({}, {})
        self._references = {o.reference for o in objectives if o.kind == "forgetting"}
        self._guards = any(o.collapse is not None for o in objectives)

    def of(self, trial: Trial, responses: Responses) -> tuple[Estimate, ...]:
        """One estimate an objective, in order.

        Args:
            trial: Any; source models are not refused for collapsed outputs, they are what
                others are compared with.
            responses: To exactly the items that are to count, none where no objective has a
                task.

        Raises:
            TrialError: Its outputs have collapsed, or a reference has not answered the items.
            ConfigError: As the estimators do.
        """
        sources: Mapping[str, Responses] = {}
        if self._references or self._guards:
            sources = self._same_items(responses, complete=trial.kind != "source")
        if trial.kind == "source":  # a reference is compared with itself
            sources = {**sources, trial.name: responses}
        reason = collapsed(responses, self._objectives, sources)
        if reason and trial.kind != "source":
            raise TrialError(reason)
        everything = with_derived(responses, self._objectives, sources)
        found: dict[int, Estimate] = {}
        for kind, estimator in ((False, self._estimator), (True, self._derived)):
            places = [
                k
                for k, o in enumerate(self._objectives)
                if o.tasks and (o.kind in DERIVED) == kind
            ]
            chosen = [self._objectives[k] for k in places]
            if chosen:
                found |= zip(places, estimator.estimate(everything, chosen), strict=True)
        return tuple(
            found[k] if k in found else self._of_recipe(objective, trial.recipe)
            for k, objective in enumerate(self._objectives)
        )

    def waves(self, plain: Sequence[Trial]) -> list[list[Trial]]:
        """Sources and baselines in groups, each to be finished before the next begins.

        Where others are compared with sources, reference models come first, then the other
        sources, so that no value depends on which of several workers is faster.
        """
        if not self._references and not self._guards:
            return [list(plain)]

        def wave(trial: Trial) -> int:
            if trial.kind != "source":
                return 2
            return 0 if trial.name in self._references else 1

        return [[t for t in plain if wave(t) == number] for number in range(3)]

    def refuse_lost_references(self, trials: Sequence[Trial]) -> None:
        """End a search that nothing could be compared in.

        Raises:
            TrialError: A reference model could not be scored.
        """
        for trial in trials:
            if trial.kind == "source" and trial.name in self._references and trial.failure:
                raise TrialError(
                    f"forgetting is measured against source model {trial.name!r}, which could "
                    f"not be scored: {trial.failure.reason}"
                )

    def _of_recipe(self, objective: Objective, recipe: Recipe) -> Estimate:
        if self._recipe_value is None:
            raise TrialError(f"nothing tells the {objective.name} of a recipe.")
        return Estimate(float(self._recipe_value(objective, recipe)), 0.0)

    def _same_items(self, responses: Responses, *, complete: bool) -> dict[str, Responses]:
        """The sources' responses to the same items; sources that lack some are left out.

        Args:
            responses: Name the items.
            complete: Whether all sources have been scored; what was read is then kept.
        """
        items = {task: answered.items for task, answered in responses.items()}
        if not complete:
            return _answered(self._read_sources(), items)
        if self._compared[1] and items == self._compared[0]:
            return self._compared[1]
        found = _answered(self._sources, items)
        if len(found) < len(self._sources) or not found:
            self._sources = self._read_sources()
            found = _answered(self._sources, items)
        self._compared = (items, found)
        return found


def _answered(sources: Mapping[str, Responses], items: Items) -> dict[str, Responses]:
    found: dict[str, Responses] = {}
    for name, known in sources.items():
        if all(t in known and set(asked) <= set(known[t].items) for t, asked in items.items()):
            part: dict[str, ItemResponses] = {t: known[t].only(i) for t, i in items.items()}
            found[name] = part
    return found
