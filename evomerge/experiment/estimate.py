"""What a run would take: time, memory, disk and item evaluations, from one timed candidate."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.errors import TrialError
from evomerge.core.outcomes import Failed
from evomerge.core.responses import Items
from evomerge.experiment.build import check_sources_finite, make_evaluation
from evomerge.experiment.neighbourhood import asks_per_item
from evomerge.experiment.plan import plan
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.search.budget import Budget
from evomerge.spaces.genes import genome_from_unit
from evomerge.workers.contract import Answered, Evaluate, Job
from evomerge.workers.worker_process import private_memory

_TRIAL_BYTES = 800
"""Of a trial in the database besides genome, recipe and answers: keys, events, indexes."""

_TIMED = 64
"""Items a task put to the timed candidate, at most."""

_PAGES = 1.15
"""What SQLite's pages take more than what is written into them."""


@dataclass(frozen=True)
class Phase:
    """One part of a run."""

    name: str
    models: int
    """Recipes that are merged and scored."""

    least: int
    """Item evaluations where the race stops every candidate at the first rung."""

    most: int
    """Where it stops none."""


@dataclass(frozen=True)
class CostEstimate:
    """What a run would take."""

    plan: tuple[str, ...]
    phases: tuple[Phase, ...]
    loading: float
    """Seconds until a worker is ready."""

    merge: float
    """Seconds to merge a candidate."""

    item: float
    """Seconds an item evaluation."""

    items_timed: int
    """Item evaluations of the timed candidate."""

    workers: int
    worker_memory: int
    """Bytes that a worker holds to itself."""

    shared_memory: int
    """Bytes of mapped source models, once for each machine."""

    database: int
    """Bytes of study.db at most."""

    exported: int
    """Bytes of a model folder written by ``evomerge export``."""

    @property
    def seconds(self) -> tuple[float, float]:
        """Least and most time of the whole run, with every worker busy."""
        merges = sum(phase.models for phase in self.phases) * self.merge
        least, most = (
            self.loading + (merges + self.item * items) / self.workers
            for items in self.item_evaluations
        )
        return least, most

    @property
    def item_evaluations(self) -> tuple[int, int]:
        """Least and most of the whole run."""
        return sum(p.least for p in self.phases), sum(p.most for p in self.phases)


def estimate(path: Path, overrides: tuple[str, ...], *, offline: bool) -> CostEstimate:
    """Prepare an experiment here, time one candidate, and reckon what the run would take.

    Raises:
        EvomergeError: The experiment is wrong, or the candidate cannot be scored.
    """
    begun = time.perf_counter()
    _, prepared = prepare_file(path, overrides, offline=offline)
    check_sources_finite(prepared)
    evaluation = make_evaluation(prepared)
    loading = time.perf_counter() - begun
    timed = _timed(prepared, evaluation.evaluate)
    spec = prepared.spec
    budget = Budget(**spec.budget.model_dump())
    cost = _costs(prepared)
    merge, item = timed.merge, timed.evaluate / max(1, timed.items)
    phases = _phases(prepared, cost, _candidates(prepared, budget, cost, (merge, item)))
    most = sum(phase.most for phase in phases)
    models = sum(phase.models for phase in phases)
    return CostEstimate(
        plan=plan(prepared, budget, evaluation.facts),
        phases=phases,
        loading=loading,
        merge=merge,
        item=item,
        items_timed=timed.items,
        workers=spec.workers.count,
        worker_memory=private_memory(),
        shared_memory=sum(source.size for source in prepared.sources.values()),
        database=int(_PAGES * (most * timed.answer_bytes + models * timed.trial_bytes)),
        exported=prepared.sources[prepared.models.sources[0].name].size,
    )


@dataclass(frozen=True)
class _Timed:
    merge: float
    evaluate: float
    items: int
    answer_bytes: float
    """In the database, an item evaluation."""

    trial_bytes: int


def _timed(prepared: Prepared, evaluate: Evaluate) -> _Timed:
    genes = prepared.space.genes
    genome = genome_from_unit(genes, [0.5] * len(genes))
    recipe = prepared.space.decode(genome)
    last = _rungs(prepared)[-1]
    items = _first_items(prepared.banks, _TIMED if last is None else min(last, _TIMED))
    few = {task: chosen[:1] for task, chosen in items.items()}
    evaluate(Job(0, recipe, few))  # first calls of kernels, templates and tokenizers
    result = evaluate(Job(0, recipe, items))
    if isinstance(result, Failed):
        raise TrialError(
            f"the middle of the search space cannot be scored, so nothing could be timed: "
            f"{result.reason}"
        )
    asked = _cost(items, asks_per_item(prepared))
    return _Timed(
        merge=result.timings.get("merge", 0.0),
        evaluate=result.timings.get("evaluate", 0.0) + result.timings.get("stability", 0.0),
        items=asked,
        answer_bytes=_written(result) / max(1, asked),
        trial_bytes=_TRIAL_BYTES
        + len(json.dumps(recipe.to_plain(), separators=(",", ":")))
        + len(json.dumps(dict(genome), separators=(",", ":"))),
    )


def _written(result: Answered) -> int:
    """Bytes of the answers as they are recorded."""
    return sum(
        len(json.dumps([list(r.items), dict(r.values)], separators=(",", ":")))
        for r in result.responses.values()
    )


def _rungs(prepared: Prepared) -> list[int | None]:
    """Items a task at each rung; None is all of the bank."""
    return [None if rung == "all" else rung for rung in prepared.spec.fitness.items.search]


def _first_items(items: Items, count: int | None) -> Items:
    return {task: tuple(chosen[:count]) for task, chosen in items.items()}


def _cost(items: Items, asks: Mapping[str, int]) -> int:
    return sum(len(chosen) * asks.get(task, 1) for task, chosen in items.items())


@dataclass(frozen=True)
class _Cost:
    """Item evaluations that one model costs."""

    first: int
    """A candidate that is stopped at the first rung."""

    last: int
    """A candidate that goes all the way."""

    whole: int
    """A source or baseline."""

    validation: int
    test: int


def _costs(prepared: Prepared) -> _Cost:
    """Item evaluations that models of an experiment cost."""
    asks = asks_per_item(prepared)
    rungs = [_first_items(prepared.banks, rung) for rung in _rungs(prepared)]
    return _Cost(
        first=_cost(rungs[0], asks),
        last=_cost(rungs[-1], asks),
        whole=_cost(prepared.items["search"], asks),
        validation=_cost(prepared.items["validation"], asks),
        test=_cost(prepared.items["test"], asks),
    )


def _candidates(
    prepared: Prepared, budget: Budget, cost: _Cost, seconds: tuple[float, float]
) -> int:
    """How many the budget allows, where it stops them all at the first rung."""
    plain = len(prepared.space.baselines())
    limits = [budget.candidates] if budget.candidates is not None else []
    if budget.item_evaluations is not None:
        limits.append(max(0, budget.item_evaluations - plain * cost.whole) // cost.first)
    if budget.minutes is not None:
        merge, item = seconds
        left = 60 * budget.minutes * prepared.spec.workers.count
        left -= plain * (merge + item * cost.whole)
        limits.append(max(0, int(left / max(1e-9, merge + item * cost.first))))
    return min(limits)


def _phases(prepared: Prepared, cost: _Cost, candidates: int) -> tuple[Phase, ...]:
    plain = len(prepared.space.baselines())
    finalists = min(prepared.spec.fitness.finalists, candidates)
    return (
        Phase("sources and baselines", plain, plain * cost.whole, plain * cost.whole),
        Phase("search", candidates, candidates * cost.first, candidates * cost.last),
        Phase(
            "validation",
            plain + finalists,
            (plain + finalists) * cost.validation,
            (plain + finalists) * cost.validation,
        ),
        Phase(
            "test",
            plain + finalists,
            (plain + 1) * cost.test,
            (plain + finalists) * cost.test,
        ),
    )
