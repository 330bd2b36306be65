"""Models as arrays in memory, for tests of split tables without checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from landscapes import source_models

from evomerge.core.recipe import Recipe
from evomerge.spaces.space import SourceModels
from evomerge.spaces.splits import SplitsSpace, SplitsSpaceSpec
from evomerge.spaces.splits_geometry import RowBlock, SeedWeights
from evomerge.spaces.splits_layout import FlatLayout, FlatTensor
from evomerge.spaces.splits_noise import normals

SHAPES = {
    "model.norm.weight": (6,),
    "model.layers.0.mlp.up.weight": (5, 4),
    "model.layers.0.norm.weight": (4,),
    "model.layers.1.mlp.up.weight": (5, 4),
    "model.layers.1.mlp.up.weight_scale": (5, 2),
    "model.layers.1.norm.weight": (4,),
    "model.layers.2.mlp.up.weight": (5, 4),
    "model.layers.2.norm.weight": (4,),
    "model.embed_tokens.weight": (12, 3),
    "norm.weight": (3,),
}
"""Names that are parts of each other, in no order."""


@dataclass
class ArrayModels(SeedWeights):
    """Random models of given shapes; counts how often their weights are read."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: SHAPES)
    names: Sequence[str] = ("base", "e1", "e2", "e3")
    reads: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        self.tensors = {
            model: {name: rng.standard_normal(shape) for name, shape in self.shapes.items()}
            for model in self.names
        }

    def layout(self, names: Sequence[str]) -> FlatLayout:
        tensors = [FlatTensor.of(name, shape) for name, shape in self.shapes.items()]
        return FlatLayout.ordered(tensors, "model.embed_tokens.weight")

    def blocks(self, names: Sequence[str]) -> Iterator[RowBlock]:
        self.reads += 1
        layout = self.layout(names)
        for tensor, first in zip(layout.tensors, layout.first_rows, strict=False):
            own = [self.tensors[n][tensor.name].reshape(tensor.rows, -1) for n in names]
            middle = tensor.rows // 2
            if middle:
                yield RowBlock(first, tensor.name, 0, [each[:middle] for each in own])
            start = middle * tensor.width
            yield RowBlock(first + middle, tensor.name, start, [each[middle:] for each in own])

    def gram(self, names: Sequence[str]) -> np.ndarray:
        rows = [
            np.einsum("krw,lrw->rkl", np.stack(block.models), np.stack(block.models))
            for block in self.blocks(names)
        ]
        zero = np.zeros((1, len(names), len(names)))
        return np.concatenate([zero, np.cumsum(np.concatenate(rows), axis=0)])

    def flat(self, name: str) -> np.ndarray:
        """The whole model as one vector, in the layout's order."""
        return np.concatenate(
            [self.tensors[name][t.name].reshape(-1) for t in self.layout(()).tensors]
        )


def splits_space(
    weights: SeedWeights | None = None, experts: int = 3, base: bool = True, **spec: object
) -> SplitsSpace:
    models = source_models(experts, layers=3)
    models = SourceModels(
        models.base if base else None,
        models.experts,
        3,
        seed=models.seed,
        weights=weights or ArrayModels(),
    )
    return SplitsSpace(SplitsSpaceSpec.model_validate(spec), models, {})


def direction(layout: FlatLayout, seed: int) -> np.ndarray:
    """A noise direction as one vector."""
    parts = [normals(seed, t.name, 0, t.rows * t.width) for t in layout.tensors]
    return np.concatenate(parts)


def merged_naively(recipe: Recipe, models: ArrayModels) -> np.ndarray:
    """The recipe's rules followed tensor by tensor, in the layout's order, in float64."""
    parts = []
    for tensor in models.layout(()).tensors:
        rule = recipe.rule_for(tensor.name)
        made = np.zeros((tensor.rows, tensor.width))
        cuts = [0, *rule.parameters.get("cuts", ()), tensor.rows]
        noise = rule.parameters.get("noise_seeds", ())
        total = sum(own.get("weight", 1.0) for own in rule.models.values()) if (
            rule.operator == "linear" and rule.parameters.get("normalize")) else 1.0  # fmt: skip
        for k in range(len(cuts) - 1):
            rows = slice(cuts[k], cuts[k + 1])
            for name, own in rule.models.items():
                weight = own.get("weight", 1.0)
                factor = weight[k % len(weight)] if isinstance(weight, tuple) else weight
                whole = models.tensors[name][tensor.name].reshape(tensor.rows, -1)
                made[rows] += factor / total * whole[rows]
            for j, seed in enumerate(noise):
                size = rule.parameters["noise"][k * len(noise) + j]
                whole = normals(seed, tensor.name, 0, made.size).reshape(made.shape)
                made[rows] += size * whole[rows]
        parts.append(made.reshape(-1))
    return np.concatenate(parts)
