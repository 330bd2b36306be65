"""WorkerProcess: what runs in a process of its own, somewhere, and does one job at a time."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import EvomergeError, WorkersError
from evomerge.workers.contract import Evaluate, Job, JobResult, MakeEvaluation

_LOOK_SECONDS = 0.1
"""Between looks at the memory in use."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Ready:
    """A worker process that can take jobs."""

    node: str
    pid: int
    settings: Mapping[str, Any]
    facts: tuple[str, ...]
    machine: str
    """Its id in the cluster."""

    def comparable(self, other: "Ready") -> "Ready | Refused":
        """Another worker, refused where its scores would not be comparable."""
        keys = sorted({*self.settings, *other.settings})
        differing = [k for k in keys if self.settings.get(k) != other.settings.get(k)]
        if not differing:
            return other
        said = f"{other.node} would score otherwise than {self.node}: {', '.join(differing)}"
        return Refused(WorkersError(f"{said} differ."), other.machine)


@dataclass(frozen=True)
class Refused:
    """A machine on which no worker can be prepared."""

    error: EvomergeError
    machine: str


class WorkerProcess:
    """One resident model and what questions it.

    Args:
        make: Builds the evaluation here.
    """

    def __init__(self, make: MakeEvaluation) -> None:
        self._make = make
        self._evaluate: Evaluate | None = None

    def prepare(self) -> Ready | Refused:
        """Load models and tasks; gives the error for which this cannot be done, as a value."""
        try:
            evaluation = self._make(self.copies())
        except EvomergeError as error:
            return Refused(error, self.machine())
        self._evaluate = evaluation.evaluate
        return Ready(
            platform.node(), os.getpid(), evaluation.settings, evaluation.facts, self.machine()
        )

    def machine(self) -> str:
        """What tells this machine from others."""
        return platform.node()

    def copies(self) -> Mapping[str, str]:
        """Copies of the driver's places made on this machine; none where they are shared."""
        return {}

    def do(self, job: Job) -> JobResult:
        """Do a job.

        Raises:
            RuntimeError: ``prepare`` has not been called, or gave an error.
        """
        if self._evaluate is None:
            raise RuntimeError("the worker was given a job before it was ready")
        return self._evaluate(job)

    def over_memory(self, limit: int) -> int:
        """Wait until the process holds more than ``limit`` bytes; gives how many it holds.

        Runs beside the job. Only what is private to the process counts: mapped source models
        are shared by all workers of a machine.
        """
        while (held := private_memory()) <= limit:
            time.sleep(_LOOK_SECONDS)
        return held


def private_memory() -> int:
    """Bytes of memory that this process has to itself (Linux); 0 where that is not told."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
