"""The Python entry points: run an experiment, resume a study."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.experiment.session import ResumeOptions, RunOptions, start
from evomerge.experiment.session import resume as resume_session
from evomerge.experiment.stages_reader import has_stages
from evomerge.experiment.stages_run import resume_chain, start_chain
from evomerge.experiment.study import Study
from evomerge.experiment.study_chain import StudyChain
from evomerge.store.chain_record import is_chain


def run(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Study | StudyChain:
    """Run an experiment file to the end of its budget; with ``stages``, a chain of searches.

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
    options = RunOptions(place, _assignments(overrides), offline)
    if has_stages(Path(experiment)):
        return start_chain(Path(experiment), options)
    return start(Path(experiment), options)


def resume(
    run_dir: str | Path,
    *,
    add: int = 0,
    models: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Study | StudyChain:
    """Continue a study, or a chain of them, that was interrupted, or extend one.

    Args:
        run_dir: The run directory.
        add: Further candidates, beyond the budget so far.
        models: New places of source models by name, where they have moved.
        overrides: Other workers than the run was begun with, e.g. ``{"workers.count": 4}``.
        offline: Ask no hub for anything.

    Raises:
        evomerge.core.errors.EvomergeError: What is wrong and what to do about it.
    """
    options = ResumeOptions(add, models or {}, _assignments(overrides), offline)
    go_on = resume_chain if is_chain(Path(run_dir)) else resume_session
    return go_on(Path(run_dir), options)


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
