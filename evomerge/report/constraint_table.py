"""The constraints of a study: what they ask, and who meets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Estimate
from evomerge.report import number_text
from evomerge.report.study_facts import constraint_label
from evomerge.report.summary import Summary
from evomerge.store.trials import Trial


@dataclass(frozen=True)
class ConstraintRow:
    """One constraint, by the search's estimates."""

    label: str
    bound: float
    reference: Estimate | None
    """Of the model that it is compared with, or of the base (or first expert); None where
    that was not scored."""

    reference_name: str
    result: Estimate | None
    """Of the trial that the report recommends; None before there is one."""

    met: int
    """Candidates that meet this constraint, whatever the others say."""

    scored: int
    """Candidates scored."""


def constraint_rows(summary: Summary) -> list[ConstraintRow]:
    """One row a constraint, in the order of the experiment."""
    candidates = summary.facts.complete("candidate")
    sources = {t.name: t for t in summary.facts.complete("source")}
    chosen = next((t for t in candidates if t.number == summary.balanced), None)
    rows = []
    for k, constraint in enumerate(summary.facts.constraints):
        name = constraint.reference or next(iter(summary.facts.sources), "")
        source = sources.get(name)
        rows.append(
            ConstraintRow(
                label=constraint_label(constraint),
                bound=constraint.bound,
                reference=source.constraints[k] if source else None,
                reference_name=name,
                result=chosen.constraints[k] if chosen else None,
                met=sum(constraint.violation(t.constraints[k]) == 0 for t in candidates),
                scored=len(candidates),
            )
        )
    return rows


def misses(
    constraints: Sequence[Constraint], estimates: Sequence[Estimate]
) -> list[tuple[str, str]]:
    """What is missed and by how much, in the quantity's own unit; empty where all are met."""
    return [
        (constraint_label(constraint), number_text.number(missed * constraint.scale))
        for constraint, estimate in zip(constraints, estimates, strict=False)
        if (missed := constraint.violation(estimate)) > 0
    ]


def misses_text(
    summary: Summary, trial: Trial, items: Literal["search", "test"] = "search"
) -> str:
    """``misses accuracy on town at least 0.6 by 0.100``; empty where all are met.

    Args:
        summary: The study.
        trial: A scored trial.
        items: Those of the scores beside it; the search's where it has not answered the test.
    """
    rows = summary.final.rows if summary.final and items == "test" else ()
    tested = {row.trial.number: row.constraints for row in rows}
    found = misses(summary.facts.constraints, tested.get(trial.number, trial.constraints))
    return "; ".join(f"misses {label} by {amount}" for label, amount in found)
