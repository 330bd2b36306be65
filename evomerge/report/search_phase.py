"""What the search found, judged by its own scores on the search items."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.core.objectives import losses
from evomerge.core.outcomes import Stage
from evomerge.core.pareto import Losses, front_mask, reference_point
from evomerge.report.study_facts import StudyFacts
from evomerge.report.volume import Volume, measure
from evomerge.store.trials import Trial

LEAST_VIOLATING = 5
"""So many candidates are shown where none meets the constraints."""


@dataclass(frozen=True)
class Counts:
    """How much was asked, done and spent."""

    asked: int
    """Candidates; complete, failed and open ones add up to it."""

    complete: int
    feasible: int
    """Of the complete ones: how many meet every constraint."""

    failed: int
    open: int
    sources: int
    baselines: int
    item_evaluations: int
    """Of all trials and splits together."""

    items_each: tuple[tuple[int, int], ...]
    """How many candidates had how many items put to them in the search, fewest items first."""

    seconds: float
    """Time worked, all sessions together."""

    stage_seconds: tuple[tuple[str, float], ...]
    """Seconds of all trials by stage; parallel workers' seconds add up."""

    candidates_per_minute: float | None


@dataclass(frozen=True)
class Failure:
    """Trials that failed for the same reason."""

    stage: Stage
    reason: str
    trials: tuple[int, ...]


@dataclass(frozen=True)
class Best:
    """The best scores of one objective, of what meets the constraints."""

    candidate: Trial | None
    baseline: Trial | None
    """The best of all sources and baselines."""


@dataclass(frozen=True)
class FrontMember:
    """A candidate that no other candidate dominates."""

    trial: Trial
    beaten_by: tuple[str, ...]
    """Names of sources and baselines at least as good in every objective."""

    violation: float = 0.0
    """By how much it misses the constraints; above 0 only where no candidate meets them."""


@dataclass(frozen=True)
class History:
    """How the search went on, by number of scored candidates."""

    best: NDArray[np.float64]
    """``(candidates, objectives)`` best value so far of what meets the constraints, in the
    metric's own direction; infinite before there is one."""

    volume_steps: NDArray[np.int64]
    """``(k,)`` counts of candidates."""

    volumes: NDArray[np.float64]
    """``(k,)`` hypervolume of that many candidates, in the order they were finished."""

    baseline_volume: float | None
    """Hypervolume of all sources and baselines together, of those that meet the
    constraints."""


def loss_matrix(facts: StudyFacts, trials: Sequence[Trial]) -> Losses:
    """``(trials, objectives)`` losses by the search's estimates."""
    rows = [losses(facts.objectives, trial.values) for trial in trials]
    return np.asarray(rows, dtype=np.float64).reshape(len(trials), len(facts.objectives))


def count(facts: StudyFacts) -> Counts:
    """Count trials, items and time."""
    status = Counter(trial.status for trial in facts.of_kind("candidate"))
    stages: Counter[str] = Counter()
    for trial in facts.trials:
        stages.update(dict(trial.timings))
    done = status["complete"] + status["failed"]
    finished = [trial for trial in facts.of_kind("candidate") if trial.status != "open"]
    minutes = _search_seconds(facts) / 60
    return Counts(
        asked=status.total(),
        complete=status["complete"],
        feasible=len(facts.feasible("candidate")),
        failed=status["failed"],
        open=status["open"],
        sources=len(facts.of_kind("source")),
        baselines=len(facts.of_kind("baseline")),
        item_evaluations=facts.item_evaluations,
        items_each=tuple(sorted(Counter(t.item_evaluations for t in finished).items())),
        seconds=facts.seconds,
        stage_seconds=tuple(stages.items()),
        candidates_per_minute=done / minutes if done and minutes > 0 else None,
    )


def failures(facts: StudyFacts) -> tuple[Failure, ...]:
    """Failed trials of every kind by stage and reason, most frequent first."""
    grouped: dict[tuple[Stage, str], list[int]] = {}
    for trial in facts.trials:
        if trial.failure is not None:
            key = (trial.failure.stage, trial.failure.reason)
            grouped.setdefault(key, []).append(trial.number)
    found = [Failure(stage, why, tuple(numbers)) for (stage, why), numbers in grouped.items()]
    return tuple(sorted(found, key=lambda failure: -len(failure.trials)))


def bests(facts: StudyFacts) -> tuple[Best, ...]:
    """The best candidate and the best source or baseline, objective by objective."""
    return tuple(
        Best(
            _best(facts, facts.feasible("candidate"), k),
            _best(facts, facts.feasible("source", "baseline"), k),
        )
        for k in range(len(facts.objectives))
    )


def front(facts: StudyFacts) -> tuple[FrontMember, ...]:
    """Non-dominated candidates by search scores, best in the first objective first.

    Of those that meet the constraints; none where no candidate does.
    """
    candidates = facts.feasible("candidate")
    plain = facts.feasible("source", "baseline")
    points, plain_points = loss_matrix(facts, candidates), loss_matrix(facts, plain)
    kept = sorted(np.flatnonzero(front_mask(points)), key=lambda k: tuple(points[k]))
    return tuple(
        FrontMember(candidates[k], beaten_by(points[k], plain, plain_points)) for k in kept
    )


def least_violating(facts: StudyFacts) -> tuple[FrontMember, ...]:
    """The candidates that miss the constraints least, at most ``LEAST_VIOLATING``."""
    candidates = sorted(facts.complete("candidate"), key=lambda t: (t.violation, t.number))
    return tuple(FrontMember(t, (), t.violation) for t in candidates[:LEAST_VIOLATING])


def beaten_by(
    point: NDArray[np.float64], plain: Sequence[Trial], plain_points: Losses
) -> tuple[str, ...]:
    """Names of the trials that are at least as good as a point in every objective."""
    wins: NDArray[np.bool_] = np.all(plain_points <= point, axis=1)
    return tuple(trial.name for trial, won in zip(plain, wins, strict=True) if won)


def plain_on_front(facts: StudyFacts) -> tuple[Trial, ...]:
    """Sources and baselines that no other trial of the study dominates.

    Of those that meet the constraints, as the others must.
    """
    trials = facts.feasible("source", "baseline", "candidate")
    mask = front_mask(loss_matrix(facts, trials))
    return tuple(t for t, on in zip(trials, mask, strict=True) if on and t.kind != "candidate")


def balanced(points: Losses) -> int | None:
    """Which of ``(n, m)`` losses has the smallest largest shortfall.

    A shortfall is the distance to the set's best value of an objective, as a share of the
    set's range of it; the point with the smallest largest one is the Chebyshev compromise
    (Miettinen, Nonlinear Multiobjective Optimization, 1999, section 3.4).
    """
    if not len(points):
        return None
    span = np.ptp(points, axis=0)
    shortfall = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    return int(shortfall.max(axis=1).argmin())


def study_volume(facts: StudyFacts) -> Volume | None:
    """The study's measure of volume, fixed by the sources' and baselines' search scores.

    None while no source or baseline is scored.
    """
    plain = loss_matrix(facts, facts.complete("source", "baseline"))
    if not len(plain):
        return None
    points = np.concatenate([plain, loss_matrix(facts, facts.complete("candidate"))])
    return measure(reference_point(plain), points, facts.seed)


def history(facts: StudyFacts, volume: Volume | None) -> History:
    """Best values and hypervolume over the candidates in the order they finished."""
    place = {number: k for k, number in enumerate(facts.order)}
    done = sorted(facts.complete("candidate"), key=lambda trial: place[trial.number])
    points = loss_matrix(facts, done)
    points[[not trial.feasible for trial in done]] = np.inf  # which adds to nothing
    signs = np.array([objective.sign for objective in facts.objectives])
    steps, volumes = np.empty(0, dtype=np.int64), np.empty(0)
    if volume is not None and done:
        steps, volumes = volume.history(points)
    plain = loss_matrix(facts, facts.feasible("source", "baseline"))
    return History(
        best=np.minimum.accumulate(points, axis=0) * signs if done else points,
        volume_steps=steps,
        volumes=volumes,
        baseline_volume=volume.of(plain) if volume is not None else None,
    )


def _best(facts: StudyFacts, trials: Sequence[Trial], objective: int) -> Trial | None:
    sign = facts.objectives[objective].sign
    return min(trials, key=lambda trial: sign * trial.values[objective], default=None)


def _search_seconds(facts: StudyFacts) -> float:
    """Seconds from the first candidate's ask to the last one's end, pauses left out."""
    candidates = facts.of_kind("candidate")
    ends = [trial.finished_at for trial in candidates if trial.finished_at is not None]
    if not ends:
        return 0.0
    first = min(trial.asked_at for trial in candidates)
    return max(0.0, max(ends) - first - _paused(facts, first, max(ends)))


def _paused(facts: StudyFacts, start: float, end: float) -> float:
    """Seconds between two moments in which no session was at work."""
    paused, last = 0.0, start
    for session in facts.sessions:
        began = min(max(session.started, start), end)
        paused += max(0.0, began - last)
        stopped = session.ended or session.seen
        last = max(last, min(max(stopped, start), end))
    return paused
