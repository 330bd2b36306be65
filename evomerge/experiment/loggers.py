"""The loggers that an experiment asks for, set up for one session of its study."""

import uuid
from collections.abc import Sequence
from pathlib import Path

from evomerge import __version__
from evomerge.core.errors import StoreError
from evomerge.experiment.loggers_spec import LoggerSpec
from evomerge.experiment.spec import ExperimentSpec
from evomerge.search.observer import Observer
from evomerge.store.study_store import StudyStore
from evomerge.tracking.contract import Parameter, RunFacts
from evomerge.tracking.registry import logger_problem, make_logger
from evomerge.tracking.run_loggers import RunLoggers

_ID = "logging_id"


def logger_problems(loggers: Sequence[LoggerSpec]) -> list[tuple[int, str]]:
    """Position and problem of each logger that cannot be used here; nothing is imported."""
    found = ((n, logger_problem(each.name, each.options)) for n, each in enumerate(loggers))
    return [(n, problem) for n, problem in found if problem is not None]


def with_loggers(
    observer: Observer,
    spec: ExperimentSpec,
    run_dir: Path,
    store: StudyStore,
    *,
    offline: bool = False,
) -> RunLoggers:
    """An observer that passes everything on to another one and to the experiment's loggers.

    It is a context: where the block ends, loggers are told the study's state and finish.

    Args:
        observer: Hears everything first.
        spec: The experiment.
        run_dir: Where local logs go, under ``logs/``.
        store: The study, whose id in the tools is made at the first session with a logger.
        offline: Reach no server.

    Raises:
        ConfigError: A logger's library is missing or broken.
    """
    loggers = {
        each.name: make_logger(each.name, each.options, offline=offline)
        for each in spec.loggers
    }
    identity = store.meta(_ID)
    if loggers and identity is None:
        identity = uuid.uuid4().hex  # from the system's source, not from a global generator
        store.set_meta(_ID, identity)

    def state() -> str:
        try:
            return "finished" if store.meta("state") == "finished" else "interrupted"
        except StoreError:
            return "interrupted"

    facts = RunFacts(identity or "", spec.name, run_dir, run_parameters(spec))
    return RunLoggers(observer, loggers, facts, store.trials() if loggers else (), state)


def run_parameters(spec: ExperimentSpec) -> dict[str, Parameter]:
    """What a study is made of, by dotted name."""
    parameters: dict[str, Parameter] = {
        "name": spec.name,
        "evomerge": __version__,
        "seed": spec.seed,
        "models": ", ".join(spec.models.all),
        "tasks": ", ".join(task.name for task in spec.tasks.use),
        "operator": ", ".join(spec.space.operator),
        "fitness.estimator": spec.fitness.estimator,
        "optimizer": spec.optimizer.name,
    }
    parameters |= {f"optimizer.{k}": _plain(v) for k, v in spec.optimizer.options.items()}
    budget = spec.budget.model_dump(exclude_none=True)
    return parameters | {f"budget.{key}": value for key, value in budget.items()}


def _plain(value: object) -> Parameter:
    return value if isinstance(value, str | int | float | bool) else str(value)
