"""The study as data frames, for CSV files and for notebooks."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Estimate
from evomerge.report.study_facts import (
    StudyFacts,
    constraint_label,
    constraint_labels,
    objective_labels,
    read_facts,
)
from evomerge.report.summary import Summary, summarize
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


def trials_frame(store: StudyStore) -> pd.DataFrame:
    """One row a trial, in order of its number.

    Columns: number, kind, name, status; every objective by its label and its standard error
    as ``<label> s.e.``, on search items; genes as ``gene <name>``; seconds by stage as
    ``<stage> s``; stage and reason of a failure; and the recipe's digest. With constraints,
    after the objectives: each by its label with its standard error, its ``<label> bound`` and
    whether it is ``<label> met``, and the violation, by how much all are missed together.
    """
    facts = read_facts(store)
    return pd.DataFrame([_row(facts, trial) for trial in facts.trials], columns=_columns(facts))


def front_frame(store: StudyStore) -> pd.DataFrame:
    """One row a member of the front to choose from, in the order of ``front/*.recipe.yaml``.

    Columns as in ``trials_frame``, led by the member's rank; where there is a final front,
    also every objective on test items with its standard error, and every constraint.
    """
    return frame_of_front(summarize(store))


def frame_of_front(summary: Summary) -> pd.DataFrame:
    """``front_frame`` of a summary that is there already."""
    facts = summary.facts
    tested = {row.trial.number: row for row in summary.final.rows} if summary.final else {}
    rows = []
    for rank, member in enumerate(summary.result, 1):
        row = {"rank": rank, **_row(facts, member.trial)}
        row["matched or dominated by"] = "; ".join(member.beaten_by)
        if member.trial.number in tested:
            for label, estimate in zip(
                summary.labels, tested[member.trial.number].test, strict=True
            ):
                row[f"test {label}"] = estimate.value
                row[f"test {label} s.e."] = estimate.standard_error
            measured = tested[member.trial.number].constraints
            row |= _constraint_cells(facts.constraints, measured, "test ")
        rows.append(row)
    columns = ["rank", *_columns(facts), "matched or dominated by"]
    if tested:
        columns += [f"test {x}{y}" for x in summary.labels for y in ("", " s.e.")]
        labels = constraint_labels(facts.constraints)
        columns += [f"test {x}{y}" for x in labels for y in _OF_CONSTRAINT]
    return pd.DataFrame(rows, columns=columns)


_OF_CONSTRAINT = ("", " s.e.", " bound", " met")


def _constraint_cells(
    constraints: Sequence[Constraint], estimates: Sequence[Estimate], lead: str = ""
) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for constraint, estimate in zip(constraints, estimates, strict=True):
        met = constraint.violation(estimate) == 0
        values = (estimate.value, estimate.standard_error, constraint.bound, met)
        label = f"{lead}{constraint_label(constraint)}"
        cells |= {f"{label}{k}": v for k, v in zip(_OF_CONSTRAINT, values, strict=True)}
    return cells


def _columns(facts: StudyFacts) -> list[str]:
    stages = list(dict.fromkeys(stage for trial in facts.trials for stage in trial.timings))
    return [
        "number",
        "kind",
        "name",
        "status",
        *(f"{x}{y}" for x in objective_labels(facts.objectives) for y in ("", " s.e.")),
        *(f"{x}{y}" for x in constraint_labels(facts.constraints) for y in _OF_CONSTRAINT),
        *(["violation"] if facts.constraints else []),
        *(f"gene {gene.name}" for gene in facts.genes),
        *(f"{stage} s" for stage in stages),
        "failed stage",
        "reason",
        "recipe",
    ]


def _row(facts: StudyFacts, trial: Trial) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "kind": trial.kind,
        "name": trial.name,
        "status": trial.status,
    }
    for label, estimate in zip(
        objective_labels(facts.objectives), trial.estimates, strict=False
    ):
        row[label], row[f"{label} s.e."] = estimate.value, estimate.standard_error
    if trial.constraints:
        row |= _constraint_cells(facts.constraints, trial.constraints)
        row["violation"] = trial.violation
    row |= {f"gene {name}": value for name, value in (trial.genome or {}).items()}
    row |= {f"{stage} s": seconds for stage, seconds in trial.timings.items()}
    if trial.failure is not None:
        row |= {"failed stage": trial.failure.stage, "reason": trial.failure.reason}
    return row | {"recipe": trial.recipe.digest}
