"""A chain's stages as their studies stand, and their models on the same test items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evomerge.core.objectives import Estimate, losses
from evomerge.core.outcomes import GeneValue
from evomerge.core.responses import Responses
from evomerge.core.streams import stream
from evomerge.fitness.paired import Interval, bootstrap_objectives
from evomerge.report.final_phase import (
    RESAMPLES,
    Final,
    VolumeComparison,
    cautious,
    difference_interval,
    estimates,
    test_reference,
    volumes,
)
from evomerge.report.ranking import ranked
from evomerge.report.search_phase import balanced
from evomerge.report.split_responses import SplitResponses
from evomerge.report.study_facts import StudyFacts
from evomerge.report.summary import Summary, summarize
from evomerge.report.volume import measure
from evomerge.store.chain_record import ChainRecord, KeptModel, StageRecord, read_kept
from evomerge.store.run_lock import is_held
from evomerge.store.study_store import FILE_NAME, StudyStore
from evomerge.store.trials import Trial

Role = Literal["source", "baseline", "kept", "best", "final"]
"""``best`` is the best candidate of a stage before the last that was not handed on."""


@dataclass(frozen=True)
class StageSummary:
    """A stage at one moment."""

    record: StageRecord
    spent: tuple[int, int]
    """Candidates and item evaluations of the chain up to the end of this stage."""

    summary: Summary | None = None
    """None before it has begun."""

    kept: tuple[KeptModel, ...] | None = None
    """None before it has handed anything on."""

    best: Trial | None = None
    """The candidate that ranks first; None before the stage has finished."""

    fixed: Mapping[str, GeneValue] = field(default_factory=dict)
    """The genes that it holds at what an earlier stage chose; empty before it has begun."""

    running: bool = False
    comparable: bool = False
    """Whether it has the first stage's objectives, test items and settings."""

    @property
    def state(self) -> str:
        """In one or two words."""
        if self.summary is None:
            return "not begun"
        if self.summary.state == "finished":
            return "finished"
        return "running" if self.running else "interrupted"


@dataclass(frozen=True)
class ScoredModel:
    """A model on the test items of the chain."""

    role: Role
    name: str
    stage: str
    """The stage that it comes from; of sources and baselines the first."""

    trial: int
    test: tuple[Estimate, ...]
    differences: tuple[Interval | None, ...]
    """Value minus that of the best source of the first stage, one an objective."""

    spent: tuple[int, int] | None
    """Candidates and item evaluations until it was found; None of sources and baselines."""

    validation: tuple[Estimate, ...] | None = None
    """None where it was not scored on the first stage's validation items."""

    best: bool = False
    """Whether it is the chain's best candidate by validation."""


@dataclass(frozen=True)
class _Answered:
    """A model with its responses to the test items."""

    role: Role
    stage: str
    trial: Trial
    responses: Responses
    spent: tuple[int, int] | None
    feasible: bool
    """Whether it meets the constraints on the items that it was chosen by."""

    validation: tuple[Estimate, ...] | None


class ChainReader:
    """Reads the stages' studies once, one after the other.

    Args:
        run_dir: The chain's folder.
        record: What the chain is.
    """

    def __init__(self, run_dir: Path, record: ChainRecord) -> None:
        self._run_dir = run_dir
        self._record = record
        self._first: Summary | None = None
        self._answered: list[_Answered] = []

    def stages(self) -> tuple[StageSummary, ...]:
        """Every stage, begun or not; notes the responses that ``models`` compares."""
        found: list[StageSummary] = []
        candidates = items = 0
        for place, record in enumerate(self._record.stages):
            folder = self._run_dir / record.folder
            if not (folder / FILE_NAME).exists():
                found.append(StageSummary(record, spent=(candidates, items)))
                continue
            with StudyStore.open(folder, read_only=True) as store:
                summary = summarize(store)
                self._first = self._first or summary
                done = summary.state == "finished"
                best = ranked(store, summary.facts) if done else []
                candidates += summary.counts.asked
                items += summary.counts.item_evaluations
                stage = StageSummary(
                    record,
                    (candidates, items),
                    summary,
                    read_kept(folder),
                    next((trial for trial in best if trial.kind == "candidate"), None),
                    _fixed(record, summary.facts),
                    is_held(folder),
                    _comparable(self._first.facts, summary.facts),
                )
                self._note(place, stage, store)
            found.append(stage)
        return tuple(found)

    def _note(self, place: int, stage: StageSummary, store: StudyStore) -> None:
        summary = stage.summary
        if summary is None or summary.final is None or not stage.comparable:
            return
        answered = SplitResponses(store, summary.facts)
        trials = {trial.number: trial for trial in summary.facts.trials}
        rows = {row.trial.number: row for row in summary.final.rows}
        chosen: list[tuple[Role, Trial, tuple[int, int] | None]] = []
        if place == 0:
            plain = [r.trial for r in summary.final.rows if r.trial.kind != "candidate"]
            chosen += [("source" if t.kind == "source" else "baseline", t, None) for t in plain]
        handed = dict.fromkeys(k.trial for k in stage.kept or () if k.kind == "candidate")
        if place == len(self._record.stages) - 1:
            chosen += [("final", row.trial, stage.spent) for row in summary.final.candidates]
        elif stage.best is not None and stage.best.number not in handed:
            chosen.append(("best", stage.best, stage.spent))
        chosen += [("kept", trials[number], stage.spent) for number in handed]
        same = self._first is not None and (
            summary.facts.items.get("validation") == self._first.facts.items.get("validation")
        )
        for role, trial, spent in chosen:
            responses = answered.of(trial, "test")
            if responses is not None:
                row = rows.get(trial.number)
                self._answered.append(
                    _Answered(
                        role,
                        stage.record.name,
                        trial,
                        responses,
                        spent,
                        row is None or not row.violation,
                        row.validation if row is not None and same else None,
                    )
                )

    def compared(self) -> tuple[tuple[ScoredModel, ...], VolumeComparison | None]:
        """Everything that was scored on the test items, compared pair by pair.

        Beside it the final front, with one objective the chain's best candidate, against the
        sources and baselines of the first stage, by hypervolume; with one objective that is
        the best of them. None before there is a front,
        and where constraints leave none.
        """
        first = self._first
        if first is None or first.final is None or not self._answered:
            return (), None
        facts = first.facts
        rows = [estimates(facts.objectives, a.trial, a.responses) for a in self._answered]
        rng = stream(facts.seed, "report", "bootstrap")
        replicates = bootstrap_objectives(
            [a.responses for a in self._answered], facts.objectives, rng, RESAMPLES
        )
        for k, objective in enumerate(facts.objectives):
            if not objective.tasks:
                replicates[:, :, k] = [row[k].value for row in rows]
        best = self._best(facts)
        models = self._scored(self._places_of_best(first.final), rows, replicates)
        if best is not None:
            chosen = replace(models[best], best=True)
            models = (*models[:best], chosen, *models[best + 1 :])
        front = [k for k, a in enumerate(self._answered) if a.role == "final"]
        if best is not None and len(facts.objectives) == 1:
            front = [best]
        return models, self._together(facts, rows, replicates, front)

    def _best(self, facts: StudyFacts) -> int | None:
        """Place of the best candidate by validation; of several objectives most balanced.

        Of candidates that meet the constraints, where any does; of equals the first.
        """
        scored = [k for k, a in enumerate(self._answered) if a.spent and a.validation]
        scored = [k for k in scored if self._answered[k].feasible] or scored
        values = [[e.value for e in self._answered[k].validation or ()] for k in scored]
        points = np.array([losses(facts.objectives, row) for row in values])
        front = [
            k
            for k, point in enumerate(points)
            if not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
        ]
        chosen = balanced(points[front])
        return None if chosen is None else scored[front[chosen]]

    def _scored(
        self,
        places: Sequence[int | None],
        rows: Sequence[tuple[Estimate, ...]],
        replicates: NDArray[np.float64],
    ) -> tuple[ScoredModel, ...]:
        found = []
        for n, (answered, row) in enumerate(zip(self._answered, rows, strict=True)):
            differences: list[Interval | None] = []
            for k, best in enumerate(places):
                if best is None:
                    differences.append(None)
                    continue
                value = row[k].value - rows[best][k].value
                drawn = replicates[:, n, k] - replicates[:, best, k]
                differences.append(difference_interval(value, drawn, len(places)))
            found.append(
                ScoredModel(
                    answered.role,
                    answered.trial.name,
                    answered.stage,
                    answered.trial.number,
                    row,
                    tuple(differences),
                    answered.spent,
                    answered.validation,
                )
            )
        return tuple(found)

    def _together(
        self,
        facts: StudyFacts,
        rows: Sequence[tuple[Estimate, ...]],
        replicates: NDArray[np.float64],
        front: Sequence[int],
    ) -> VolumeComparison | None:
        roles = [a.role if a.feasible else "" for a in self._answered]
        front = [k for k in front if self._answered[k].feasible]
        plain = [k for k, role in enumerate(roles) if role in ("source", "baseline")]
        if not front or not plain:
            return None
        signs = np.array([float(objective.sign) for objective in facts.objectives])
        points = np.array([[e.value for e in row] for row in rows]) * signs
        errors = np.array([[e.standard_error for e in row] for row in rows])
        measured = measure(test_reference(points, errors), points, facts.seed, samples=512)
        resampled = replicates * signs
        drawn = volumes(measured, resampled[:, front]) - volumes(measured, resampled[:, plain])
        began = measured.of(points[plain])
        difference = cautious(measured.of(points[front]) - began, drawn)
        return VolumeComparison("what the chain began with", began, difference)

    def _places_of_best(self, final: Final) -> list[int | None]:
        places = {a.trial.number: n for n, a in enumerate(self._answered) if a.role == "source"}
        return [
            None if best is None else places.get(best.number) for best in final.best_sources
        ]


def _fixed(record: StageRecord, facts: StudyFacts) -> Mapping[str, GeneValue]:
    """What the study holds fixed beyond what its stage was written with."""
    if not record.fix:
        return {}
    asked = record.experiment["space"].get("fixed") or {}
    held = facts.experiment["space"].get("fixed") or {}
    return {name: value for name, value in held.items() if name not in asked}


def _comparable(first: StudyFacts, facts: StudyFacts) -> bool:
    """Whether scores of two stages are of the same thing."""
    return (
        facts.objectives == first.objectives
        and facts.items.get("test") == first.items.get("test")
        and facts.settings_digest == first.settings_digest
        and all(
            bank.get("version") == facts.banks.get(task, {}).get("version")
            for task, bank in first.banks.items()
        )
    )
