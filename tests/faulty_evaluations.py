"""Evaluations for workers in other processes: plain answers, and every way to go wrong."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.responses import ItemResponses
from evomerge.workers.contract import Answered, Evaluation, Job, JobResult

HOARD: list[bytes] = []
RECIPE = Recipe((Source("a", "a"),), (Rule("linear", {"a": {}}),))


def job(number: int) -> Job:
    return Job(number, RECIPE, {"task": (number,)})


def answer(job: Job) -> JobResult:
    """Every third job fails."""
    if job.number % 3 == 0:
        return Failed("merge", f"job {job.number}")
    return Answered({"task": ItemResponses(job.items["task"], {"accuracy": (1.0,)})})


@dataclass(frozen=True)
class Faulty:
    """Answers, but for the jobs named here."""

    folder: str
    """Where it leaves one file for each time that a job is begun."""

    dies: Mapping[int, int] = field(default_factory=dict)
    """Job by number: how often its process is killed."""

    hangs: tuple[int, ...] = ()
    eats: tuple[int, ...] = ()
    """Jobs that take memory without end."""

    raises: tuple[int, ...] = ()
    hoards: bool = False
    """Keeps 80 MiB of each job, and takes its time."""

    seconds: float = 0.0

    def __call__(self, copies: Mapping[str, str]) -> Evaluation:
        return Evaluation(self.evaluate, {"kind": "faulty"}, ("a fact",))

    def begun(self, number: int) -> int:
        return len(list(Path(self.folder).glob(f"{number}-*")))

    def evaluate(self, job: Job) -> JobResult:
        before = self.begun(job.number)
        Path(self.folder, f"{job.number}-{before}-{os.getpid()}").touch()
        if before < self.dies.get(job.number, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.number in self.hangs:
            threading.Event().wait()
        if job.number in self.raises:
            raise ConfigError(f"job {job.number} ends the run")
        eaten = []
        while job.number in self.eats:
            eaten.append(b"x" * 2**23)
            time.sleep(0.01)
        if self.hoards:
            HOARD.append(os.urandom(2**20) * 80)
            time.sleep(0.5)
        time.sleep(self.seconds)
        return answer(job)


@dataclass(frozen=True)
class Unprepared:
    """Cannot be prepared: it says so, or its process dies, on the machines named."""

    how: str
    only_in: str = ""
    """Environment variable that must be set for it to go wrong; empty: always."""

    def __call__(self, copies: Mapping[str, str]) -> Evaluation:
        if not self.only_in or self.only_in in os.environ:
            if self.how == "is away":
                raise FileNotFoundError("a disk that is away")
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ConfigError(["models.base: no such folder.", "models.experts: none."])
        return Evaluation(answer)


@dataclass(frozen=True)
class Telling:
    """Settings and answers tell of the process that it runs in."""

    def __call__(self, copies: Mapping[str, str]) -> Evaluation:
        def evaluate(job: Job) -> JobResult:
            import torch

            told = {
                "threads": float(torch.get_num_threads()),
                "omp": float(os.environ.get("OMP_NUM_THREADS", "-1")),
                "mine": float(os.environ.get("MINE", "-1")),
                "copies": float(len(copies)),
                "copied": float(
                    sum(Path(c).is_dir() and c != place for place, c in copies.items())
                ),
            }
            return Answered({"task": ItemResponses((1,), {k: (v,) for k, v in told.items()})})

        return Evaluation(evaluate, {"odd": os.environ.get("ODD", "no")})
