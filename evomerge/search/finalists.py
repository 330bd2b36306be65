"""Which candidates are re-scored on validation items, and which of those on test items."""

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Objective, losses
from evomerge.core.pareto import front_mask, hypervolume, reference_point
from evomerge.search.smoothing import smoothed_losses
from evomerge.spaces.genes import Gene, genome_to_unit
from evomerge.store.trials import Trial

_CONSIDERED = 400
"""The best so many candidates are compared in the light of each other; more take too long."""


def finalists(
    candidates: Sequence[Trial],
    objectives: Sequence[Objective],
    genes: Sequence[Gene],
    limit: int,
    constraints: Sequence[Constraint] = (),
) -> list[int]:
    """The candidates that are worth further items, by estimates smoothed over their genomes.

    The search's own front is not trusted alone: of many uncertain scores the best are mostly
    lucky ones. Those that meet the constraints come first. Places that these leave go to
    those that miss them least, which other items may find within the bounds; but where some
    meet them, to none that misses what its recipe alone decides.

    Args:
        candidates: Those with estimates.
        objectives: What they were estimated for.
        genes: Those by which candidates tell of each other (``SearchSpace.smooth_genes``).
        limit: How many to choose.
        constraints: Of the study.

    Returns:
        Trial numbers in ascending order; of equals, and of one recipe, the first asked.
    """
    feasible = [trial for trial in candidates if trial.feasible]
    chosen = _feasible_finalists(feasible, objectives, genes, limit)
    others = [
        trial
        for trial in candidates
        if not trial.feasible and not (feasible and barred_by_recipe(trial, constraints))
    ]
    others.sort(key=lambda trial: (trial.violation, trial.number))
    return sorted(chosen + [trial.number for trial in others[: limit - len(chosen)]])


def barred_by_recipe(trial: Trial, constraints: Sequence[Constraint]) -> bool:
    """Whether a scored trial misses a constraint that no further item can change."""
    return any(
        constraint.of_recipe and constraint.violation(estimate) > 0
        for constraint, estimate in zip(constraints, trial.constraints, strict=False)
    )


def _feasible_finalists(
    candidates: Sequence[Trial],
    objectives: Sequence[Objective],
    genes: Sequence[Gene],
    limit: int,
) -> list[int]:
    own = {trial.number: losses(objectives, trial.values) for trial in _distinct(candidates)}
    considered = best(own, _CONSIDERED)
    by_number = {trial.number: trial for trial in candidates}
    chosen = [by_number[number] for number in considered]
    if not chosen:
        return []
    points = np.array([genome_to_unit(genes, t.genome or {}) for t in chosen])
    errors = [[e.standard_error for e in t.estimates] for t in chosen]
    made = smoothed_losses(points, np.array([own[n] for n in considered]), errors)
    if len(objectives) == 1:
        order = np.argsort(made[:, 0], kind="stable")
        return sorted(considered[k] for k in order[:limit].tolist())
    return best(dict(zip(considered, map(tuple, made.tolist()), strict=True)), limit)


def _distinct(candidates: Sequence[Trial]) -> list[Trial]:
    """The first trial of each recipe, in the order in which they were asked."""
    first: dict[str, Trial] = {}
    for trial in sorted(candidates, key=lambda trial: trial.number):
        first.setdefault(trial.recipe.digest, trial)
    return list(first.values())


def best(points: Mapping[int, tuple[float, ...]], limit: int) -> list[int]:
    """The best points by non-dominated sorting, at most ``limit``.

    The front first, then the front of what is left, and so on: where scores are uncertain, a
    point that some luckier one dominates may be the better. The last front that does not fit
    as a whole is thinned by hypervolume.

    Args:
        points: Losses by trial number.
        limit: How many to choose.

    Returns:
        Trial numbers in ascending order.
    """
    chosen: list[int] = []
    left = dict(points)
    while left and len(chosen) < limit:
        front = {number: left.pop(number) for number in undominated(left)}
        chosen += spread(front, limit - len(chosen))
    return sorted(chosen)


def spread(points: Mapping[int, tuple[float, ...]], limit: int) -> list[int]:
    """At most ``limit`` points of a front, chosen greedily by hypervolume.

    Args:
        points: Losses by trial number, none dominated.
        limit: How many to choose.

    Returns:
        Trial numbers in ascending order.
    """
    if len(points) <= limit:
        return sorted(points)
    numbers = sorted(points)
    losses = np.array([points[number] for number in numbers])
    reference = reference_point(losses)
    chosen: list[int] = []
    while len(chosen) < limit:
        volumes = [
            -1.0 if k in chosen else hypervolume(losses[[*chosen, k]], reference)
            for k in range(len(numbers))
        ]
        chosen.append(int(np.argmax(volumes)))
    return sorted(numbers[k] for k in chosen)


def undominated(points: Mapping[int, Sequence[float]]) -> list[int]:
    """Trial numbers of the points that no other dominates, in ascending order."""
    if not points:
        return []
    numbers = sorted(points)
    mask = front_mask(np.array([points[number] for number in numbers]))
    return [number for number, kept in zip(numbers, mask, strict=True) if kept]
