"""Which results of a study are worth going on with, best first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.constraints import total_violation
from evomerge.core.objectives import Estimate, losses
from evomerge.core.pareto import Losses, hypervolume, reference_point
from evomerge.report.final_phase import constraint_estimates, estimates
from evomerge.report.search_phase import balanced
from evomerge.report.split_responses import SplitResponses
from evomerge.report.study_facts import StudyFacts
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial

_KINDS = ("source", "baseline", "candidate")


def ranked(store: StudyStore, facts: StudyFacts) -> list[Trial]:
    """Finalists, sources and baselines of a finished study, best on validation items first.

    What misses constraints there comes after everything that meets them, the least violating
    first.

    With one objective by their scores; a candidate that is no better than a source or baseline
    comes after it. With several, front by front (what is dominated only by the fronts before);
    on each the candidates come first, the most balanced of them before the one that adds most
    hypervolume, and so on; then sources and baselines in the same way. Each recipe comes once.
    Test items are not looked at.

    Args:
        store: The study.
        facts: What it says.
    """
    validated = _validated(store, facts)
    met = [each for each in validated if not each.violation]
    missed = sorted((e for e in validated if e.violation), key=lambda e: e.violation)
    points = np.array([losses(facts.objectives, [e.value for e in v.scores]) for v in met])
    order: list[int] = []
    for front in _fronts(points):
        mine = [k for k in front if met[k].trial.kind == "candidate"]
        plain = [k for k in front if met[k].trial.kind != "candidate"]
        order += [mine[k] for k in spread_order(points[mine])]
        order += [plain[k] for k in spread_order(points[plain])]
    return [each.trial for each in (*(met[k] for k in order), *missed)]


def spread_order(points: Losses) -> list[int]:
    """An order of ``(n, m)`` losses whose beginnings lie well spread.

    The most balanced point first, then always the one that adds most hypervolume to those
    before it; of equals the first.
    """
    first = balanced(points)
    if first is None:
        return []
    reference = reference_point(points)
    order = [first]
    while len(order) < len(points):
        left = [k for k in range(len(points)) if k not in order]
        volumes = [hypervolume(points[[*order, k]], reference) for k in left]
        order.append(left[int(np.argmax(volumes))])
    return order


@dataclass(frozen=True)
class _Validated:
    trial: Trial
    scores: tuple[Estimate, ...]
    violation: float


def _validated(store: StudyStore, facts: StudyFacts) -> list[_Validated]:
    """Trials with their scores, sources first; by search where validation tells nothing."""
    numbers = set((facts.finalists or {}).get("validation", ()))
    answered = SplitResponses(store, facts)
    found: list[_Validated | None] = []
    searched: list[_Validated] = []
    seen: set[str] = set()
    for trial in sorted(facts.trials, key=lambda t: (_KINDS.index(t.kind), t.number)):
        if trial.number not in numbers or trial.status != "complete":
            continue
        if trial.recipe.digest in seen:
            continue
        seen.add(trial.recipe.digest)
        responses = answered.of(trial, "validation")
        searched.append(_Validated(trial, trial.estimates, trial.violation))
        if responses is None:
            found.append(None)
            continue
        scores = estimates(facts.objectives, trial, responses)
        kept = constraint_estimates(facts.constraints, trial, responses)
        found.append(_Validated(trial, scores, total_violation(facts.constraints, kept)))
    whole = [each for each in found if each is not None]
    return whole if len(whole) == len(found) else searched


def _fronts(points: Losses) -> list[Sequence[int]]:
    """Places of the points front by front; of equal points the later one is dominated."""
    fronts: list[Sequence[int]] = []
    left = list(range(len(points)))
    while left:
        front = [
            k
            for k in left
            if not any(
                bool((points[j] <= points[k]).all())
                and (j < k or bool((points[j] < points[k]).any()))
                for j in left
                if j != k
            )
        ]
        fronts.append(front)
        left = [k for k in left if k not in front]
    return fronts
