"""The Operator contract: a pure function of tensors with its metadata beside it.

Neither this module nor an operator's imports torch on loading, which takes a second or more:
a recipe is checked without it.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from evomerge.core.errors import ConfigError, EvomergeError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Parameters, Rule
from evomerge.merging.operators.parameter import Parameter as Parameter
from evomerge.merging.operators.parameter import Settings as Settings

if TYPE_CHECKING:
    from torch import Tensor, dtype


@dataclass(frozen=True)
class MaskKey:
    """What keys the random masks of one tensor; equal keys give nested masks.

    The recipe is not part of it: candidates that differ only in density see the same uniforms.
    """

    seed: int
    tensor: str
    models: tuple[str, ...]
    """Names of the models, in the order of the tensors."""


class Once(Protocol):
    """Keeps for the study what does not change from candidate to candidate."""

    def __call__(
        self,
        what: str,
        facts: Hashable,
        make: Callable[[], Sequence["Tensor"]],
        model: int | None = None,
    ) -> Sequence["Tensor"]:
        """What ``make`` gives, or gave before.

        The tensors are not to be changed; they lie on the device of the inputs.

        Args:
            what: Names the quantity.
            facts: The settings that it depends on beside the tensors.
            make: Computes it.
            model: The place of the only model whose tensor it depends on, beside the base's;
                by default it depends on all.
        """


def made_anew(
    what: str,
    facts: Hashable,
    make: Callable[[], Sequence["Tensor"]],
    model: int | None = None,
) -> Sequence["Tensor"]:
    """The ``Once`` that keeps nothing."""
    del what, facts, model
    return make()


@dataclass(frozen=True)
class Inputs:
    """What one tensor of the merged model is made of."""

    tensors: Sequence["Tensor"]
    """One a model, of one shape and any floating dtype; only read."""

    base: "Tensor | None"
    """The base's tensor; None for operators that need none."""

    settings: Settings
    key: MaskKey
    depth: float | None = None
    """Of the tensor's layer: 0 for the first, 1 for the last; None outside of layers."""

    once: Once = made_anew
    """Keeps what does not change from candidate to candidate."""

    statistics: Sequence["Tensor | None"] = ()
    """One a model where the operator names a statistic; None where the tensor has none."""

    @property
    def origin(self) -> "Tensor":
        """The base's tensor, for operators that cannot do without.

        Raises:
            TrialError: There is none.
        """
        if self.base is None:
            raise TrialError(
                f"{self.key.tensor}: merging task vectors needs the base's tensor."
            )
        return self.base

    @property
    def scale(self) -> float:
        """``lambda`` of this tensor, with LiNeS' growth over the layers if it is asked for."""
        growth = self.settings.number("lines") if "lines" in self.settings.whole else 0.0
        return self.settings.number("lambda") + growth * (self.depth or 0.0)

    def flat(self) -> list["Tensor"]:
        """Every model's tensor as one row."""
        return [tensor.reshape(-1) for tensor in self.tensors]


Blocks = Iterable[tuple[slice, "Tensor"]]
"""Slices that cover a flattened tensor in order, each with its merged entries in float32.

A row is good until the next one is asked for, since the same memory is used again.
"""


class WritableBlocks(ABC):
    """Blocks that can also write themselves into a tensor in one pass over memory."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[slice, "Tensor"]]:
        """As blocks."""

    @abstractmethod
    def write(self, target: "Tensor", dtype: "dtype") -> float | None:
        """Write the merged tensor, rounded once to a dtype on the way.

        Args:
            target: Flat, of any floating dtype.
            dtype: To which the float32 result is rounded.

        Returns:
            The largest magnitude of the float32 result, NaN if there is one; None where these
            tensors cannot be written in one pass, nothing is written then.
        """


Merge = Callable[[Inputs], Blocks]
"""The inputs to the merged tensor, block by block.

Arithmetic is in float32; no global state is used or changed. Element-wise operators give blocks
that stay in the processor's cache, so that a merge into bfloat16 moves few bytes; operators on
whole matrices may give one block.
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

    takes_base: bool = False
    """Does the same where the recipe has a base, and else merges the models themselves."""

    min_models: int = 1
    max_models: int | None = None
    stochastic: bool = False
    """Uses the mask key."""

    statistics: str | None = None
    """Name of the statistic of every model that the operator needs, from ``collect-stats``."""

    zero_weight_drops_out: bool = False
    """A model of weight 0 adds nothing, so its tensors need not be read."""

    settings_problem: Callable[[Settings], str | None] | None = None
    """Why parameters that are each allowed do not go together, or None."""

    def settings(self, models: Mapping[str, Parameters], whole: Parameters) -> Settings:
        """All parameters of a rule with defaults filled in.

        Raises:
            ConfigError: Unknown names or values out of range; every problem found.
        """
        problems = self.parameter_problems(models, whole)
        if problems:
            raise ConfigError(problems)
        return self._with_defaults(models, whole)

    def _with_defaults(self, models: Mapping[str, Parameters], whole: Parameters) -> Settings:
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
        taken = self.base_taken(base)
        return tuple(name for name in rule.models if taken is None or name != taken)

    def base_taken(self, base: str | None) -> str | None:
        """The recipe's base if differences to it are merged, else None."""
        return base if self.needs_base or self.takes_base else None

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
        if self.settings_problem is not None and not problems:
            problem = self.settings_problem(self._with_defaults(models, whole))
            problems += [f"{self.name}: {problem}."] if problem else []
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

    def __call__(self, inputs: Inputs) -> "Tensor":
        """Merge one tensor in float32.

        Raises:
            TrialError: The result is not finite.
        """
        like = inputs.tensors[0] if inputs.base is None else inputs.base
        merged = like.new_empty(like.shape).float()
        self.merge_into([merged.view(-1)], inputs, merged.dtype)
        return merged

    def merge_into(
        self,
        targets: Sequence["Tensor"],
        inputs: Inputs,
        dtype: "dtype",
        scale: float = 1.0,
    ) -> None:
        """Merge one tensor into flat targets, rounded once to a dtype on the way.

        Args:
            targets: Flat, of the tensor's length, of any floating dtype.
            inputs: What is merged.
            dtype: To which the float32 result is rounded.
            scale: What the float32 result is multiplied by before that.

        Raises:
            TrialError: The result is not finite, or not in that dtype; or a plugin's operator
                fails. The targets are then partly written.
        """
        module = getattr(self.merge, "__module__", "")
        if module.partition(".")[0] == "evomerge":
            self._written(targets, inputs, dtype, scale)
            return
        try:
            self._written(targets, inputs, dtype, scale)
        except EvomergeError:
            raise
        except Exception as error:
            file = getattr(sys.modules.get(module), "__file__", None) or module
            raise TrialError(
                f"{inputs.key.tensor}: operator {self.name} of {file} failed: "
                f"{type(error).__name__}: {error}."
            ) from error

    def check_finite(self, merged: "Tensor", key: MaskKey) -> None:
        """Refuse what ``merge_into`` would refuse, for a tensor that need not be written.

        Raises:
            TrialError: It is not finite.
        """
        if not is_finite(merged):
            raise TrialError(self._not_finite(key, float(merged.abs().max()), merged.dtype))

    def _written(
        self, targets: Sequence["Tensor"], inputs: Inputs, dtype: "dtype", scale: float
    ) -> None:
        merged = _scaled(self.merge(inputs), scale)
        if isinstance(merged, WritableBlocks):
            largest = merged.write(targets[0], dtype)
            if largest is not None:
                for narrowed in {dtype, *(target.dtype for target in targets)}:
                    self._check_largest(inputs.key, largest, narrowed)
                for target in targets[1:]:
                    target.copy_(targets[0].to(dtype))
                return
        entries = 0
        for block, row in merged:
            entries += row.numel()
            finite = is_finite(row)
            for target in targets:
                part = target[block]
                part.copy_(row if target.dtype == dtype else row.to(dtype))
                # Rounding makes large numbers infinite, the largest float32 in bfloat16 too.
                narrowed = target.dtype if dtype == row.dtype else dtype
                if not finite or (narrowed != row.dtype and not is_finite(part)):
                    largest = float(row.abs().max())
                    raise TrialError(self._not_finite(inputs.key, largest, narrowed))
        if entries != targets[0].numel():
            raise TrialError(
                f"{inputs.key.tensor}: operator {self.name} gave {entries} of "
                f"{targets[0].numel()} entries."
            )

    def _check_largest(self, key: MaskKey, largest: float, dtype: "dtype") -> None:
        import torch  # noqa: PLC0415 - see above

        if largest <= torch.finfo(dtype).max:
            return
        # A little above it, a number is still rounded down to it.
        if not math.isfinite(float(torch.tensor(largest).to(dtype))):
            raise TrialError(self._not_finite(key, largest, dtype))

    def _not_finite(self, key: MaskKey, largest: float, dtype: "dtype") -> str:
        what = f"{key.tensor}: {self.name} of {', '.join(key.models)}"
        if math.isfinite(largest):
            return f"{what} reaches {largest:g}, too large for {dtype}."
        return f"{what} gives NaN or infinite weights."


def _scaled(blocks: Blocks, scale: float) -> Blocks:
    """The blocks themselves or copies, since rows may be parts of the models' tensors."""
    if scale == 1:
        return blocks
    return ((block, row * scale) for block, row in blocks)


def is_finite(tensor: "Tensor") -> bool:
    """Whether every entry is finite, in one quick pass."""
    if not tensor.numel():
        return True
    low, high = (float(bound) for bound in tensor.aminmax())  # NaN if any entry is NaN
    return math.isfinite(low) and math.isfinite(high)


WEIGHT = Parameter("weight", "number", 1.0, "share of the model", per_model=True)
DENSITY = Parameter(
    "density", "number", 1.0, "share of entries kept", per_model=True, low=0.0, high=1.0
)
LAMBDA = Parameter("lambda", "number", 1.0, "scale of the merged task vector")
LINES = Parameter("lines", "number", 0.0, "growth of lambda from the first layer to the last")
"""Layer-increasing scaling (LiNeS, Wang et al., 2024, arXiv:2410.17146).

The task vector of layer l of L is scaled by ``lambda + lines · l / (L - 1)``, that of a tensor
outside of layers by ``lambda``.
"""
