"""Loggers by the name that the experiment file gives them."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.tracking.contract import Logger


@dataclass(frozen=True)
class LoggerKind:
    """A logger and what it needs."""

    place: str
    """``module:class``; imported only when the logger is asked for."""

    package: str
    """Imported by that module; the extra that installs it has the logger's name."""

    options: tuple[str, ...] = ()


LOGGERS: Mapping[str, LoggerKind] = {
    "tensorboard": LoggerKind(
        "evomerge.tracking.tensorboard_events:TensorBoardLogger", "tensorboard"
    ),
    "wandb": LoggerKind(
        "evomerge.tracking.weights_and_biases:WeightsAndBiasesLogger",
        "wandb",
        ("project", "entity", "group", "mode"),
    ),
    "mlflow": LoggerKind(
        "evomerge.tracking.mlflow_run:MlflowLogger", "mlflow", ("uri", "experiment")
    ),
}


def logger_problem(name: str, options: Mapping[str, Any]) -> str | None:
    """Why a logger cannot be used here, or None; nothing is imported."""
    if importlib.util.find_spec(LOGGERS[name].package) is None:
        return (
            f"the {name} logger needs the package {LOGGERS[name].package}, which is not "
            f"installed: pip install 'evomerge[{name}]'."
        )
    uri = str(options.get("uri") or "")
    database = name == "mlflow" and "sql" in uri.partition("://")[0]
    if database and importlib.util.find_spec("sqlalchemy") is None:
        return (
            f"MLflow keeps runs in a database ({uri}) only where the whole of it is "
            "installed: pip install mlflow."
        )
    return None


def make_logger(name: str, options: Mapping[str, Any], *, offline: bool) -> Logger:
    """A logger by name; imports its library.

    Args:
        name: One of ``LOGGERS``.
        options: Values of its options; None or a missing one takes the default.
        offline: Write locally, whatever the options or the environment say.

    Raises:
        ConfigError: Its library is not installed, or cannot be imported.
    """
    problem = logger_problem(name, options)
    if problem is not None:
        raise ConfigError(f"loggers: {problem}")
    module, _, attribute = LOGGERS[name].place.partition(":")
    given = {key: value for key, value in options.items() if value is not None}
    try:
        made: Logger = getattr(importlib.import_module(module), attribute)(
            given, offline=offline
        )
    except ImportError as error:
        raise ConfigError(
            f"loggers: {LOGGERS[name].package} is installed but cannot be imported: {error}. "
            f"Install it anew (pip install --force-reinstall 'evomerge[{name}]'), or take "
            f"{name} out of the experiment's loggers."
        ) from error
    return made
