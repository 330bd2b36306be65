"""TaskCalibration: what is known of a task's items from models that answered all of them."""

from dataclasses import dataclass

from evomerge.fitness.response_matrix import ResponseMatrix


@dataclass(frozen=True, eq=False)
class TaskCalibration:
    """Reference responses to the items of one task's bank, for one metric."""

    matrix: ResponseMatrix
    """Columns are the bank's items, in the bank's order."""

    endpoints: tuple[int, ...] = ()
    """Rows of the source models, whose merges are to be scored (MERGE³'s endpoints)."""
