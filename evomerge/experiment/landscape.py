"""Frozen landscapes: every merge of a grid with its answer to every item, read from a file.

``experiments/landscapes/evaluate_grid.py`` makes such files from real models. A search runs on
one with everything but the models: optimizer, estimator, race, store and final scoring.
"""

import itertools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.digest import digest
from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Parameters, Recipe, Rule, Source
from evomerge.core.responses import ItemResponses, Items
from evomerge.fitness.item_bank import SPLITS
from evomerge.spaces.genes import FloatGene, Gene
from evomerge.spaces.space import Baseline, SearchSpace, SourceModels
from evomerge.workers.contract import Answered, Job

OPERATOR = "task_arithmetic"

METRIC = "accuracy"
"""The only one that a landscape has answers in."""

_DIGITS = 6  # grid weights are stored as float32
_REMEMBERED = 64
_FEWEST_LEVELS = 2
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FrozenLandscape:
    """Answers of a grid of merges, one weight an expert, and of every merge in between.

    Between grid points an answer is the multilinear interpolation of those at the corners of
    the cell around it, so that it is graded, 0 … 1. Scores of real merges are smooth in their
    weights; a landscape of steps would have plateaus that no real one has, on which methods
    that move in small steps stand still. On grid points it is exact.
    """

    experts: tuple[str, ...]
    weights: NDArray[np.float64]
    """``(points, experts)``: every combination of one set of levels an expert."""

    responses: Mapping[str, NDArray[np.uint8]]
    """``(points, items)`` 0 or 1, by task."""

    splits: Mapping[str, Items]
    """Items by split, then task."""

    nearest: bool = False
    """Answer as the nearest grid point does, 0 or 1, instead of in between."""

    _levels: tuple[NDArray[np.float64], ...] = field(init=False, repr=False)
    _points: NDArray[np.int64] = field(init=False, repr=False)
    """Row of ``weights`` by level of each expert."""

    _rows: "OrderedDict[tuple[float, ...], dict[str, NDArray[np.float64]]]" = field(
        init=False, repr=False, default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        """Index the grid.

        Raises:
            ValueError: The points are no full grid.
        """
        levels = tuple(np.unique(self.weights[:, k]) for k in range(len(self.experts)))
        shape = tuple(len(each) for each in levels)
        if len(self.weights) != np.prod(shape) or min(shape) < _FEWEST_LEVELS:
            raise ValueError(
                f"{len(self.weights)} points are no full grid of {' × '.join(map(str, shape))}"
            )
        places = tuple(np.searchsorted(own, self.weights[:, k]) for k, own in enumerate(levels))
        points = np.full(shape, -1, dtype=np.int64)
        points[places] = np.arange(len(self.weights))
        if (points < 0).any():
            raise ValueError("grid points are missing and others stand twice")
        object.__setattr__(self, "_levels", levels)
        object.__setattr__(self, "_points", points)

    @classmethod
    def read(cls, path: Path, *, nearest: bool = False) -> "FrozenLandscape":
        """Read a landscape file.

        Args:
            path: An ``.npz`` file of ``evaluate_grid.py``.
            nearest: Answer as the nearest grid point does.

        Raises:
            ConfigError: It is not there, or no landscape.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(*_parts(arrays), nearest)
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such file.") from error
        except _UNREADABLE as error:
            raise _no_landscape(path, error) from error

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.responses)

    @property
    def levels(self) -> tuple[int, ...]:
        """How many weights of each expert were evaluated."""
        return tuple(len(each) for each in self._levels)

    @property
    def models(self) -> SourceModels:
        """Source models in name only."""
        named = [Source(name, f"/frozen/{name}", name) for name in ("base", *self.experts)]
        return SourceModels(base=named[0], experts=tuple(named[1:]), layers=1, seed=0)

    @property
    def fingerprint(self) -> str:
        """Identity of grid, answers and splits."""
        content = [
            self.experts,
            self.weights.tolist(),
            {task: np.packbits(own).tobytes().hex() for task, own in self.responses.items()},
            {split: dict(items) for split, items in self.splits.items()},
            self.nearest,
        ]
        return digest(content)

    def __call__(self, job: Job) -> Answered:
        """Answer a job as a worker would."""
        answers = self.answers(job.recipe)
        return Answered(
            {
                task: ItemResponses(items, {METRIC: tuple(answers[task][list(items)].tolist())})
                for task, items in job.items.items()
            },
            {"merge": 0.0, "evaluate": 0.0},
        )

    def answers(self, recipe: Recipe) -> Mapping[str, NDArray[np.float64]]:
        """A recipe's ``(items,)`` answers by task."""
        wanted = self._weights(recipe)
        if wanted in self._rows:
            self._rows.move_to_end(wanted)
            return self._rows[wanted]
        points, shares = self._corners(wanted)
        found = {task: shares @ own[points] for task, own in self.responses.items()}
        self._rows[wanted] = found
        if len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)
        return found

    def values(
        self, recipe: Recipe, items: Items, objectives: Sequence[Objective]
    ) -> tuple[float, ...]:
        """A recipe's objectives on all of some items."""
        answers = self.answers(recipe)
        means = {task: float(answers[task][list(own)].mean()) for task, own in items.items()}
        return tuple(
            sum(weight * means[task] for task, weight in objective.tasks.items())
            for objective in objectives
        )

    def grid_values(self, items: Items, objectives: Sequence[Objective]) -> NDArray[np.float64]:
        """``(points, objectives)`` of all grid points on all of some items."""
        means = {
            task: self.responses[task][:, list(own)].mean(axis=1) for task, own in items.items()
        }
        columns = [
            sum(weight * means[task] for task, weight in objective.tasks.items())
            for objective in objectives
        ]
        return np.stack(columns, axis=1)

    @property
    def all_items(self) -> Items:
        """The items of all splits."""
        return {
            task: tuple(sorted(i for split in SPLITS for i in self.splits[split][task]))
            for task in self.tasks
        }

    def _weights(self, recipe: Recipe) -> tuple[float, ...]:
        given = recipe.rules[0].models
        return tuple(_weight(given[name]) for name in self.experts)

    def _corners(
        self, wanted: Sequence[float]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the grid points around some weights, and the share of each."""
        if self.nearest:
            distances = ((self.weights - np.array(wanted)) ** 2).sum(axis=1)
            return np.array([np.argmin(distances)]), np.ones(1)
        cells, parts = [], []
        for own, weight in zip(self._levels, wanted, strict=True):
            inside = min(float(own[-1]), max(float(own[0]), weight))
            cell = min(len(own) - 2, int(np.searchsorted(own, inside, side="right")) - 1)
            cells.append(cell)
            parts.append((inside - own[cell]) / (own[cell + 1] - own[cell]))
        corners = np.array(list(itertools.product((0, 1), repeat=len(cells))))
        shares = np.where(corners == 1, parts, 1 - np.array(parts)).prod(axis=1)
        used = shares > 0
        return self._points[tuple((np.array(cells) + corners[used]).T)], shares[used]


class GridSpace(SearchSpace):
    """One weight an expert, over the box that a landscape's grid covers."""

    def __init__(self, landscape: FrozenLandscape) -> None:
        self._models = landscape.models
        self._experts = landscape.experts
        highest = float(landscape.weights.max())
        self._genes = tuple(FloatGene(f"{e}.weight", 0.0, highest) for e in self._experts)

    @property
    @override
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    @override
    def decode(self, genome: Genome) -> Recipe:
        return self._recipe([float(genome[gene.name]) for gene in self._genes])

    @override
    def encode(self, recipe: Recipe) -> Genome | None:
        given = recipe.rules[0].models
        return {
            g.name: _weight(given[e]) for g, e in zip(self._genes, self._experts, strict=True)
        }

    @override
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


def _weight(parameters: Parameters) -> float:
    return float(cast(float, parameters["weight"]))


_Parts = tuple[
    tuple[str, ...],
    NDArray[np.float64],
    dict[str, NDArray[np.uint8]],
    dict[str, dict[str, tuple[int, ...]]],
]


def _parts(arrays: Mapping[str, Any]) -> _Parts:
    """Experts, weights, responses and splits of a landscape file."""
    experts = tuple(map(str, arrays["experts"].tolist()))
    weights = arrays["weights"].astype(np.float64).round(_DIGITS)
    if weights.ndim != 2 or weights.shape[1] != len(experts):
        raise ValueError(f"weights of shape {weights.shape} for {len(experts)} experts")
    responses: dict[str, NDArray[np.uint8]] = {}
    splits: dict[str, dict[str, tuple[int, ...]]] = {split: {} for split in SPLITS}
    for task in map(str, arrays["tasks"].tolist()):
        count = int(arrays[f"{task}/items"])
        bits = np.unpackbits(arrays[f"{task}/responses"], axis=1)[:, :count]
        if bits.shape != (len(weights), count):
            raise ValueError(f"answers to {task} of shape {bits.shape}")
        responses[task] = bits
        for split in SPLITS:
            splits[split][task] = tuple(map(int, arrays[f"{task}/{split}"].tolist()))
        _check_splits(task, [splits[split][task] for split in SPLITS], count)
    if not responses:
        raise ValueError("no task")
    return experts, weights, responses, splits


def _check_splits(task: str, splits: Sequence[tuple[int, ...]], count: int) -> None:
    """Raise ValueError where a split is empty, leaves the items or shares one with another."""
    everything = [item for split in splits for item in split]
    if not all(splits) or len(set(everything)) < len(everything):
        raise ValueError(f"splits of {task} are empty or share items")
    if min(everything) < 0 or max(everything) >= count:
        raise ValueError(f"splits of {task} name items beyond its {count}")


def _no_landscape(path: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split()).rstrip(".")
    return ConfigError(
        f"{path}: no frozen landscape ({type(error).__name__}: {reason}); expected an .npz "
        "file as experiments/landscapes/evaluate_grid.py writes it."
    )
