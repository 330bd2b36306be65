"""Weights & Biases: a run on its servers, or offline in the run directory."""

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

# Before the import: its authors are not told of errors in its use here.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from evomerge.tracking.contract import Ending, Logger, RunFacts

Mode = Literal["online", "offline", "disabled"]

_ROWS = 1_000
"""Of the front, in its table."""

_SECONDS = 30.0
"""For the servers to take what is left at the end."""


class WeightsAndBiasesLogger(Logger):
    """Logs to a W&B run whose id is the study's, so that a resumed study goes on with it.

    Offline, which is the default, each session leaves a folder ``offline-run-…`` in
    ``RUN_DIR/logs/wandb``; ``wandb sync`` sends them later, all to the same run.
    """

    def __init__(self, options: Mapping[str, Any], *, offline: bool) -> None:
        self._options = dict(options)
        self._mode = _mode(options.get("mode"), offline=offline)
        self._run: wandb.Run | None = None

    def begin(self, facts: RunFacts) -> None:
        """Begin or go on with the run.

        Raises:
            wandb.errors.Error: The servers cannot be reached, or do not let us in.
            PermissionError: Online without an API key.
        """
        settings = _settings(self._mode, facts.logs)
        with _exits_untouched():
            wandb.setup(settings)  # the run's settings alone do not silence everything
            if self._mode == "online" and not wandb.login(prompt=False):
                raise PermissionError("no API key: run 'wandb login', or set WANDB_API_KEY")
            self._run = wandb.init(
                project=self._options.get("project", "evomerge"),
                entity=self._options.get("entity"),
                group=self._options.get("group"),
                name=facts.name,
                id=facts.id,
                resume="allow",
                config=dict(facts.parameters),
                allow_val_change=True,
                settings=settings,
            )
        # Its own steps may only rise; trials end in any order.
        self._run.define_metric("trial", hidden=True)
        self._run.define_metric("*", step_metric="trial")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row of its history."""
        if self._run is not None:
            self._run.log({"trial": step, **metrics})

    def end(self, ending: Ending) -> None:
        """The state, the front as a table, and the files beside the run's own."""
        if self._run is None:
            return
        self._run.summary["state"] = ending.state
        if ending.front is not None:
            self._run.log({"front": _table(ending.front)})
        for file in ending.files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        with _exits_untouched():
            self._run.finish(exit_code=0 if ending.state == "finished" else 1)


def _mode(asked: Mode | None, *, offline: bool) -> Mode:
    """The experiment file comes before the environment; ``--offline`` before both."""
    if offline:
        return "offline"
    if asked is not None:
        return asked
    environment: dict[str, Mode] = {"online": "online", "disabled": "disabled"}
    return environment.get(os.environ.get("WANDB_MODE", ""), "offline")


def _settings(mode: Mode, folder: Path) -> wandb.Settings:
    """Nothing printed; nothing collected but what is logged."""
    return wandb.Settings(
        mode=mode,
        root_dir=str(folder.resolve()),
        silent=True,
        quiet=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        symlink=False,
        finish_timeout=_SECONDS,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1.0,
    )


@contextmanager
def _exits_untouched() -> Iterator[None]:
    """Undo what the library does to the ways in which a program ends."""
    before = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = before


def _table(front: Path) -> wandb.Table:
    with front.open(encoding="utf-8", newline="") as file:
        heading, *rows = islice(csv.reader(file), _ROWS + 1)
    return wandb.Table(columns=heading, data=rows)
