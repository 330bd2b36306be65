"""One objective as written in the experiment file, and the options that some have."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from evomerge.core.objectives import Direction
from evomerge.fitness.collapse import DEFAULT_SHARE
from evomerge.fitness.label_free import DEFAULT_STEP, LABEL_FREE, STABILITY

FORGETTING = "forgetting"

OF_RECIPE = ("parameters", "flops", "layers")
"""Objectives that the recipe alone decides; they have no task."""

_OPTION_OF: Mapping[str, tuple[str, ...]] = {
    "metric": (FORGETTING,),
    "reference": (FORGETTING,),
    "step": (STABILITY,),
    "context": ("flops",),
    "collapse": tuple(LABEL_FREE),
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    FORGETTING: {"metric": "accuracy", "reference": "base"},
    STABILITY: {"step": DEFAULT_STEP},
    "flops": {"context": 2048},
}


class ObjectiveSpec(BaseModel):
    """What to maximize or minimize: a metric of one task or several, or a model's size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    maximize: str | None = None
    minimize: str | None = None
    task: str | None = None
    tasks: tuple[str, ...] | Mapping[str, float] | None = None

    metric: str | None = None
    """Of ``forgetting``: the metric whose loss counts; accuracy if left out."""

    reference: str | None = None
    """Of ``forgetting``: the source model compared with; the base if left out."""

    step: float | None = Field(default=None, gt=0, le=1)
    """Of ``stability``: weight moved between source models; .1 if left out."""

    context: int | None = Field(default=None, ge=1)
    """Of ``flops``: tokens of context; 2048 if left out."""

    collapse: Annotated[float, Field(gt=0, le=1, strict=True)] | StrictBool | None = None
    """Of label-free objectives: share of equal answers from which a merged model's outputs
    count as collapsed and it fails; .95 if left out, ``false`` lets all pass."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if not isinstance(given, Mapping):
            return given
        defaults = _defaults(given.get("maximize"), given.get("minimize"))
        return {**given, **{k: v for k, v in defaults.items() if given.get(k) is None}}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("give either 'maximize: METRIC' or 'minimize: METRIC'")
        problems = self._option_problems() + self._task_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _option_problems(self) -> list[str]:
        problems = [
            f"{option!r} is an option of {' and '.join(of)} only"
            for option, of in _OPTION_OF.items()
            if getattr(self, option) is not None and self.quantity not in of
        ]
        if self.collapse is True:
            problems.append("'collapse' is a share of answers, or false")
        if self.quantity == FORGETTING and self.maximize:
            problems.append("forgetting is to be minimized")
        return problems

    def _task_problems(self) -> list[str]:
        given = self.task is not None or self.tasks is not None
        if self.quantity in OF_RECIPE:
            whole = f"{self.quantity} is of the whole model: leave 'task' and 'tasks' out"
            return [whole] if given else []
        if (self.task is None) == (self.tasks is None):
            near = [] if given else get_close_matches(self.quantity, OF_RECIPE, n=1)
            hint = f"; or did you mean {near[0]!r}, which needs none?" if near else ""
            return [f"give either 'task: NAME' or 'tasks: [NAMES]'{hint}"]
        raw = self._raw_weights
        if not raw or not all(0 < weight < math.inf for weight in raw.values()):
            return ["'tasks' needs at least one task, all weights finite and above 0"]
        if not isinstance(self.tasks, Mapping | None) and len(raw) < len(self.tasks):
            return [f"'tasks' names one twice: {list(self.tasks)}"]
        return []

    @property
    def _raw_weights(self) -> dict[str, float]:
        if self.task is not None:
            return {self.task: 1.0}
        given = self.tasks or {}
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)

    @property
    def quantity(self) -> str:
        """What is maximized or minimized."""
        return self.maximize or self.minimize or ""

    @property
    def direction(self) -> Direction:
        """Which of both."""
        return "maximize" if self.maximize else "minimize"

    @property
    def weights(self) -> dict[str, float]:
        """Weight by task, summing to 1; empty for what the recipe alone decides."""
        raw = self._raw_weights
        total = math.fsum(raw.values())
        return {task: weight / total for task, weight in raw.items()}


def _defaults(maximize: object, minimize: object) -> dict[str, Any]:
    """Options where the file gives none, whatever it holds under the two keys."""
    quantity = maximize if minimize is None else minimize
    if not isinstance(quantity, str):
        return {}
    found = dict(_DEFAULTS.get(quantity, {}))
    if LABEL_FREE.get(quantity) == ("maximize" if minimize is None else "minimize"):
        found["collapse"] = DEFAULT_SHARE
    return found
