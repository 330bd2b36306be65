"""Budget: the hard total that a study may spend, over all its sessions."""

from dataclasses import dataclass

OPTIMIZER_FINISHED = "the optimizer has finished"
"""How the reason of a search begins that ended before its budget was spent."""


@dataclass(frozen=True)
class Budget:
    """What a study may spend on candidates; the first limit reached ends the search.

    Sources and baselines are scored besides: their item evaluations count, they are not
    counted as candidates.
    """

    candidates: int | None = None
    minutes: float | None = None
    """Wall-clock minutes of all sessions together."""

    item_evaluations: int | None = None
    """Answers to single items, the final re-scoring not included."""


@dataclass(frozen=True)
class Spent:
    """What a study has used of its budget so far."""

    candidates: int
    minutes: float
    item_evaluations: int


def exhausted(budget: Budget, spent: Spent) -> str | None:
    """Which limit has been reached, in words, or None."""
    if budget.candidates is not None and spent.candidates >= budget.candidates:
        return f"all {budget.candidates} candidates are done"
    if budget.minutes is not None and spent.minutes >= budget.minutes:
        return f"the {budget.minutes:g} minutes are used up"
    if (
        budget.item_evaluations is not None
        and spent.item_evaluations >= budget.item_evaluations
    ):
        return f"the {budget.item_evaluations} item evaluations are used up"
    return None


def affordable(budget: Budget, spent: Spent, items_each: int) -> int:
    """How many more candidates fit into the counted limits; never beyond a hard total."""
    limits = [10**9]
    if budget.candidates is not None:
        limits.append(budget.candidates - spent.candidates)
    if budget.item_evaluations is not None:
        limits.append((budget.item_evaluations - spent.item_evaluations) // max(1, items_each))
    return max(0, min(limits))
