"""The kinds of search spaces by name: evomerge's own and those of plugins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.plugins import Registry
from evomerge.spaces.data_flow import DataFlowSpace, DataFlowSpec
from evomerge.spaces.joint import JointSpace, JointSpec
from evomerge.spaces.layer_edit import LayerEditSpace, LayerEditSpec
from evomerge.spaces.layer_moves import LayerMovesSpace, LayerMovesSpec
from evomerge.spaces.parameter import ParameterSpace, ParameterSpaceSpec
from evomerge.spaces.space import OperatorSignature, SearchSpace, SourceModels
from evomerge.spaces.splits import SplitsSpace, SplitsSpaceSpec

PARAMETER = "parameter"
"""The kind of a space that names none."""

SPLITS = "splits"


@dataclass(frozen=True)
class SpaceKind:
    """One kind of search space that an experiment file can name."""

    summary: str
    """One line for listings."""

    options: type[BaseModel]
    """The YAML keys below ``space:`` beside ``kind``; should forbid extra keys."""

    build: Callable[[Any, SourceModels, Mapping[str, OperatorSignature]], SearchSpace]
    """From checked options, the models, and the merge operators by name; raises ConfigError
    where the models do not suit the space."""


SPACES = Registry(
    "spaces",
    {
        PARAMETER: SpaceKind(
            "operator parameters per expert, layer group and component",
            ParameterSpaceSpec,
            ParameterSpace,
        ),
        SPLITS: SpaceKind(
            "runs of rows, each a mixture of the seed models: what m2n2 recombines",
            SplitsSpaceSpec,
            SplitsSpace,
        ),
        "layer_moves": SpaceKind(
            "layers of the sources stacked by moves: take, merge, skip, go back",
            LayerMovesSpec,
            LayerMovesSpace,
        ),
        "layer_edit": SpaceKind(
            "each layer left out, taken from one source, or merged of some of them",
            LayerEditSpec,
            LayerEditSpace,
        ),
        "data_flow": SpaceKind(
            "a path through the layers of the sources, weights as they are",
            DataFlowSpec,
            DataFlowSpace,
        ),
        "joint": SpaceKind(
            "a merge and a path through it and its sources, searched together",
            JointSpec,
            JointSpace,
        ),
    },
    SpaceKind,
)


def make_space(
    kind: str,
    options: Mapping[str, Any],
    models: SourceModels,
    operators: Mapping[str, OperatorSignature],
) -> SearchSpace:
    """Build a search space by the name of its kind.

    Args:
        kind: A key of ``SPACES``.
        options: YAML keys below ``space:``, without ``kind``.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: An unknown kind, wrong options, or models that do not suit the space.
    """
    if kind not in SPACES:
        raise ConfigError(f"space.kind: {unknown('search space', kind, SPACES)}.")
    known = SPACES[kind]
    try:
        given = known.options.model_validate(dict(options))
    except ValidationError as error:
        keys = list(known.options.model_fields)
        problems = dict.fromkeys(_described(each, keys) for each in error.errors())
        raise ConfigError([*problems]) from error
    return known.build(given, models, operators)


def _described(error: Mapping[str, Any], keys: Sequence[str]) -> str:
    """What is wrong with one key, which the keys lead to."""
    place = ".".join(part for part in error["loc"] if isinstance(part, str))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"space.{place}: {unknown('key', place, keys)}."
    said = str(error["msg"]).removeprefix("Value error, ")
    found = error["input"]
    told = isinstance(found, Mapping | list | tuple) or "found" in said
    return f"space.{place or 'kind'}: {said}" + ("." if told else f", found {found!r:.60}.")
