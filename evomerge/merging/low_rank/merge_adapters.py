"""LoRA adapters of one base, of any ranks, merged into one adapter."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Value
from evomerge.merging.adapter_weights import Adapter, LowRankPair, read_adapter
from evomerge.merging.low_rank.adapter_writer import MergedPair, write_adapter
from evomerge.merging.low_rank.factors import Factors
from evomerge.merging.low_rank.spaces import concatenated, in_core_space, in_knots
from evomerge.merging.operators.contract import Inputs, MaskKey, Settings
from evomerge.merging.operators.registry import operator
from evomerge.merging.recipe_check import count_problem

Space = Literal["linear", "knots", "core_space"]

_DEFAULT_OPERATOR = "task_arithmetic"


@dataclass(frozen=True)
class LowRankMethod:
    """How adapters are merged."""

    space: Space = "linear"
    """``linear`` is the weighted sum, exactly; the others merge by an operator."""

    operator: str | None = None
    """What merges in the space: any operator on task vectors; None is task_arithmetic.

    Not for ``linear``, which has no operator.
    """

    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Of the operator: density, lambda …, for all adapters alike. Not for ``linear``."""

    rank: int | None = None
    """Highest rank of the merged adapter, which is cut to the nearest one; None keeps all."""

    seed: int = 0
    """Keys the masks of stochastic operators."""


def merge_adapters(
    folders: Sequence[Path], weights: Sequence[float], method: LowRankMethod | str, out: Path
) -> None:
    """Merge LoRA adapters and write a PEFT adapter folder, without touching the base.

    A module that an adapter leaves alone counts as its change by zero. All adapters have to
    be of one base, which their configurations cannot prove.

    Args:
        folders: The adapters' folders.
        weights: One an adapter.
        method: How; a text is the name of a space.
        out: The new folder; must not exist, or be empty.

    Raises:
        ConfigError: The method, an operator's parameter, or the number of weights or of
            adapters is wrong.
        CheckpointError: An adapter is no plain LoRA, or they do not fit each other.
        TrialError: The result is not finite.
        StoreError: ``out`` is in use or cannot be written; nothing is left behind.
    """
    chosen = LowRankMethod(_space(method)) if isinstance(method, str) else method
    names = tuple(f"{number}" for number in range(1, len(folders) + 1))
    settings = _settings(names, weights, chosen)
    adapters = [read_adapter(folder) for folder in folders]
    problems = _problems(adapters)
    if problems:
        raise CheckpointError("\n".join(problems))
    modules = dict.fromkeys(module for adapter in adapters for module in adapter.pairs)
    merged = {}
    for module in modules:
        tasks = _tasks(module, adapters)
        if settings is None:
            result = concatenated(tasks, weights)
        else:
            merge = _merge(chosen, settings, MaskKey(chosen.seed, f"{module}.weight", names))
            result = (in_knots if chosen.space == "knots" else in_core_space)(tasks, merge)
        if chosen.rank is not None:
            result = result.truncated(chosen.rank)
        merged[module] = _pair(module, adapters, result)
    write_adapter(merged, [adapter.folder for adapter in adapters], out)


def _space(name: str) -> Space:
    spaces: tuple[Space, ...] = get_args(Space)
    if name not in spaces:
        raise ConfigError(unknown("method", name, spaces))
    return spaces[spaces.index(name)]


def _settings(
    names: Sequence[str], weights: Sequence[float], method: LowRankMethod
) -> Settings | None:
    """The operator's settings; None where the space needs no operator."""
    _space(method.space)
    if len(weights) != len(names) or not names:
        raise ConfigError(f"expected one weight an adapter ({len(names)}), got {[*weights]}.")
    if not all(math.isfinite(weight) for weight in weights):
        raise ConfigError(f"weights must be finite numbers, got {[*weights]}.")
    if method.rank is not None and method.rank < 1:
        raise ConfigError(f"rank must be at least 1, got {method.rank}.")
    if method.space == "linear":
        _check_plain_sum(method)
        return None
    found = operator(method.operator or _DEFAULT_OPERATOR)
    if found.statistics is not None:
        raise ConfigError(
            f"{found.name} weighs by statistics of the base's tensors, which factors lack."
        )
    count = count_problem(found, len(names), None)
    per_model = {p.name for p in found.parameters if p.per_model}
    own = {name: value for name, value in method.parameters.items() if name in per_model}
    whole = {name: value for name, value in method.parameters.items() if name not in per_model}
    weighed = [{"weight": weight} if "weight" in per_model else {} for weight in weights]
    models = {name: {**own, **w} for name, w in zip(names, weighed, strict=True)}
    problems = found.parameter_problems(models, whole) + ([] if count is None else [count])
    if "weight" not in per_model and any(weight != 1.0 for weight in weights):
        problems.append(f"{found.name} has no weights of models; got {[*weights]}.")
    if problems:
        raise ConfigError(problems)
    return found.settings(models, whole)


def _check_plain_sum(method: LowRankMethod) -> None:
    """The weighted sum has nothing to set but weights."""
    given = [] if method.operator is None else [f"operator {method.operator!r}"]
    given += [f"parameter {name!r}" for name in method.parameters]
    if given:
        raise ConfigError(
            f"the space 'linear' is the weighted sum, got {' and '.join(given)}; give the "
            "space 'knots' or 'core_space', in which operators merge, or leave these out."
        )


def _merge(
    method: LowRankMethod, settings: Settings, key: MaskKey
) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """The operator on matrices of a space, whose base is zero."""
    found = operator(method.operator or _DEFAULT_OPERATOR)

    def merge(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
        tensors = [matrix.float().contiguous() for matrix in matrices]
        base = torch.zeros_like(tensors[0]) if found.needs_base or found.takes_base else None
        merged = found(Inputs(tensors, base, settings, key))
        return merged.view(tensors[0].shape).double()

    return merge


def _problems(adapters: Sequence[Adapter]) -> list[str]:
    problems = [
        f"{adapter.folder}: holds whole tensors ({next(iter(adapter.replaced.values()))} …), "
        "which have no low-rank form; merge it over its base, as BASE+ADAPTER."
        for adapter in adapters
        if adapter.replaced
    ]
    for adapter in adapters:
        biases = [pair.bias for pair in adapter.pairs.values() if pair.bias is not None]
        if biases:
            more = f" (and {len(biases) - 1} more)" if len(biases) > 1 else ""
            problems.append(
                f"{adapter.folder}: {biases[0]} is a bias{more}, which a merged adapter does "
                "not hold; merge it over its base, as BASE+ADAPTER."
            )
    first: dict[str, tuple[object, Path]] = {}
    for adapter in adapters:
        for module, pair in adapter.pairs.items():
            a, b = (adapter.weights.tensors[name].shape for name in (pair.a, pair.b))
            looks = (b[0], *a[1:], pair.of_embedding, adapter.config.fan_in_fan_out)
            expected, owner = first.setdefault(module, (looks, adapter.folder))
            if expected != looks:
                problems.append(
                    f"{adapter.folder}: {module} changes a matrix of {[b[0], *a[1:]]}, unlike "
                    f"that of {owner}; adapters must be of one base."
                )
    return problems


def _tasks(module: str, adapters: Sequence[Adapter]) -> list[Factors]:
    """Scaled factors of each adapter, of rank 0 where it leaves the module alone."""
    found = [_factors(adapter, adapter.pairs.get(module)) for adapter in adapters]
    like = next(factors for factors in found if factors is not None)
    none = Factors(like.b[:, :0], like.a[:0])
    return [none if factors is None else factors for factors in found]


def _factors(adapter: Adapter, pair: LowRankPair | None) -> Factors | None:
    if pair is None:
        return None
    b, a = (adapter.weights.read(name).double().flatten(1) for name in (pair.b, pair.a))
    return Factors(pair.scale * b, a)


def _pair(module: str, adapters: Sequence[Adapter], result: Factors) -> MergedPair:
    """The merged factors in the shapes and the widest dtype of those that were merged."""
    having = [adapter for adapter in adapters if module in adapter.pairs]
    pair = having[0].pairs[module]
    a, b = (having[0].weights.read(name) for name in (pair.a, pair.b))
    dtype = a.dtype
    for adapter in having[1:]:
        dtype = torch.promote_types(dtype, adapter.weights.read(adapter.pairs[module].a).dtype)
    return MergedPair(
        a=result.a.to(dtype).reshape(-1, *a.shape[1:]).contiguous(),
        b=result.b.to(dtype).reshape(b.shape[0], -1, *b.shape[2:]).contiguous(),
        of_embedding=pair.of_embedding,
    )
