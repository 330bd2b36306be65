"""Scoring: what candidates are asked, and how answers are identified and turned into losses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Objective
from evomerge.core.responses import Items, Responses
from evomerge.fitness.estimate import Estimator
from evomerge.fitness.ladder import FixedLadder, Ladder
from evomerge.search.objective_values import RecipeValue
from evomerge.store.trials import Kind

CONFIDENCE = 0.9
"""How sure a race must be that a candidate is worse than another before it stops it."""


@dataclass(frozen=True)
class Fitness:
    """What candidates answer and how that is turned into estimates."""

    estimator: Estimator
    ladder: Ladder

    predicts: bool = False
    """Whether the estimator tells what would be answered to the rest of the bank; else the
    answered items are all that it goes by."""


@dataclass(frozen=True)
class Reference:
    """A model that has answered the whole search bank."""

    name: str
    kind: Kind
    responses: Responses


@dataclass(frozen=True)
class Calibration:
    """How a study makes its own estimator: some models answer the whole search bank first."""

    candidates: int
    """So many of the first candidates do, besides sources and baselines."""

    fit: Callable[[Sequence[Reference]], Fitness]
    """From the answers of all of them, in the order of their trials and each recipe once, to
    what the others are asked. It draws on nothing else, so that a resumed study gets the
    same."""


@dataclass(frozen=True)
class Scoring:
    """How a study's candidates are scored."""

    objectives: tuple[Objective, ...]

    estimator: Estimator
    """The plain mean; for validation and test items, and where ``fitness`` names none."""

    items: Mapping[str, Items]
    """Chosen items by split: validation, test, and search, which sources, baselines and
    calibrating candidates answer whole."""

    versions: Mapping[str, str]
    """Version by task."""

    settings: str
    """Digest of the evaluation settings."""

    finalists: int = 16
    """How many of the best candidates are re-scored on validation items."""

    fitness: Fitness | None = None
    """For candidates; None: all of them answer the search items."""

    calibration: Calibration | None = None
    """Where ``fitness`` has yet to be made from the study's own first answers."""

    confidence: float = CONFIDENCE
    """Of the race between rungs."""

    derived: Estimator | None = None
    """For objectives whose item values follow from other responses; None: the estimator."""

    recipe_value: RecipeValue | None = None
    """For objectives of the recipe alone."""

    constraints: tuple[Constraint, ...] = ()
    """What every result has to keep."""

    asks: Mapping[str, int] = field(default_factory=dict)
    """How often an item of a task is put to a model; once where not named."""

    @property
    def whole(self) -> Fitness:
        """Every search item, and the plain mean."""
        return Fitness(self.estimator, FixedLadder((self.items["search"],)))

    def cost(self, items: Items) -> int:
        """Item evaluations that it takes to have these items answered."""
        return sum(len(chosen) * self.asks.get(task, 1) for task, chosen in items.items())
