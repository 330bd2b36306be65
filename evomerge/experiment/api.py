"""The Python entry points: run an experiment, resume a study."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.experiment.session import ResumeOptions, RunOptions, start
from evomerge.experiment.session import resume as resume_session
from evomerge.experiment.study import Study


def run(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Study:
    """Run an experiment file to the end of its budget.

    Args:
        experiment: The YAML file.
        out: The run directory; None takes the first free ``runs/NAME``.
        overrides: Values by dotted key that win over the file, e.g.
            ``{"budget.candidates": 48}``.
        offline: Ask no hub for anything.

    Raises:
        evomerge.core.errors.EvomergeError: What is wrong and what to do about it.
    """
    place = Path(out) if out is not None else None
    return start(Path(experiment), RunOptions(place, _assignments(overrides), offline))


def resume(
    run_dir: str | Path,
    *,
    add: int = 0,
    models: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Study:
    """Continue a study that was interrupted, or extend one.

    Args:
        run_dir: The run directory.
        add: Further candidates, beyond the budget so far.
        models: New places of source models by name, where they have moved.
        overrides: Other workers than the run was begun with, e.g. ``{"workers.count": 4}``.
        offline: Ask no hub for anything.

    Raises:
        evomerge.core.errors.EvomergeError: What is wrong and what to do about it.
    """
    return resume_session(
        Path(run_dir), ResumeOptions(add, models or {}, _assignments(overrides), offline)
    )


def _assignments(overrides: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(f"{key}={_as_text(key, value)}" for key, value in (overrides or {}).items())


def _as_text(key: str, value: Any) -> str:  # noqa: ANN401 - any plain value
    """A value as JSON, which is YAML on one line."""
    try:
        return json.dumps(value, default=_plain)
    except TypeError as error:
        raise ConfigError(f"overrides: {key}: {error}.") from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - what json does not know
    """Paths as text, numpy's numbers as numbers."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a plain value, found {type(value).__name__}")
