"""A mergekit-evolve configuration as its file has it; every problem is named at once."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evomerge.core.errors import ConfigError
from evomerge.recipes.yaml_text import YamlError, load_yaml

ON_DIFFERENCES = ("task_arithmetic", "ties", "dare_ties")
"""Methods that merge differences to a base."""

_METHODS = ("linear", *ON_DIFFERENCES, "slerp")
_PAIR = 2


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvolveGenome(_Closed):
    """The ``genome`` section: what mergekit-evolve varies."""

    models: tuple[str, ...] = Field(min_length=1)
    merge_method: str
    base_model: str | None = None
    tokenizer_source: str | None = None
    layer_granularity: int = 0
    normalize: bool | None = None
    allow_negative_weights: bool = False
    filters: tuple[str, ...] | None = None
    smooth: bool = False

    @field_validator("merge_method")
    @classmethod
    def _is_known(cls, given: str) -> str:
        if given not in _METHODS:
            raise ValueError(f"mergekit-evolve has {', '.join(_METHODS)}; found {given!r}")
        return given


class EvolveTask(_Closed):
    """One of the ``tasks``; the score is the sum of their weighted metrics."""

    name: str
    weight: float = Field(default=1.0, allow_inf_nan=False)
    metric: str = "acc,none"


class EvolveConfig(_Closed):
    """A configuration as ``mergekit-evolve`` takes it."""

    genome: EvolveGenome
    tasks: tuple[EvolveTask, ...] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)
    num_fewshot: int | None = Field(default=None, ge=0)
    shuffle: bool = False
    random_init: bool = False
    apply_chat_template: bool = True
    fewshot_as_multiturn: bool = True

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if not isinstance(given, list):
            return given
        return [{"name": each} if isinstance(each, str) else each for each in given]


def read_evolve(path: Path) -> EvolveConfig:
    """The configuration in a file.

    Raises:
        ConfigError: With everything that is wrong with it.
    """
    try:
        plain = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from error
    try:
        config = EvolveConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(
            [
                f"{path}: {'.'.join(map(str, each['loc']))}: "
                f"{each['msg'].removeprefix('Value error, ')}."
                for each in error.errors()
            ]
        ) from error
    problems = _problems(config)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return config


def _problems(config: EvolveConfig) -> list[str]:
    genome = config.genome
    problems = []
    if genome.merge_method in ON_DIFFERENCES and genome.base_model is None:
        problems.append(f"genome.base_model: {genome.merge_method} needs one.")
    if set(genome.models) == {genome.base_model}:
        problems.append("genome.models: names no model besides the base.")
    if len(set(genome.models)) < len(genome.models):
        problems.append("genome.models: names one twice.")
    if genome.merge_method == "slerp":
        if len(genome.models) != _PAIR:
            problems.append(
                f"genome.models: slerp of the two heaviest of {len(genome.models)} models has "
                "no counterpart; import two models, or use 'linear'."
            )
        if genome.smooth or genome.filters:
            problems.append("genome: slerp takes neither 'smooth' nor 'filters'.")
    if any(task.weight == 0 for task in config.tasks):
        problems.append("tasks: a weight of 0 has no effect; leave the task out.")
    return problems
