"""The Task contract: what every part but the scorers needs to know of a task."""

from collections.abc import Mapping
from typing import Protocol

from evomerge.fitness.item_bank import ItemBank


class Task(Protocol):
    """A benchmark of any kind: an lm-eval task, a Python function, a command."""

    @property
    def name(self) -> str:
        """As the experiment file names it."""

    @property
    def bank(self) -> ItemBank:
        """Its items, divided into splits."""

    @property
    def metrics(self) -> Mapping[str, bool]:
        """Metrics with one number an item, and whether higher is better."""
