"""What a comparison of optimizers may be told."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_CANDIDATES = 200
"""Of every search, where nothing else says so."""

DEFAULT_ITEMS = 20
"""Search items a task: what published merging searches put to a candidate."""


@dataclass(frozen=True)
class BenchOptions:
    """What is compared, and how."""

    problems: tuple[str, ...]
    """Experiment files, landscape files, or names of landscapes that come with evomerge."""

    optimizers: tuple[str, ...]
    seeds: int = 10
    candidates: int | None = None
    """Of every search; None: what an experiment says, 200 on a landscape."""

    budgets: tuple[int, ...] = ()
    """Also judged after so many; none: after a quarter and a half."""

    objectives: str | None = None
    """On landscapes: ``mean``, ``each``, ``first``, or a list such as ``sort,score+town``."""

    items: int | None = DEFAULT_ITEMS
    """On landscapes: search items a task; None for all."""

    against: str | None = None
    """Whom the others are compared with; None: the first."""

    out: Path | None = None
    overrides: tuple[str, ...] = ()
    """``key.path=value`` assignments for experiments."""

    offline: bool = False
    command: str = ""
    """That asked for it, for the report."""
