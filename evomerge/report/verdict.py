"""The report's verdict: did any candidate beat the source models and baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Objective
from evomerge.fitness.paired import Interval
from evomerge.report.final_phase import TOGETHER, Final, FinalRow
from evomerge.report.number_text import estimate as estimate_text
from evomerge.report.number_text import number, signed_interval
from evomerge.report.search_phase import Best, Counts, Failure, FrontMember
from evomerge.report.study_facts import State, constraint_label, objective_label

Tone = Literal["better", "unclear", "not better", "pending", "failed"]


@dataclass(frozen=True)
class Verdict:
    """The outcome in words, and its tone for colouring them."""

    tone: Tone
    sentence: str
    details: tuple[str, ...] = ()


def nothing_scored(counts: Counts, failures: Sequence[Failure], state: State) -> Verdict:
    """The verdict of a study without a scored candidate."""
    if not counts.failed:
        end = "yet" if state == "running" else f"; the search is {state}"
        joint = " " if state == "running" else ""
        return Verdict("pending", f"No candidate has been scored{joint}{end}.")
    most = failures[0]
    return Verdict(
        "failed",
        f"All {counts.failed} finished candidates failed, so there is nothing to compare.",
        (f"Most often while trying to {most.stage}: {most.reason}",),
    )


def nothing_feasible(
    counts: Counts, nearest: FrontMember, items: Literal["search", "validation"], state: State
) -> Verdict:
    """The verdict of a study in which no candidate meets the constraints."""
    so_far = "So far none" if state == "running" else "None"
    if items == "validation":
        text = "No finalist meets all constraints on the validation items"
    else:
        text = f"{so_far} of {counts.complete} scored candidates meets all constraints"
    name, missed = nearest.trial.name, number(nearest.violation)
    return Verdict("not better", f"{text}; {name} misses them least, by {missed} all together.")


def missed_on_test(constraints: Sequence[Constraint], final: Final) -> tuple[str, ...]:
    """What the final front's candidates miss on the untouched test items, a line each."""
    return tuple(
        f"{row.trial.name} kept {constraint_label(constraint)} on the validation items, on the "
        f"test items it is at {estimate_text(estimate)}"
        for row in final.candidates
        for constraint, estimate in zip(constraints, row.constraints, strict=True)
        if row.violation == 0 and constraint.violation(estimate) > 0
    )


def not_confirmed(
    objectives: Sequence[Objective],
    members: Sequence[FrontMember],
    bests: Sequence[Best],
    state: State,
) -> Verdict:
    """The verdict on search items alone, before finalists met the test items."""
    unbeaten = [member for member in members if not member.beaten_by]
    so_far = "So far no" if state == "running" else "No"
    if not unbeaten:
        return Verdict(
            "not better",
            f"{so_far} candidate beats the source models and baselines on the search items.",
            _best_details(objectives, bests),
        )
    if all(best.baseline is None for best in bests):
        text = f"{_keep(len(members))} the constraints, no source model or baseline does"
    elif len(objectives) == 1:
        text = f"{unbeaten[0].trial.name} is ahead of every source model and baseline"
    else:
        text = (
            f"{len(unbeaten)} of {len(members)} front candidates are not matched by any "
            "source model or baseline"
        )
    return Verdict(
        "pending",
        f"{text[0].upper()}{text[1:]} on the search items; not confirmed on test items.",
        _best_details(objectives, bests),
    )


def confirmed(objectives: Sequence[Objective], final: Final) -> Verdict:
    """The verdict on the untouched test items.

    With several objectives the final front as a whole is compared with all sources and
    baselines together by hypervolume; with one, the final candidate with the best of them.
    """
    items = f"{sum(final.items.values())} untouched test items"
    details = _difference_details(objectives, final)
    if final.feasible and _plain(final) and not _plain_keeping(final):
        text = (
            f"{_keep(len(final.candidates))} the constraints on the validation items; no "
            "source model or baseline does."
        )
        return Verdict("better", text, details)
    together = next((c for c in final.comparisons if c.name == TOGETHER), None)
    if not final.candidates or together is None or final.volume is None:
        return Verdict("unclear", f"Nothing could be compared on the {items}.", details)
    difference = together.difference
    if len(objectives) == 1:
        who = final.candidates[0].trial.name
        facts = _single_facts(objectives[0], final, difference)
    else:
        who = f"the final front of {len(final.candidates)}"
        facts = (
            f"{number(final.volume)} against {number(together.volume)} for all "
            f"of them together, difference {signed_interval(difference)}"
        )
    if difference.low > 0:
        way = " in hypervolume" if len(objectives) > 1 else ""
        text = f"{who} beats the source models and baselines{way} on {items}: {facts}."
        return Verdict("better", text[0].upper() + text[1:], details)
    if difference.value > 0:
        text = (
            f"It is not certain that any candidate beats the source models and baselines on "
            f"{items}: {facts}; the interval includes zero."
        )
        return Verdict("unclear", text, details)
    if any(_wins(row, k, o) for k, o in enumerate(objectives) for row in _chosen(final, k)):
        text = (
            f"{who} as a whole does not beat the source models and baselines on {items}: "
            f"{facts}; single objectives are better than the best source's."
        )
        return Verdict("unclear", text[0].upper() + text[1:], details)
    return Verdict(
        "not better",
        f"No candidate beats the source models and baselines on {items}: {facts}.",
        details,
    )


def _single_facts(objective: Objective, final: Final, difference: Interval) -> str:
    best = min(_plain_keeping(final), key=lambda row: objective.sign * row.test[0].value)
    mine = final.candidates[0].test[0].value
    shown = Interval(
        -objective.sign * difference.value,
        *sorted((-objective.sign * difference.low, -objective.sign * difference.high)),
    )
    return (
        f"{objective_label(objective)} {number(mine)} against {number(best.test[0].value)} of "
        f"{best.trial.name}, the best of them, difference {signed_interval(shown)}"
    )


def _plain(final: Final) -> list[FinalRow]:
    return [row for row in final.rows if row.trial.kind != "candidate"]


def _plain_keeping(final: Final) -> list[FinalRow]:
    """Sources and baselines that meet the constraints, as what is compared with them must."""
    return [row for row in _plain(final) if row.violation == 0]


def _keep(count: int) -> str:
    return f"{count} candidates meet" if count > 1 else "1 candidate meets"


def _difference_details(objectives: Sequence[Objective], final: Final) -> tuple[str, ...]:
    details = []
    for k, objective in enumerate(objectives):
        best = final.best_sources[k]
        for row in _chosen(final, k):
            difference = row.differences[k]
            if best is not None and difference is not None:
                details.append(
                    f"{objective_label(objective)}: {row.trial.name} scores "
                    f"{number(row.test[k].value)}, {signed_interval(difference)} against the "
                    f"best source model ({best.name})"
                )
    return tuple(details)


def _best_details(objectives: Sequence[Objective], bests: Sequence[Best]) -> tuple[str, ...]:
    return tuple(
        f"{objective_label(objective)}: {best.candidate.name} scores "
        f"{number(best.candidate.values[k])}, the best source or "
        f"baseline {number(best.baseline.values[k])} ({best.baseline.name})"
        for k, (objective, best) in enumerate(zip(objectives, bests, strict=True))
        if best.candidate is not None and best.baseline is not None
    )


def _chosen(final: Final, objective: int) -> list[FinalRow]:
    chosen = final.chosen[objective]
    return [row for row in final.candidates if chosen and row.trial.number == chosen.number]


def _wins(row: FinalRow, k: int, objective: Objective) -> bool:
    """Whether the whole interval of the difference is on the better side."""
    difference = row.differences[k]
    if difference is None:
        return False
    return difference.high < 0 if objective.direction == "minimize" else difference.low > 0
