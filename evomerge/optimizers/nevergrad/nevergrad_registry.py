"""Which of nevergrad's optimizers can be used, and why not the others."""

import difflib
from collections.abc import Iterator
from typing import Any

import nevergrad
from nevergrad.optimization import base, recaster

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown

_WELL_KNOWN = (
    "NGOpt", "CMA", "DiagonalCMA", "OnePlusOne", "DiscreteOnePlusOne", "TwoPointsDE", "DE",
    "PSO", "TBPSA", "BO", "EDA", "RandomSearch",
)  # fmt: skip

_NEVER = 1e9
"""Generations between two uses of a model."""


def nevergrad_optimizer(
    name: str,
    parametrization: Any,  # noqa: ANN401 - nevergrad has no types
    budget: int,
    workers: int,
) -> Any:  # noqa: ANN401 - as above
    """An optimizer of nevergrad's registry that can be replayed.

    nevergrad's meta-models are fitted in threads, for so many seconds at most, and fail with
    numpy 2.4; where one is part of what NGOpt and its kin chose, it is left out.

    Raises:
        ConfigError: There is no such name; it proposes one at a time only; it runs its method
            in a thread of its own or by the clock, so that a search could not be replayed; or
            a library that it needs is not installed.
    """
    known = nevergrad.optimizers.registry
    if name not in known:
        raise ConfigError(_not_known(name, sorted(known)))
    make = known[name]
    where = f"optimizer.optimizer: {name}"
    if workers > 1 and make.no_parallelization:
        raise ConfigError(
            f"{where} proposes one candidate at a time, and 'batch' with 'ahead' is {workers}; "
            "set batch: 1, without 'ahead', or use another such as CMA or TwoPointsDE."
        )
    try:
        made = make(parametrization, budget=budget, num_workers=workers)
        members = list(_members(made, set()))
    except (ImportError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(
            f"{where} cannot be used here: {type(error).__name__}: {error}. CMA, TwoPointsDE "
            "and DiscreteOnePlusOne take any genes."
        ) from None
    for member in members[1:]:
        if _has_model(member):
            # It goes on with the method beside the model, of which it is only a part.
            member.frequency_ratio = _NEVER
    reason = next(filter(None, map(_not_replayable, members)), None)
    if reason is None and _has_model(members[0]):
        reason = "fits a model in threads and by the clock"
    if reason is not None:
        chosen = " with batch: 1 (2 and more choose among others)" if workers == 1 else ""
        raise ConfigError(
            f"{where}{chosen} {reason}, so that a search could not be replayed; use another "
            "such as CMA, OnePlusOne or TwoPointsDE."
        )
    return made


def _not_known(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    if near:  # capitals are easily mistaken
        name_of = {k.lower(): k for k in known}
        hint = f"; did you mean {name_of[near[0]]!r}?"
        return f"optimizer.optimizer: unknown nevergrad optimizer {name!r}{hint}"
    return f"optimizer.optimizer: {unknown('nevergrad optimizer', name, known, _WELL_KNOWN)}"


def _members(part: object, seen: set[int]) -> Iterator[Any]:
    """An optimizer and all those that it is made of."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, base.Optimizer):
        yield part
        if hasattr(type(part), "optim"):
            yield from _members(part.optim, seen)  # chosen on first use
        parts: Any = list(vars(part).values())
    elif isinstance(part, dict):
        parts = list(part.values())
    elif isinstance(part, list | tuple):
        parts = part
    else:
        return
    for inner in parts:
        yield from _members(inner, seen)


def _not_replayable(member: Any) -> str | None:  # noqa: ANN401 - nevergrad has no types
    if isinstance(member, recaster.RecastOptimizer):
        return f"runs {member.name} in a thread of its own"
    return None


def _has_model(member: Any) -> bool:  # noqa: ANN401 - nevergrad has no types
    """Whether it is a method with a model beside, as NGOpt often chooses."""
    return hasattr(member, "frequency_ratio") and hasattr(member, "algorithm")
