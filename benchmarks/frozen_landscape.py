"""A frozen landscape: every merge of a grid with its answer to every item, for quick searches.

``experiments/landscapes/evaluate_grid.py`` makes such files from real models. A search runs on
one with everything but the models: optimizer, estimator, race, store and final scoring.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.responses import ItemResponses
from evomerge.fitness.item_bank import SPLITS
from evomerge.spaces.genes import FloatGene, Gene
from evomerge.spaces.space import Baseline, SearchSpace, SourceModels
from evomerge.workers.contract import Answered, Job

OPERATOR = "task_arithmetic"


@dataclass(frozen=True, eq=False)
class FrozenLandscape:
    """Answers of a grid of merges, one weight an expert."""

    experts: tuple[str, ...]
    weights: np.ndarray
    """``(points, experts)``."""

    responses: Mapping[str, np.ndarray]
    """``(points, items)`` 0 or 1, by task."""

    splits: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Items by split, then task."""

    @classmethod
    def read(cls, path: Path) -> "FrozenLandscape":
        """Read a landscape file."""
        with np.load(path, allow_pickle=False) as arrays:
            tasks = arrays["tasks"].tolist()
            counts = {task: int(arrays[f"{task}/items"]) for task in tasks}
            return cls(
                tuple(arrays["experts"].tolist()),
                arrays["weights"].astype(np.float64),
                {
                    task: np.unpackbits(arrays[f"{task}/responses"], axis=1)[:, : counts[task]]
                    for task in tasks
                },
                {
                    split: {task: tuple(arrays[f"{task}/{split}"].tolist()) for task in tasks}
                    for split in SPLITS
                },
            )

    @property
    def models(self) -> SourceModels:
        """Source models in name only."""
        named = [Source(name, f"/frozen/{name}", name) for name in ("base", *self.experts)]
        return SourceModels(base=named[0], experts=tuple(named[1:]), layers=1, seed=0)

    def point(self, recipe: Recipe) -> int:
        """The grid point nearest to a recipe's weights."""
        given = recipe.rules[0].models
        wanted = np.array([float(given[name]["weight"]) for name in self.experts])
        return int(np.argmin(((self.weights - wanted) ** 2).sum(axis=1)))

    def __call__(self, job: Job) -> Answered:
        """Answer a job as a worker would."""
        row = self.point(job.recipe)
        return Answered(
            {
                task: ItemResponses(
                    items,
                    {"accuracy": tuple(map(float, self.responses[task][row, list(items)]))},
                )
                for task, items in job.items.items()
            },
            {"merge": 0.0, "evaluate": 0.0},
        )

    def score(self, recipe: Recipe, split: str, objectives: Sequence[Objective]) -> list[float]:
        """A recipe's objectives on all items of a split."""
        row = self.point(recipe)
        return [
            sum(
                weight * float(self.responses[task][row, list(self.splits[split][task])].mean())
                for task, weight in objective.tasks.items()
            )
            for objective in objectives
        ]


class GridSpace(SearchSpace):
    """One weight an expert, over the box that a landscape's grid covers."""

    def __init__(self, landscape: FrozenLandscape) -> None:
        self._models = landscape.models
        self._experts = landscape.experts
        highest = float(landscape.weights.max())
        self._genes = tuple(FloatGene(f"{e}.weight", 0.0, highest) for e in self._experts)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The weights."""
        return self._genes

    def decode(self, genome: Genome) -> Recipe:
        """The merge with these weights."""
        return self._recipe([float(genome[gene.name]) for gene in self._genes])

    def encode(self, recipe: Recipe) -> Genome | None:
        """The weights of a merge."""
        given = recipe.rules[0].models
        return {
            g.name: given[e]["weight"] for g, e in zip(self._genes, self._experts, strict=True)
        }

    def baselines(self) -> tuple[Baseline, ...]:
        """The base, each expert alone at full weight of the box, and all at half of it."""
        highest = self._genes[0].high
        count = len(self._experts)
        alone = np.eye(count) * highest
        return (
            Baseline("source", "base", self._recipe([0.0] * count)),
            *(
                Baseline("source", name, self._recipe(row.tolist()))
                for name, row in zip(self._experts, alone, strict=True)
            ),
            Baseline("baseline", "all at half", self._recipe([highest / 2] * count)),
        )

    def _recipe(self, weights: Sequence[float]) -> Recipe:
        each = {e: {"weight": w} for e, w in zip(self._experts, weights, strict=True)}
        return self._models.recipe([Rule(OPERATOR, each)])
