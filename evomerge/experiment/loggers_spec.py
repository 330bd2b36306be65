"""Loggers as the experiment file spells them: a name, or a name with options."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from evomerge.core.near_names import unknown
from evomerge.tracking.registry import LOGGERS


def _known(name: str) -> str:
    if name not in LOGGERS:
        raise ValueError(f"{unknown('logger', name, LOGGERS)}")
    return name


def _with_scheme(uri: str) -> str:
    """A folder's relative path would mean another folder wherever a run is resumed from."""
    if not re.match(r"databricks$|uc$|[a-z][a-z0-9+-]*:", uri):
        raise ValueError(
            "must begin with a scheme, as http://host:5000, sqlite:///runs.db or "
            f"file:///folder do; found {uri!r}"
        )
    return uri


class LoggerSpec(BaseModel):
    """One tool that follows the search, and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_known)]
    """``tensorboard``, ``wandb`` or ``mlflow``."""

    project: str | None = Field(default=None, min_length=1)
    """Of wandb; None is ``evomerge``."""

    entity: str | None = Field(default=None, min_length=1)
    """Of wandb: user or team; None is the account's own."""

    group: str | None = Field(default=None, min_length=1)
    """Of wandb: runs shown together."""

    mode: Literal["online", "offline"] | None = None
    """Of wandb; None is ``WANDB_MODE`` of the environment, else offline."""

    uri: Annotated[str, AfterValidator(_with_scheme)] | None = None
    """Of mlflow; None is ``MLFLOW_TRACKING_URI`` of the environment, else a folder in the run
    directory."""

    experiment: str | None = Field(default=None, min_length=1)
    """Of mlflow; None is ``evomerge``."""

    @property
    def options(self) -> dict[str, Any]:
        """Every option that was given."""
        given = self.model_dump(exclude={"name"}, exclude_none=True)
        return dict(given)

    @model_validator(mode="after")
    def _options_are_its_own(self) -> Self:
        foreign = [key for key in self.options if key not in LOGGERS[self.name].options]
        if foreign:
            owners = [n for n, kind in LOGGERS.items() if foreign[0] in kind.options]
            raise ValueError(f"{' and '.join(foreign)} only with {' or '.join(owners)}")
        return self


def _as_logger(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return {"name": given} if isinstance(given, str) else given


def _each_once(loggers: tuple[LoggerSpec, ...]) -> tuple[LoggerSpec, ...]:
    names = [logger.name for logger in loggers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice} named twice")
    return loggers


LoggersSpec = Annotated[
    tuple[Annotated[LoggerSpec, BeforeValidator(_as_logger)], ...], AfterValidator(_each_once)
]
"""Each by its name alone or as a mapping with options; none is the default."""
