"""The typed experiment file; unknown keys are errors."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    model_validator,
)

from evomerge.spaces.parameter import ParameterSpaceSpec

BASE = "base"
"""The name of the base model in recipes and tables."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _usable_name(name: str) -> str:
    """A name that may become a folder's."""
    if not _NAME.fullmatch(name):
        raise ValueError("must be letters, digits, - and _, beginning with no - or _")
    return name


class Closed(BaseModel):
    """A part of the experiment file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TokenizerMismatch = Literal["error", "base"]
"""What to do where sources disagree on token ids: refuse, or take the base's tokenizer."""


class ModelsSpec(Closed):
    """The source models."""

    base: str | None = None
    """The common ancestor: a folder or hub id. Operators on task vectors need it."""

    experts: Mapping[str, str] = Field(min_length=1)
    """Folder or hub id by a short name of your choice."""

    tokenizer_mismatch: TokenizerMismatch = "error"
    """``base`` merges all the same, by row of the embedding, with the base's tokenizer."""

    @model_validator(mode="after")
    def _names_are_usable(self) -> Self:
        bad = [name for name in self.experts if not _NAME.fullmatch(name) or name == BASE]
        if bad:
            raise ValueError(
                f"expert names must be letters, digits, - and _, and not 'base'; found {bad}"
            )
        return self

    @property
    def all(self) -> dict[str, str]:
        """Every source model by name, the base first."""
        return ({BASE: self.base} if self.base else {}) | dict(self.experts)


class TaskUse(Closed):
    """One task of the experiment."""

    name: str
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples before each question; None takes the task's own number."""


def _as_task(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return {"name": given} if isinstance(given, str) else given


class TasksSpec(Closed):
    """The lm-eval tasks that candidates are scored on."""

    include: tuple[str, ...] = ()
    """Folders with lm-eval task YAMLs; lm-eval's built-in tasks need none."""

    use: tuple[Annotated[TaskUse, BeforeValidator(_as_task)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [task.name for task in self.use]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice} named twice")
        return self


def _enough(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    if isinstance(given, int) and given < 2:
        raise ValueError(f"needs at least 2 items for a standard error, found {given}")
    return given


ItemCount = Annotated[StrictInt | Literal["all"], BeforeValidator(_enough)]


class ItemsSpec(Closed):
    """How many items of each task are used, drawn once per study by its seed."""

    search: ItemCount = 100
    """Answered by every candidate."""

    validation: ItemCount = "all"
    """Answered by the search front, to choose the final front."""

    test: ItemCount = "all"
    """Answered by the final front, sources and baselines, for the report only."""


class FitnessSpec(Closed):
    """What a candidate's score is made of."""

    estimator: Literal["mean"] = "mean"
    items: ItemsSpec = ItemsSpec()
    finalists: int = Field(default=16, ge=1)
    """How many members of the search front are re-scored on validation items."""


class ObjectiveSpec(Closed):
    """A metric to maximize or minimize, on one task or as a weighted mean over several."""

    maximize: str | None = None
    minimize: str | None = None
    task: str | None = None
    tasks: tuple[str, ...] | Mapping[str, float] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("give either 'maximize: METRIC' or 'minimize: METRIC'")
        if (self.task is None) == (self.tasks is None):
            raise ValueError("give either 'task: NAME' or 'tasks: [NAMES]'")
        raw = self._raw_weights
        if not raw or not all(0 < weight < math.inf for weight in raw.values()):
            raise ValueError("'tasks' needs at least one task, all weights finite and above 0")
        if not isinstance(self.tasks, Mapping | None) and len(raw) < len(self.tasks):
            raise ValueError(f"'tasks' names one twice: {list(self.tasks)}")
        return self

    @property
    def _raw_weights(self) -> dict[str, float]:
        if self.task is not None:
            return {self.task: 1.0}
        given = self.tasks or {}
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)

    @property
    def metric(self) -> str:
        """The metric's name."""
        return self.maximize or self.minimize or ""

    @property
    def weights(self) -> dict[str, float]:
        """Weight by task, summing to 1."""
        raw = self._raw_weights
        total = math.fsum(raw.values())
        return {task: weight / total for task, weight in raw.items()}


class OptimizerSpec(BaseModel):
    """The optimizer and its options, which the optimizer itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "nsga2"

    @property
    def options(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})


class BudgetSpec(Closed):
    """The hard total that the study may spend; the first limit reached ends the search."""

    candidates: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    item_evaluations: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.candidates is None and self.minutes is None and self.item_evaluations is None:
            raise ValueError("needs a limit: candidates, minutes or item_evaluations")
        return self


class WorkersSpec(Closed):
    """Where candidates are merged and scored."""

    kind: Literal["inline"] = "inline"
    count: Literal[1] = 1


class EvaluationSpec(Closed):
    """How models are run; part of what identifies a response, fixed for a study."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto`` is the dtype in which the base (or first expert) is stored; on a CPU, float32
    in place of float16."""

    device: str = "cpu"
    batch_size: int = Field(default=32, ge=1)
    max_length: int | None = Field(default=None, ge=8)
    """Longest input in tokens; None takes the model's own limit."""

    apply_chat_template: bool = False
    threads: int | None = Field(default=None, ge=1)
    """Torch threads; None takes every core that the process may use."""


class ExperimentSpec(Closed):
    """A whole experiment, as written in ``experiment.yaml``."""

    name: Annotated[str, AfterValidator(_usable_name), Field(max_length=80)]
    """Names the run directory."""

    seed: int = 0
    models: ModelsSpec
    space: ParameterSpaceSpec
    tasks: TasksSpec
    fitness: FitnessSpec = FitnessSpec()
    objectives: tuple[ObjectiveSpec, ...] = Field(min_length=1)
    optimizer: OptimizerSpec = OptimizerSpec()
    budget: BudgetSpec
    workers: WorkersSpec = WorkersSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
