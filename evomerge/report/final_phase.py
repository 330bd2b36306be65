"""What the final front is worth on items that nothing has looked at before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evomerge.core.constraints import Constraint, total_violation
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.pareto import Losses
from evomerge.core.responses import Responses
from evomerge.core.streams import stream
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.paired import Interval, bootstrap_objectives, percentiles
from evomerge.report import number_text
from evomerge.report.search_phase import beaten_by
from evomerge.report.split_responses import SplitResponses
from evomerge.report.study_facts import Split, StudyFacts, objective_label, read_facts
from evomerge.report.volume import Volume, measure
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial

RESAMPLES = 1000
LEVEL = 0.95
_DIGITS = 12
TOGETHER = "all sources and baselines together"


@dataclass(frozen=True)
class FinalRow:
    """One recipe on the test items."""

    trial: Trial
    test: tuple[Estimate, ...]
    """One an objective."""

    validation: tuple[Estimate, ...] | None
    """None where it was not scored on the validation items."""

    differences: tuple[Interval | None, ...]
    """Value minus the best source's on the same items, one an objective; None without a
    source to compare with."""

    beaten_by: tuple[str, ...]
    """Names of sources and baselines at least as good in every objective; of candidates."""

    violation: float = 0.0
    """By how much it misses the constraints on validation items, by which the final front was
    chosen; on search items where it has not answered those."""

    constraints: tuple[Estimate, ...] = ()
    """One a constraint, on the test items."""


@dataclass(frozen=True)
class VolumeComparison:
    """The final front against recipes it has to beat."""

    name: str
    volume: float
    difference: Interval
    """The final front's hypervolume minus this one, with a reflected interval."""


@dataclass(frozen=True)
class Final:
    """Scores on the test items of the final front, the sources and the baselines."""

    items: dict[str, int]
    """Test items by task."""

    rows: tuple[FinalRow, ...]
    """Candidates, best in the first objective first; then sources, then baselines."""

    best_sources: tuple[Trial | None, ...]
    """The source to compare with, one an objective; chosen without the test items, of those
    that meet the constraints where there are such."""

    chosen: tuple[Trial | None, ...]
    """The final candidate that is best on validation items, one an objective."""

    reference: tuple[float, ...]
    """Reference point of the hypervolumes, in the metrics' own directions."""

    volume: float | None
    """Hypervolume of the final front; None without a candidate on it that meets the
    constraints."""

    comparisons: tuple[VolumeComparison, ...]
    """Against each source and baseline that meets the constraints, and last against all of
    them together."""

    unscored: tuple[str, ...]
    """Finalists whose test responses are incomplete; they are left out."""

    @property
    def candidates(self) -> tuple[FinalRow, ...]:
        """The final front's rows."""
        return tuple(row for row in self.rows if row.trial.kind == "candidate")

    @property
    def feasible(self) -> bool:
        """Whether there is a final front; else its rows are what misses least."""
        return any(row.violation == 0 for row in self.candidates)


@dataclass(frozen=True)
class _Sample:
    """Trials with their test responses and resampled values."""

    trials: tuple[Trial, ...]
    responses: tuple[Responses, ...]
    replicates: NDArray[np.float64]
    """``(resamples, trials, objectives)``."""


def final(store: StudyStore, facts: StudyFacts) -> Final | None:
    """Score the finalists; None unless the search has finished and some can be scored.

    A study that is extended after its end has finalists of its past; they do not count until
    the search has finished again.
    """
    if facts.state != "finished":
        return None
    numbers = (facts.finalists or {}).get("test", ())
    order = {"candidate": 0, "source": 1, "baseline": 2}
    wanted = sorted(
        (trial for trial in facts.trials if trial.number in set(numbers)),
        key=lambda trial: (order[trial.kind], trial.number),
    )
    answered = SplitResponses(store, facts)
    test = {trial.number: answered.of(trial, "test") for trial in wanted}
    scored = [t for t in wanted if t.status == "complete" and test[t.number] is not None]
    if not scored:
        return None
    sample = _resample(facts, scored, [test[t.number] or {} for t in scored])
    values = [
        estimates(facts.objectives, t, r)
        for t, r in zip(sample.trials, sample.responses, strict=True)
    ]
    points = np.array([[e.value for e in row] for row in values]) * _signs(facts)
    validation = {
        t.number: estimates(facts.objectives, t, responses)
        for t in scored
        if (responses := answered.of(t, "validation")) is not None
    }
    missed = _violations(facts, scored, answered)
    keeping = [t for t in scored if not missed[t.number]]
    sources = [t for t in keeping if t.kind == "source"]
    best_sources = _best_by(facts, sources or scored, "source", validation)
    reference = test_reference(
        points, np.array([[e.standard_error for e in v] for v in values])
    )
    front_volume, comparisons = _compare_volumes(facts, sample, (points, keeping), reference)
    rows = _rows(sample, values, validation, best_sources)
    return Final(
        items={task: len(ids) for task, ids in facts.items["test"].items()},
        rows=_ordered(_judged(facts, sample, rows, missed), points),
        best_sources=best_sources,
        chosen=_best_by(facts, sample.trials, "candidate", validation),
        reference=tuple(float(x) for x in reference * _signs(facts)),
        volume=front_volume,
        comparisons=comparisons,
        unscored=tuple(t.name for t in wanted if t not in scored),
    )


def test_reference(points: Losses, errors: Losses) -> NDArray[np.float64]:
    """A point that stays worse than every finalist, source and baseline when resampled.

    The search's reference point would not do: it lies a tenth of the baselines' range beyond
    the worst of them, and where they differ little, resampling carries scores past it. This
    one lies two standard errors beyond the worst score, or a tenth of the range if that is
    more.

    Args:
        points: ``(n, m)`` losses on the test items.
        errors: ``(n, m)`` their standard errors.
    """
    span = np.ptp(points, axis=0)
    margin = np.maximum(2 * errors.max(axis=0), 0.1 * span)
    return np.asarray(points.max(axis=0) + np.where(margin > 0, margin, 1.0))


def trial_scores(store: StudyStore, trial: Trial) -> dict[str, dict[str, str]]:
    """A trial's scores as text by objective and split, e.g. for a model card.

    ``{"accuracy on sort": {"search": "0.712 ± 0.031", "test": "0.698 ± 0.012"}}``; splits
    that the trial was not scored on are left out.
    """
    facts = read_facts(store)
    answered = SplitResponses(store, facts)
    found: dict[str, tuple[Estimate, ...]] = {}
    if trial.status == "complete":
        found["search"] = trial.estimates
        splits: tuple[Split, ...] = ("validation", "test")
        for split in splits:
            responses = answered.of(trial, split)
            if responses is not None:
                found[split] = estimates(facts.objectives, trial, responses)
    return {
        objective_label(objective): {
            split: number_text.estimate(values[k]) for split, values in found.items()
        }
        for k, objective in enumerate(facts.objectives)
    }


def estimates(
    objectives: Sequence[Objective], trial: Trial, responses: Responses
) -> tuple[Estimate, ...]:
    """Means over the items; an objective without a task keeps its value from the search."""
    return tuple(
        MeanEstimator().estimate(responses, [objective])[0] if objective.tasks else known
        for objective, known in zip(objectives, trial.estimates, strict=True)
    )


def constraint_estimates(
    constraints: Sequence[Constraint], trial: Trial, responses: Responses
) -> tuple[Estimate, ...]:
    """What constraints bound, over the items; what the recipe alone decides stays as it is."""
    return tuple(
        known
        if constraint.of_recipe
        else MeanEstimator().estimate(responses, [constraint.measured])[0]
        for constraint, known in zip(constraints, trial.constraints, strict=True)
    )


def _violations(
    facts: StudyFacts, trials: Sequence[Trial], answered: SplitResponses
) -> dict[int, float]:
    """By trial number, by the items that the final front was chosen by."""
    found = {}
    for trial in trials:
        responses = answered.of(trial, "validation") if facts.constraints else None
        if responses is None:
            found[trial.number] = trial.violation
            continue
        measured = constraint_estimates(facts.constraints, trial, responses)
        found[trial.number] = total_violation(facts.constraints, measured)
    return found


def _resample(
    facts: StudyFacts, trials: Sequence[Trial], responses: Sequence[Responses]
) -> _Sample:
    rng = stream(facts.seed, "report", "bootstrap")
    replicates = bootstrap_objectives(responses, facts.objectives, rng, RESAMPLES)
    for k, objective in enumerate(facts.objectives):
        if not objective.tasks:
            replicates[:, :, k] = [trial.values[k] for trial in trials]
    return _Sample(tuple(trials), tuple(responses), replicates)


def _best_by(
    facts: StudyFacts,
    trials: Sequence[Trial],
    kind: str,
    validation: dict[int, tuple[Estimate, ...]],
) -> tuple[Trial | None, ...]:
    """The best of a kind by validation, or by search where not all have been validated."""
    group = [trial for trial in trials if trial.kind == kind]
    validated = all(trial.number in validation for trial in group)
    scores = {t.number: validation[t.number] if validated else t.estimates for t in group}
    return tuple(
        min(group, key=lambda t: objective.sign * scores[t.number][k].value, default=None)
        for k, objective in enumerate(facts.objectives)
    )


def _rows(
    sample: _Sample,
    values: Sequence[tuple[Estimate, ...]],
    validation: dict[int, tuple[Estimate, ...]],
    best_sources: Sequence[Trial | None],
) -> tuple[FinalRow, ...]:
    place = {trial.number: k for k, trial in enumerate(sample.trials)}
    rows = []
    for k, trial in enumerate(sample.trials):
        differences: list[Interval | None] = []
        for objective, best in enumerate(best_sources):
            if best is None:
                differences.append(None)
                continue
            other = place[best.number]
            value = values[k][objective].value - values[other][objective].value
            drawn = sample.replicates[:, k, objective] - sample.replicates[:, other, objective]
            differences.append(difference_interval(value, drawn, len(best_sources)))
        scores = validation.get(trial.number)
        rows.append(FinalRow(trial, values[k], scores, tuple(differences), ()))
    return tuple(rows)


def _judged(
    facts: StudyFacts, sample: _Sample, rows: Sequence[FinalRow], missed: Mapping[int, float]
) -> list[FinalRow]:
    """The rows with their constraints on test items, and what they missed before these."""
    return [
        replace(
            row,
            violation=missed[row.trial.number],
            constraints=constraint_estimates(facts.constraints, row.trial, responses),
        )
        for row, responses in zip(rows, sample.responses, strict=True)
    ]


def _ordered(rows: Sequence[FinalRow], points: Losses) -> tuple[FinalRow, ...]:
    """Candidates by their losses, with what beats each of them; the others as they are."""
    plain = [k for k, row in enumerate(rows) if row.trial.kind != "candidate"]
    mine = [k for k, row in enumerate(rows) if row.trial.kind == "candidate"]
    rivals = [k for k in plain if rows[k].violation == 0]
    others = [rows[k].trial for k in rivals]
    return tuple(
        replace(rows[k], beaten_by=beaten_by(points[k], others, points[rivals]))
        for k in sorted(mine, key=lambda k: tuple(points[k]))
    ) + tuple(rows[k] for k in plain)


def _compare_volumes(
    facts: StudyFacts,
    sample: _Sample,
    judged: tuple[Losses, Sequence[Trial]],
    reference: NDArray[np.float64],
) -> tuple[float | None, tuple[VolumeComparison, ...]]:
    """The front's hypervolume and its differences to what it has to beat.

    ``judged``: the losses of all, and the trials that meet the constraints and so count.
    """
    points, keeping = judged
    counted = [(k, trial) for k, trial in enumerate(sample.trials) if trial in keeping]
    front = [k for k, trial in counted if trial.kind == "candidate"]
    plain = [k for k, trial in counted if trial.kind != "candidate"]
    if not front:
        return None, ()
    resampled = sample.replicates * _signs(facts)
    measured = measure(reference, points, facts.seed, samples=512)
    groups = [(sample.trials[k].name, [k]) for k in plain]
    groups += [(TOGETHER, plain)] if plain else []
    of_front = measured.of(points[front])
    front_replicates = volumes(measured, resampled[:, front])
    comparisons = []
    for name, members in groups:
        alone = measured.of(points[members])
        replicates = front_replicates - volumes(measured, resampled[:, members])
        comparisons.append(
            VolumeComparison(name, alone, cautious(of_front - alone, replicates))
        )
    return of_front, tuple(comparisons)


def volumes(volume: Volume, sets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hypervolume of each of ``(r, n, m)`` sets of losses.

    Of one objective the best's lead, below 0 beyond the reference: differences stay those of
    scores.
    """
    if sets.shape[2] == 1:
        return np.asarray(volume.reference[0] - sets[:, :, 0].min(axis=1))
    if sets.shape[1] == 1 and volume.exact:  # a single point dominates one box
        return np.asarray(np.maximum(volume.reference - sets[:, 0], 0.0).prod(axis=1))
    return np.array([volume.of(points) for points in sets])


def _signs(facts: StudyFacts) -> NDArray[np.float64]:
    return np.array([float(objective.sign) for objective in facts.objectives])


def difference_interval(value: float, drawn: NDArray[np.float64], objectives: int) -> Interval:
    """Of two recipes' scores in one objective, from ``(resamples,)`` differences.

    Where a study has no other, it is the verdict's: no number has two intervals.
    """
    if objectives == 1:
        return cautious(value, drawn)
    low, high = percentiles(drawn, LEVEL)
    return _clean(value, float(low), float(high))


def cautious(value: float, replicates: NDArray[np.float64]) -> Interval:
    """An interval for a difference of hypervolumes: percentiles and basic bootstrap together.

    The best of many noisy points looks better than it is, and each resample adds that bias
    once more. Where the candidates are the many, percentiles would call 20 candidates no better
    than 3 baselines better in half of all studies; reflecting them at the value takes the bias
    off (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.4 and
    equation 5.6). Where one candidate meets the best of many others, the bias is the other
    way, and so is the fault. The wider of both bounds on each side claims too much in neither.
    """
    low, high = map(float, percentiles(replicates, LEVEL))
    return _clean(value, min(low, 2 * value - high), max(high, 2 * value - low))


def _clean(value: float, low: float, high: float) -> Interval:
    """Without the last rounding errors, so that a bound of zero is not taken for more."""
    return Interval(round(value, _DIGITS), round(low, _DIGITS), round(high, _DIGITS))
