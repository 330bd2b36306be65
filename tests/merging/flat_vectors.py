"""Checkpoints as flat float64 vectors in the order in which split tables cut them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from evomerge.core.recipe import Recipe, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.seed_gram import OpenedSeeds
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import stored_name
from evomerge.spaces.space import SourceModels
from evomerge.spaces.splits import SplitsSpace, SplitsSpaceSpec

MLP = {"0.weight": (256, 64), "0.bias": (256,), "2.weight": (10, 256), "2.bias": (10,)}
"""The network of M2N2's own test-bed: 64-256-10."""


def make_mlps(folder: Path, count: int) -> dict[str, SourceModel]:
    """Networks of that shape, near each other as fine-tunes are, or far apart (odd ones)."""
    generator = torch.Generator().manual_seed(4)
    start = {name: torch.randn(shape, generator=generator) for name, shape in MLP.items()}
    opened = {}
    for number in range(count):
        size = 0.05 if number % 2 == 0 else 1.0
        tensors = {
            name: start[name] + size * torch.randn(shape, generator=generator)
            for name, shape in MLP.items()
        }
        save_file(tensors, folder / f"m{number}.safetensors")
        opened[f"m{number}"] = open_source(str(folder / f"m{number}.safetensors"))
    return opened


def splits_over(sources: Mapping[str, SourceModel]) -> SplitsSpace:
    """The space over opened models, all of them experts."""
    models = SourceModels(
        base=None,
        experts=tuple(Source(name, str(own.folder)) for name, own in sources.items()),
        layers=0,
        weights=OpenedSeeds(sources, next(iter(sources))),
    )
    return SplitsSpace(SplitsSpaceSpec(), models, {})


def seed_vectors(sources: Mapping[str, SourceModel]) -> np.ndarray:
    """``(seeds, entries)``."""
    layout = OpenedSeeds(sources, next(iter(sources))).layout(tuple(sources))
    return np.stack(
        [
            np.concatenate(
                [
                    own.read(stored_name(t.name, own.tensors)).double().numpy().reshape(-1)
                    for t in layout.tensors
                ]
            )
            for own in sources.values()
        ]
    )


def merged_vector(engine: MergeEngine, recipe: Recipe, sources: Mapping[str, SourceModel]):
    """What the engine makes of a recipe, flat in the layout's order."""
    layout = OpenedSeeds(sources, next(iter(sources))).layout(tuple(sources))
    made = dict(engine.tensors(recipe))
    assert sorted(made) == sorted(t.name for t in layout.tensors)
    return np.concatenate([made[t.name].double().numpy().reshape(-1) for t in layout.tensors])


def split_slerp(p: np.ndarray, q: np.ndarray, cut: int, weight: float) -> np.ndarray:
    """Of whole flat vectors, by the paper's definition."""
    cosine = np.clip(p @ q / (np.linalg.norm(p) * np.linalg.norm(q)), -1, 1)
    angle = np.arccos(cosine)
    share = np.where(np.arange(len(p)) < cut, weight, 1 - weight)
    if np.sin(angle) <= 1e-6:
        return (1 - share) * p + share * q
    return (np.sin((1 - share) * angle) * p + np.sin(share * angle) * q) / np.sin(angle)
