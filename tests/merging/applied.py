"""One tensor through one operator, written briefly; and a keeper of what is made once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evomerge.merging.operators.contract import Inputs, MaskKey, Once, made_anew
from evomerge.merging.operators.registry import operator


def applied(
    name: str,
    tensors: Sequence[Any],
    base: Any = None,
    own: Sequence[Mapping[str, float]] = (),
    once: Once = made_anew,
    **whole: Any,
) -> torch.Tensor:
    """The merged tensor in float32; ``lambda`` is written ``lambda_``."""
    found = operator(name)
    models = tuple("abcdef"[: len(tensors)])
    whole = {key.rstrip("_"): value for key, value in whole.items()}
    settings = found.settings(dict(zip(models, own or [{}] * len(models), strict=True)), whole)
    inputs = Inputs(
        [torch.as_tensor(t) for t in tensors],
        None if base is None else torch.as_tensor(base),
        settings,
        MaskKey(0, "tensor", models),
        once=once,
    )
    return found(inputs)


@dataclass
class Keeper:
    """Keeps what operators make once, for one tensor and one set of models."""

    kept: dict[Hashable, Sequence[torch.Tensor]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def __call__(
        self,
        what: str,
        facts: Hashable,
        make: Callable[[], Sequence[torch.Tensor]],
        model: int | None = None,
    ) -> Sequence[torch.Tensor]:
        key = (what, facts, model)
        if key not in self.kept:
            self.kept[key] = make()
            self.made.append(what)
        return self.kept[key]


def normal(*shape: int, seed: int = 0, count: int = 1) -> list[torch.Tensor]:
    """Normal entries in float32, one tensor a count."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]
