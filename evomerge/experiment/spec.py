"""The typed experiment file; unknown keys are errors."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from evomerge.experiment.constraint_spec import ConstraintSpec
from evomerge.experiment.custom_spec import CustomItemsSpec, ScoreSpec
from evomerge.experiment.fitness_spec import FitnessSpec
from evomerge.experiment.loggers_spec import LoggersSpec
from evomerge.experiment.objective_spec import ObjectiveSpec
from evomerge.experiment.workers_spec import WorkersSpec
from evomerge.spaces.parameter import ParameterSpaceSpec
from evomerge.spaces.registry import PARAMETER

BASE = "base"
"""The name of the base model in recipes and tables."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def usable_name(name: str) -> str:
    """A name that may become a folder's."""
    if not _NAME.fullmatch(name):
        raise ValueError("must be letters, digits, - and _, beginning with no - or _")
    return name


class Closed(BaseModel):
    """A part of the experiment file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _spelled(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    """A base with an adapter over it, as one text."""
    if isinstance(given, Mapping) and set(given) == {"base", "adapter"}:
        return f"{given['base']}+{given['adapter']}"
    return given


Model = Annotated[str, BeforeValidator(_spelled)]
"""A folder, a file of weights, a hub id, or ``MODEL+ADAPTER``; also written as a mapping of
``base`` and ``adapter``."""


class ModelsSpec(Closed):
    """The source models."""

    base: Model | None = None
    """The common ancestor: a folder or hub id. Operators on task vectors need it."""

    experts: Mapping[str, Model] = Field(min_length=1)
    """Folder or hub id by a short name of your choice."""

    tokenizer_mismatch: str = "error"
    """Where tokenizers differ. ``base`` merges all the same with the base's (or first
    expert's), by row of the embedding, or by token where the numbers of rows differ. ``union``
    merges by token and knows every model's tokens; the name of an expert takes its tokenizer.
    """

    allow_pickle: bool = False
    """Whether PyTorch's pickle files may be read where a model has no safetensors."""

    statistics: Mapping[str, str] = Field(default_factory=dict)
    """By name of a model: a file of ``evomerge collect-stats``, or a folder with one for each
    kind. Those not named are looked for in the model's own folder."""

    @model_validator(mode="after")
    def _names_are_usable(self) -> Self:
        bad = [name for name in self.experts if not _NAME.fullmatch(name) or name == BASE]
        if bad:
            raise ValueError(
                f"expert names must be letters, digits, - and _, and not 'base'; found {bad}"
            )
        return self

    @model_validator(mode="after")
    def _tokenizer_is_known(self) -> Self:
        known = ["error", "base", "union", *self.experts]
        if self.tokenizer_mismatch not in known:
            raise ValueError(
                f"tokenizer_mismatch must be one of {', '.join(known)}; "
                f"found {self.tokenizer_mismatch!r}"
            )
        return self

    @model_validator(mode="after")
    def _statistics_are_of_models(self) -> Self:
        strange = sorted(set(self.statistics) - set(self.all))
        if strange:
            raise ValueError(f"statistics of {strange}, the models are {[*self.all]}")
        return self

    @property
    def all(self) -> dict[str, str]:
        """Every source model by name, the base first."""
        return ({BASE: self.base} if self.base else {}) | dict(self.experts)


class JsonlSplits(Closed):
    """A file of questions for each split."""

    search: str
    validation: str
    test: str


def _in_a_list(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return [given] if isinstance(given, str) else given


class TaskUse(Closed):
    """One task of the experiment."""

    name: str
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples before each question; None takes the task's own number."""

    score: ScoreSpec | None = None
    """What scores it, where it is no lm-eval task."""

    items: CustomItemsSpec | None = None
    """With ``score``: how many items, to be divided by the seed, or by split; None asks for
    one score for the whole."""

    metrics: tuple[str, ...] | None = Field(default=None, min_length=1)
    """With ``score``: what it measures on each item; None is one metric named ``score``."""

    jsonl: (
        Annotated[
            Annotated[str, Tag("file")] | Annotated[JsonlSplits, Tag("splits")],
            Discriminator(lambda given: "file" if isinstance(given, str) else "splits"),
        ]
        | None
    ) = None
    """Questions in plain JSONL, in place of an lm-eval task: one file, divided by the seed, or
    one for each split. See ``fitness/README.md`` for the fields."""

    until: Annotated[tuple[str, ...], BeforeValidator(_in_a_list)] | None = None
    """With ``jsonl``: a written answer ends before any of these; None: at the line's end."""

    max_tokens: int | None = Field(default=None, ge=1)
    """With ``jsonl``: longest written answer; None: 64 tokens."""

    ignore_case: bool | None = None
    """With ``jsonl``: whether the case of a written answer does not matter."""

    samples: str | None = None
    """A ``samples_*.jsonl`` of ``lm_eval --log_samples`` whose requests are asked again, in
    place of an lm-eval task."""

    @model_validator(mode="after")
    def _questions_have_one_source(self) -> Self:
        sources = [key for key in ("score", "jsonl", "samples") if getattr(self, key)]
        if len(sources) > 1:
            raise ValueError(f"give one of {' and '.join(sources)}")
        keys = ("until", "max_tokens", "ignore_case")
        options = [key for key in keys if getattr(self, key) is not None]
        if options and self.jsonl is None:
            raise ValueError(f"{' and '.join(options)} only with 'jsonl'")
        if self.samples is not None and self.num_fewshot is not None:
            raise ValueError("num_fewshot only without 'samples': its prompts are logged")
        return self

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if self.score is None:
            alone = [key for key in ("items", "metrics") if getattr(self, key) is not None]
            if alone:
                raise ValueError(f"{' and '.join(alone)} only with 'score'")
        elif self.num_fewshot is not None:
            raise ValueError("num_fewshot only without 'score'")
        names = self.metrics or ()
        if len(set(names)) < len(names) or not all(names) or "standard_error" in names:
            raise ValueError(
                f"metrics need names of their own, other than standard_error; found {[*names]}"
            )
        return self


def _as_task(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return {"name": given} if isinstance(given, str) else given


class TasksSpec(Closed):
    """The tasks that candidates are scored on."""

    include: tuple[str, ...] = ()
    """Folders with lm-eval task YAMLs; lm-eval's built-in tasks need none."""

    use: tuple[Annotated[TaskUse, BeforeValidator(_as_task)], ...] = Field(min_length=1)
    code: str | None = None
    """Folder in which functions and commands are found; None is the experiment file's."""

    @property
    def whole(self) -> tuple[str, ...]:
        """Tasks that have one score for all their items together."""
        return tuple(task.name for task in self.use if task.score and task.items is None)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [task.name for task in self.use]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice} named twice")
        return self


class PluginSpaceSpec(BaseModel):
    """A search space of a plugin, which checks its options itself."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Every key but the kind."""
        return dict(self.model_extra or {})

    @property
    def operator(self) -> tuple[str, ...]:
        """What listings show in place of the operators, which only the plugin knows."""
        return (self.kind,)


def _space_tag(given: Any) -> str:  # noqa: ANN401 - whatever the YAML holds
    kind = given.get("kind") if isinstance(given, Mapping) else getattr(given, "kind", None)
    return PARAMETER if kind is None or kind == PARAMETER else "plugin"


SpaceSpec = Annotated[
    Annotated[ParameterSpaceSpec, Tag(PARAMETER)] | Annotated[PluginSpaceSpec, Tag("plugin")],
    Discriminator(_space_tag),
]
"""A search space, told apart by ``kind``."""


class OptimizerSpec(BaseModel):
    """The optimizer and its options, which the optimizer itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = ""
    """Empty: the one that suits the genes and the number of objectives."""

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


class EvaluationSpec(Closed):
    """How models are run; part of what identifies a response, fixed for a study."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto`` is the dtype in which the base (or first expert) is stored; on a CPU, float32
    in place of float16."""

    device: str = "auto"
    """A torch device; ``auto`` is cuda where workers have GPUs (``workers.gpus``), else the
    CPU."""

    batch_size: int = Field(default=32, ge=1)
    max_length: int | None = Field(default=None, ge=8)
    """Longest input in tokens; None takes the model's own limit."""

    backend: Literal["transformers", "vllm"] = "transformers"
    """What computes the answers. ``vllm`` has to be installed besides; it takes a GPU of its
    own accord, and ``device`` is where candidates are merged."""

    apply_chat_template: bool = False


class ExperimentSpec(Closed):
    """A whole experiment, as written in ``experiment.yaml``."""

    name: Annotated[str, AfterValidator(usable_name), Field(max_length=80)]
    """Names the run directory."""

    seed: int = 0
    models: ModelsSpec
    space: SpaceSpec
    tasks: TasksSpec
    fitness: FitnessSpec = FitnessSpec()
    objectives: tuple[ObjectiveSpec, ...] = Field(min_length=1)
    constraints: tuple[ConstraintSpec, ...] = ()
    """What every result must keep, whatever its objectives."""

    optimizer: OptimizerSpec = OptimizerSpec()
    budget: BudgetSpec
    workers: WorkersSpec = WorkersSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    loggers: LoggersSpec = ()
    """Tools that follow the search."""

    plugins: tuple[str, ...] = ()
    """Modules or ``.py`` files that add operators, optimizers or search spaces; packages that
    announce theirs as entry points need none."""

    @property
    def device(self) -> str:
        """The torch device that models run on."""
        if self.evaluation.device != "auto":
            return self.evaluation.device
        return "cuda" if self.workers.gpus > 0 else "cpu"

    @model_validator(mode="after")
    def _workers_have_the_device(self) -> Self:
        hidden = self.workers.on_ray and self.workers.gpus == 0
        if hidden and self.evaluation.device.startswith("cuda"):
            raise ValueError(
                f"evaluation.device is {self.evaluation.device}, but workers have no GPU; say "
                "how many each gets with workers.gpus, e.g. 1 or 0.5"
            )
        return self
