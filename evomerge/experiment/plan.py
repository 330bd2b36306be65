"""What an experiment is about to do, in a few sentences."""

import os
from collections.abc import Sequence
from pathlib import Path

from evomerge.experiment.fitness import is_calibrated
from evomerge.experiment.fitness_spec import StudyCalibration
from evomerge.experiment.prepare import Prepared
from evomerge.optimizers.genetic.options import NSGA2_POPULATION
from evomerge.optimizers.options import Parallel
from evomerge.optimizers.registry import checked_options
from evomerge.search.budget import Budget


def plan(
    prepared: Prepared,
    budget: Budget,
    workers: Sequence[str] = (),
    run_dir: Path | None = None,
) -> tuple[str, ...]:
    """Models, space, items, budget and workers, one line each."""
    spec = prepared.spec
    reference = prepared.sources[prepared.models.sources[0].name]
    millions = sum(info.entries for info in reference.tensors.values()) / 1e6
    operators = " or ".join(spec.space.operator)
    lines = [
        f"{spec.name}: {len(prepared.sources)} source models of {millions:,.1f} M parameters "
        f"({', '.join(prepared.sources)})",
        f"space: {operators} with {len(prepared.space.genes)} genes; "
        f"optimizer: {spec.optimizer.name}, seed {spec.seed}",
        f"{_items(prepared)} for {_objectives(prepared)}",
        *_constraints(prepared),
        f"budget: {_budget(budget)}; {len(prepared.space.baselines())} sources and baselines "
        "are scored first",
    ]
    lines += [f"workers: {workers[0]}", *workers[1:]] if workers else []
    lines += [f"note: {note}" for note in [*prepared.notes, *_waits(prepared)]]
    if run_dir is not None:
        lines.append(f"run directory: {run_dir}")
    return tuple(lines)


def _waits(prepared: Prepared) -> list[str]:
    """Cores or workers that would have nothing to do, and how they would."""
    spec = prepared.spec
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = []
    free = int((cores or 1) // spec.workers.cpus)
    if not spec.workers.on_ray and spec.device == "cpu" and free > 1:
        found.append(
            f"this machine has {cores} cores, of which one worker uses {spec.workers.cpus:g}; "
            f"'workers.count: {free}' uses all of them, with the same results."
        )
    options = checked_options(spec.optimizer.name, spec.optimizer.options)
    parallel = options if isinstance(options, Parallel) else getattr(options, "parallel", None)
    count = spec.workers.count
    if parallel and not parallel.asynchronous and count > max(1, parallel.ahead):
        population = getattr(options, "population", None) or NSGA2_POPULATION
        enough = count * (2 if count <= population else 4)
        found.append(
            f"up to {count} workers wait for the last outcomes that {spec.optimizer.name} "
            f"needs to go on; 'optimizer.ahead: {enough}' keeps them busy, and what is "
            "proposed stays the same for any number of workers."
        )
    return found


def _items(prepared: Prepared) -> str:
    """What candidates answer, rung by rung, and what the estimator is made from."""
    fitness = prepared.spec.fitness
    banks = prepared.banks.values()
    counts = [
        sum(len(bank) if rung == "all" else min(rung, len(bank)) for bank in banks)
        for rung in fitness.items.search
    ]
    said = f"each candidate answers {counts[0]:,} items"
    if len(counts) > 1:
        said += f", those that may still win {', then '.join(f'{c:,}' for c in counts[1:])},"
    said += f" of {len(prepared.tasks)} tasks ({', '.join(prepared.tasks)})"
    if is_calibrated(fitness):
        given = fitness.calibration
        merges = given.merges if isinstance(given, StudyCalibration) else 0
        first = f", baselines and the first {merges} candidates" if merges else " and baselines"
        said += (
            f", estimated by {fitness.estimator}; sources{first} answer the bank of "
            f"{sum(map(len, banks)):,};"
        )
    return said


def _objectives(prepared: Prepared) -> str:
    return ", ".join(f"{o.direction} {o.name}" for o in prepared.objectives)


def _constraints(prepared: Prepared) -> list[str]:
    said = "; ".join(f"{each.name} {each.limit}" for each in prepared.constraints)
    return [f"constraints: {said}"] if said else []


def _budget(budget: Budget) -> str:
    parts = []
    if budget.candidates is not None:
        parts.append(f"{budget.candidates:,} candidates")
    if budget.minutes is not None:
        parts.append(f"{budget.minutes:g} minutes")
    if budget.item_evaluations is not None:
        parts.append(f"{budget.item_evaluations:,} item evaluations")
    return " or ".join(parts)
