"""Custom fitness as the experiment file spells it: a function or a command, and its items."""

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _arguments(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    """A command as a list of texts; one text is split as a shell would, without one."""
    if isinstance(given, str):
        given = shlex.split(given)
    if given == []:
        raise ValueError("needs at least the name of a program")
    if isinstance(given, list):
        return [str(a) if type(a) in (int, float) else a for a in given]
    return given


class CommandSpec(BaseModel):
    """A command that scores a model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[tuple[str, ...], BeforeValidator(_arguments)]
    """Program and arguments, run in ``tasks.code``; ``{model}`` is the model's folder."""

    timeout: float = Field(default=600, gt=0, allow_inf_nan=False)
    """Seconds for one model."""


class SplitSizes(BaseModel):
    """Numbers of items, numbered from 0 through the splits in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: int = Field(ge=2, le=1_000_000)
    validation: int = Field(ge=2, le=1_000_000)
    test: int = Field(ge=2, le=1_000_000)


def _function_name(name: str) -> str:
    if not _FUNCTION.fullmatch(name):
        raise ValueError("must be 'module:function', or a mapping with 'command'")
    return name


def _score_kind(given: Any) -> str:  # noqa: ANN401 - whatever the YAML holds
    return "by command" if isinstance(given, Mapping | CommandSpec) else "by function"


def _items_kind(given: Any) -> str:  # noqa: ANN401 - whatever the YAML holds
    return "by split" if isinstance(given, Mapping | SplitSizes) else "in all"


ScoreSpec = Annotated[
    Annotated[str, AfterValidator(_function_name), Tag("by function")]
    | Annotated[CommandSpec, Tag("by command")],
    Discriminator(_score_kind),
]
"""A Python function, ``module:function``, or a command."""

CustomItemsSpec = Annotated[
    Annotated[int, Field(ge=8, le=1_000_000), Tag("in all")]
    | Annotated[SplitSizes, Tag("by split")],
    Discriminator(_items_kind),
]
"""How many items; from 8 on, each split of a division by the seed has 2."""
