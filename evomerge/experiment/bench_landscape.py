"""Comparisons on a frozen landscape: the real search, with no model to evaluate."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Objective, losses
from evomerge.core.pareto import front_mask, hypervolume, reference_point
from evomerge.core.responses import Items
from evomerge.core.streams import stream
from evomerge.experiment.bench_contestants import Contestant
from evomerge.experiment.bench_problem import (
    FINALISTS,
    Problem,
    RunOne,
    Stops,
    chosen_after,
)
from evomerge.experiment.landscape import METRIC, FrozenLandscape, GridSpace
from evomerge.fitness.estimate import MeanEstimator
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.report.bench_results import BenchProblem, BenchRun, Point, Stop
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts, Search
from evomerge.search.observer import Observer
from evomerge.search.scoring import Scoring
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial
from evomerge.workers.contract import Evaluation
from evomerge.workers.inline import InlineWorkers

_MEMORY = Path("/dev/shm")


class LandscapeProblem(Problem):
    """Searches of a landscape's box, judged on its test items.

    Every search with one seed puts the same few search items of each task to its candidates,
    drawn by the seed: the usual noise of cheap fitness. The final phase sees all validation
    items, and what it chooses is judged on all test items.

    Args:
        name: For reports.
        landscape: What is searched.
        objectives: Means of its tasks.
        items: Search items a task; None puts all of them.
        stops: When runs are judged; the last ends them.
    """

    def __init__(
        self,
        name: str,
        landscape: FrozenLandscape,
        objectives: tuple[Objective, ...],
        items: int | None,
        stops: Stops,
    ) -> None:
        self._name = name
        self._landscape = landscape
        self._space = GridSpace(landscape)
        self._objectives = objectives
        self._items = items
        self._stops = stops

    @cached_property
    @override
    def facts(self) -> BenchProblem:
        landscape, test = self._landscape, self._landscape.splits["test"]
        grid = landscape.grid_values(test, self._objectives)
        points = np.array([losses(self._objectives, row) for row in grid.tolist()])
        front = grid[front_mask(points)]
        if len(self._objectives) > 1:
            best = hypervolume(points, np.array(self._reference))
        else:
            best = float(grid[points[:, 0].argmin(), 0])
        return BenchProblem(
            name=self._name,
            objectives=self._objectives,
            budgets=self._stops.budgets,
            facts=self._sentences(),
            best=best,
            best_front=tuple(map(tuple, front.tolist())) if len(self._objectives) > 1 else (),
        )

    @property
    @override
    def identity(self) -> Mapping[str, Any]:
        return {
            "landscape": self._landscape.fingerprint,
            "objectives": [objective.to_plain() for objective in self._objectives],
            "items": self._items,
            "stops": list(self._stops.curve),
            "finalists": FINALISTS,
        }

    @override
    def check(self, contestants: Sequence[Contestant]) -> list[str]:
        problems = [
            problem
            for contestant in contestants
            for problem in contestant.problems(len(self._space.genes), len(self._objectives))
        ]
        fewest = min(map(len, self._landscape.splits["search"].values()))
        if self._items is not None and self._items > fewest:
            problems.append(
                f"--items {self._items}: {self._name} has {fewest} search items of a task; "
                "give no more, or 'all'."
            )
        return problems

    @override
    @contextmanager
    def seeded(self, seed: int) -> Iterator[RunOne]:
        scoring = self._scoring(seed)

        def run(contestant: Contestant, observer: Observer) -> BenchRun:
            begun = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
                found = self._searched(contestant, seed, scoring, Path(folder), observer)
                reason, trials = found
            mine = [trial for trial in trials if trial.kind == "candidate"]
            return BenchRun(
                problem=self._name,
                contestant=contestant.label,
                seed=seed,
                stops=tuple(self._stop(mine, count) for count in self._stops.curve),
                candidates=len(mine),
                ended=reason,
                seconds=time.perf_counter() - begun,
                item_evaluations=sum(trial.item_evaluations for trial in trials),
                reference=self._reference,
                sources=self._sources,
            )

        yield run

    def _searched(
        self,
        contestant: Contestant,
        seed: int,
        scoring: Scoring,
        folder: Path,
        observer: Observer,
    ) -> tuple[str, list[Trial]]:
        """Why the search ended, and its trials."""
        with StudyStore.create(folder, {"settings_digest": scoring.settings}) as store:
            parts = Parts(
                space=self._space,
                optimizer=contestant.optimizer(
                    SearchProblem(
                        self._space.genes,
                        len(self._objectives),
                        seed,
                        self._initial,
                        self._space.expressed,
                    )
                ),
                scoring=scoring,
                workers=InlineWorkers(lambda _: Evaluation(self._landscape)),
                store=store,
                observer=observer,
            )
            reason = Search(parts, Budget(candidates=self._stops.budgets[-1])).run()
            return reason, store.trials()

    def _stop(self, candidates: Sequence[Trial], count: int) -> Stop:
        splits = self._landscape.splits
        chosen = chosen_after(
            candidates,
            count,
            self._objectives,
            self._space.smooth_genes,
            lambda trial: self._values(trial, splits["validation"]),
        )
        return Stop(
            count,
            tuple(self._values(trial, splits["test"]) for trial in chosen),
            tuple(self._values(trial, self._all_items) for trial in chosen),
        )

    def _values(self, trial: Trial, items: Items) -> Point:
        return self._landscape.values(trial.recipe, items, self._objectives)

    @cached_property
    def _all_items(self) -> Items:
        return self._landscape.all_items

    @cached_property
    def _initial(self) -> list[dict[str, Any]]:
        encoded = [self._space.encode(each.recipe) for each in self._space.baselines()]
        return [dict(genome) for genome in encoded if genome is not None]

    @cached_property
    def _sources(self) -> tuple[Point, ...]:
        test = self._landscape.splits["test"]
        return tuple(
            self._landscape.values(baseline.recipe, test, self._objectives)
            for baseline in self._space.baselines()
            if baseline.kind == "source"
        )

    @cached_property
    def _reference(self) -> Point:
        """A tenth of the sources' range beyond the worst of them, in every objective."""
        points = np.array([losses(self._objectives, point) for point in self._sources])
        return tuple(reference_point(points).tolist())

    def _scoring(self, seed: int) -> Scoring:
        splits = self._landscape.splits
        search = {
            task: own if self._items is None else _drawn(own, self._items, seed, task)
            for task, own in splits["search"].items()
        }
        return Scoring(
            objectives=self._objectives,
            estimator=MeanEstimator({task: len(own) for task, own in splits["search"].items()}),
            items={**splits, "search": search},
            versions=dict.fromkeys(self._landscape.tasks, "frozen"),
            settings="frozen",
            finalists=FINALISTS,
        )

    def _sentences(self) -> tuple[str, ...]:
        landscape = self._landscape
        grid = " × ".join(map(str, landscape.levels))
        sizes = [min(map(len, landscape.splits[s].values())) for s in ("validation", "test")]
        put = "all search items" if self._items is None else f"{self._items} search items"
        return (
            f"A frozen landscape: {len(landscape.weights):,} merges of "
            f"{', '.join(landscape.experts)} with a common base, on a grid of {grid} weights "
            f"from 0 to {landscape.weights.max():g}, with their answers to every item; between "
            "grid points answers are interpolated.",
            f"A candidate answers {put} of each of {', '.join(landscape.tasks)}; "
            f"{FINALISTS} finalists answer {sizes[0]} validation items of each, and what is "
            f"chosen is judged on {sizes[1]} test items of each.",
        )


def landscape_objectives(given: str | None, tasks: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives that a word of the command line stands for.

    Args:
        given: ``mean`` (of all tasks; also None), ``each`` (one a task), ``first`` (the first
            task against the mean of the others), or a list such as ``sort,score+town``.
        tasks: The landscape's.

    Raises:
        ConfigError: A task that there is not, or too few for what is asked.
    """
    groups = {
        None: [list(tasks)],
        "mean": [list(tasks)],
        "each": [[task] for task in tasks],
        "first": [[tasks[0]], list(tasks[1:])],
    }.get(given) or [part.split("+") for part in (given or "").split(",")]
    named = [task for group in groups for task in group]
    problems = [
        f"--objectives {given}: {unknown('task', task, tasks)}"
        for task in named
        if task not in tasks
    ]
    problems += [
        f"--objectives {given}: an objective names a task twice or none."
        for group in groups
        if not group or len(set(group)) < len(group)
    ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return tuple(Objective(METRIC, dict.fromkeys(g, 1 / len(g))) for g in groups)


def _drawn(items: Sequence[int], count: int, seed: int, task: str) -> tuple[int, ...]:
    rng = stream(seed, "bench", "items", task)
    chosen = rng.choice(len(items), min(count, len(items)), replace=False)
    return tuple(sorted(items[k] for k in chosen.tolist()))


def _scratch() -> Path | None:
    """Where studies that nobody keeps are written: in memory where that can be."""
    return _MEMORY if _MEMORY.is_dir() else None
