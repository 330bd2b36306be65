"""The Operator contract: a pure function of tensors with its metadata beside it.

Neither this module nor an operator's imports torch on loading, which takes a second or more:
a recipe is checked without it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Parameters, Rule, Value

if TYPE_CHECKING:
    from torch import Tensor, dtype


@dataclass(frozen=True)
class Parameter:
    """Something a recipe may set for an operator."""

    name: str
    kind: Literal["number", "flag"]
    default: float | bool
    summary: str
    per_model: bool = False
    """One value a model; a value given for the whole merge holds for models without one."""

    low: float = -math.inf
    high: float = math.inf

    def problem(self, value: Value) -> str | None:
        """Why the value is not allowed, or None."""
        if self.kind == "flag":
            return None if isinstance(value, bool) else f"must be true or false, got {value!r}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, got {value!r}"
        if not math.isfinite(value) or not self.low <= value <= self.high:
            bounds = f" from {self.low:g} to {self.high:g}" if self.low > -math.inf else ""
            return f"must be a finite number{bounds}, got {value!r}"
        return None


@dataclass(frozen=True)
class Settings:
    """An operator's parameters with every default filled in."""

    models: tuple[Parameters, ...]
    """Per-model parameters, in the order of the tensors."""

    whole: Parameters
    """Parameters of the merge as a whole."""

    def of_models(self, name: str) -> list[float]:
        """A numeric per-model parameter, one value a model."""
        return [float(parameters[name]) for parameters in self.models]

    def number(self, name: str) -> float:
        """A numeric parameter of the merge as a whole."""
        return float(self.whole[name])

    def flag(self, name: str) -> bool:
        """A true/false parameter of the merge as a whole."""
        return bool(self.whole[name])


@dataclass(frozen=True)
class MaskKey:
    """What keys the random masks of one tensor; equal keys give nested masks.

    The recipe is not part of it: candidates that differ only in density see the same uniforms.
    """

    seed: int
    tensor: str
    models: tuple[str, ...]
    """Names of the models, in the order of the tensors."""


Blocks = Iterator[tuple[slice, "Tensor"]]
"""Slices that cover a flattened tensor in order, each with its merged entries in float32.

A row is good until the next one is asked for, since the same memory is used again.
"""

Merge = Callable[[Sequence["Tensor"], "Tensor | None", Settings, MaskKey], Blocks]
"""``(tensors, base, settings, key)`` to the merged tensor, block by block.

The tensors have one shape and any floating dtype; they are only read. ``base`` is None for
operators that need none. Arithmetic is in float32; no global state is used or changed. A whole
merged tensor is never in float32, so a merge into bfloat16 moves few bytes.
"""


@dataclass(frozen=True)
class Operator:
    """A way to merge one tensor of several models."""

    name: str
    summary: str
    merge: Merge
    parameters: tuple[Parameter, ...]
    paper: str
    """Title and identifier of the source, for model cards."""

    needs_base: bool = False
    """Merges differences to a base; the base itself does not count as a model."""

    min_models: int = 1
    max_models: int | None = None
    stochastic: bool = False
    """Uses the mask key."""

    zero_weight_drops_out: bool = False
    """A model of weight 0 adds nothing, so its tensors need not be read."""

    def settings(self, models: Mapping[str, Parameters], whole: Parameters) -> Settings:
        """All parameters of a rule with defaults filled in.

        Raises:
            ConfigError: Unknown names or values out of range; every problem found.
        """
        problems = self.parameter_problems(models, whole)
        if problems:
            raise ConfigError(problems)
        return Settings(
            tuple(
                {
                    p.name: own.get(p.name, whole.get(p.name, p.default))
                    for p in self.parameters
                    if p.per_model
                }
                for own in models.values()
            ),
            {p.name: whole.get(p.name, p.default) for p in self.parameters if not p.per_model},
        )

    def rule_settings(self, rule: Rule, base: str | None) -> Settings:
        """``settings`` of the models that the rule merges."""
        return self.settings(
            {name: rule.models[name] for name in self.merged(rule, base)}, rule.parameters
        )

    def merged(self, rule: Rule, base: str | None) -> tuple[str, ...]:
        """The models whose tensors go in: those of the rule, without the base if it has one."""
        return tuple(name for name in rule.models if not (self.needs_base and name == base))

    def parameter_problems(
        self, models: Mapping[str, Parameters], whole: Parameters
    ) -> list[str]:
        """Every unknown name and value out of range, as sentences."""
        known = {p.name: p for p in self.parameters}
        problems = self._value_problems(whole, known, self.name)
        for model, own in models.items():
            where = f"{self.name}, model {model!r}"
            misplaced = [n for n in own if n in known and not known[n].per_model]
            problems += [
                f"{where}: {name!r} belongs to the merge as a whole, not to a model."
                for name in misplaced
            ]
            problems += self._value_problems(
                {n: v for n, v in own.items() if n not in misplaced}, known, where
            )
        return problems

    def _value_problems(
        self, given: Parameters, known: Mapping[str, Parameter], where: str
    ) -> list[str]:
        problems = []
        for name, value in given.items():
            if name not in known:
                problems.append(f"{where}: {unknown('parameter', name, known)}")
            elif problem := known[name].problem(value):
                problems.append(f"{where}: {name} {problem}.")
        return problems

    def __call__(
        self,
        tensors: Sequence["Tensor"],
        base: "Tensor | None",
        settings: Settings,
        key: MaskKey,
    ) -> "Tensor":
        """Merge one tensor in float32.

        Raises:
            TrialError: The result is not finite.
        """
        like = tensors[0] if base is None else base
        merged = like.new_empty(like.shape).float()
        self.merge_into([merged.view(-1)], (tensors, base, settings, key), merged.dtype)
        return merged

    def merge_into(
        self,
        targets: Sequence["Tensor"],
        call: tuple[Sequence["Tensor"], "Tensor | None", Settings, MaskKey],
        dtype: "dtype",
    ) -> None:
        """Merge one tensor into flat targets, rounded once to a dtype on the way.

        Args:
            targets: Flat, of the tensor's length, of any floating dtype.
            call: The arguments of ``merge``.
            dtype: To which the float32 result is rounded.

        Raises:
            TrialError: The result is not finite, or not in that dtype; the targets are then
                partly written.
        """
        key = call[3]
        for block, row in self.merge(*call):
            finite = is_finite(row)
            for target in targets:
                part = target[block]
                part.copy_(row if target.dtype == dtype else row.to(dtype))
                # Rounding makes large numbers infinite, the largest float32 in bfloat16 too.
                if not finite or (dtype != row.dtype and not is_finite(part)):
                    raise TrialError(self._not_finite(key, row, dtype))

    def _not_finite(self, key: MaskKey, row: "Tensor", dtype: "dtype") -> str:
        what = f"{key.tensor}: {self.name} of {', '.join(key.models)}"
        if is_finite(row):
            return f"{what} reaches {float(row.abs().max()):g}, too large for {dtype}."
        return f"{what} gives NaN or infinite weights."


def is_finite(tensor: "Tensor") -> bool:
    """Whether every entry is finite, in one quick pass."""
    if not tensor.numel():
        return True
    low, high = (float(bound) for bound in tensor.aminmax())  # NaN if any entry is NaN
    return math.isfinite(low) and math.isfinite(high)


def needed(base: "Tensor | None", key: MaskKey) -> "Tensor":
    """The base tensor of an operator that cannot do without.

    Raises:
        TrialError: There is none.
    """
    if base is None:
        raise TrialError(f"{key.tensor}: merging task vectors needs the base's tensor.")
    return base


WEIGHT = Parameter("weight", "number", 1.0, "share of the model", per_model=True)
DENSITY = Parameter(
    "density", "number", 1.0, "share of entries kept", per_model=True, low=0.0, high=1.0
)
LAMBDA = Parameter("lambda", "number", 1.0, "scale of the merged task vector")
