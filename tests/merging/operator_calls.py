"""One operator called on one tensor, and a keeper that counts what it is asked to make."""

import torch

from evomerge.merging.operators.contract import Inputs, MaskKey, made_anew
from evomerge.merging.operators.registry import operator

LINEAR_LAYER = "model.layers.3.mlp.up_proj.weight"
NAMES = tuple("abcdefgh")


class Keeper:
    """What a study keeps of one tensor, and how often something had to be made for it."""

    def __init__(self):
        self.kept = {}
        self.made = []

    def __call__(self, what, facts, make, model=None):
        quantity = (what, facts, model)
        if quantity not in self.kept:
            self.made.append(quantity)
            self.kept[quantity] = make()
        return self.kept[quantity]


def inputs(name, models, base, *, weights=None, whole=None, own=None, **more):
    """``own``: per-model parameters beside the weights; ``more``: fields of ``Inputs``."""
    names = NAMES[: len(models)]
    per_model = [dict(settings) for settings in own or [{}] * len(models)]
    for settings, weight in zip(per_model, weights or [], strict=bool(weights)):
        settings["weight"] = weight
    settings = operator(name).settings(dict(zip(names, per_model, strict=True)), whole or {})
    key = MaskKey(0, more.pop("tensor", LINEAR_LAYER), names)
    more.setdefault("once", made_anew)
    return Inputs([_tensor(m) for m in models], _tensor(base), settings, key, **more)


def merged(name, models, base, **more):
    """The merged tensor as a float64 array."""
    return operator(name)(inputs(name, models, base, **more)).double().numpy()


def _tensor(values):
    return values if isinstance(values, torch.Tensor) else torch.tensor(values).float()


def fine_tunes(shape, count=3, seed=0, size=0.1, dtype=torch.float32):
    """A base and models that differ from it by normal numbers, of one shape."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator).to(dtype)
    change = [torch.randn(shape, generator=generator) * size for _ in range(count)]
    return base, [(base.float() + part).to(dtype) for part in change]


def task_vectors(base, models):
    """In float64, as arrays."""
    return [(model.double() - base.double()).numpy() for model in models]
