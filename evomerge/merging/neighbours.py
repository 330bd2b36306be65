"""Neighbours of a recipe: its weights, a small step of every source's coefficient away."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from evomerge.core.recipe import Recipe, Rule
from evomerge.merging.engine import MergeEngine
from evomerge.merging.recipe_check import OUTPUT_DTYPES
from evomerge.merging.resident_model import places

_ROUNDED = {spelled: getattr(torch, name) for name, spelled in OUTPUT_DTYPES.items()}


def neighbour_steps(models: Sequence[str], step: float) -> tuple[Rule, ...]:
    """One rule a model, whose merge is what to add to the weights to reach that neighbour.

    ``step`` of weight is moved onto the model, evenly from the others. For a weighted average
    these are the neighbours on the grid of its coefficients; with two models, the two that
    AdaMMS compares with (arXiv:2503.23733). No neighbour is nearer than another, wherever the
    recipe lies, and none needs to know how its weights came about.

    Args:
        models: Source models, at least two.
        step: Weight moved, e.g. 0.1.
    """
    share = step / (len(models) - 1)
    return tuple(
        Rule(
            "linear",
            {name: {"weight": step if name == onto else -share} for name in models},
            {"normalize": False},
        )
        for onto in models
    )


@torch.no_grad()
def apply_neighbour(
    engine: MergeEngine, recipe: Recipe, step: Recipe, model: torch.nn.Module
) -> None:
    """Overwrite a resident model's weights with those of a recipe plus a step.

    Merge and step are added in float32 and then rounded as the recipe's own merge is: added
    to weights that are rounded already, a small step would vanish in bfloat16. Besides the
    model, two float32 tensors are in memory at a time.

    Args:
        engine: Has the sources of both recipes.
        recipe: What the neighbour is of.
        step: A recipe with one rule of ``neighbour_steps`` and the same reference.
        model: As for ``MergeEngine.apply``.

    Raises:
        ConfigError, CheckpointError, TrialError: As ``MergeEngine.apply`` does.
    """
    planned = {tensor.name: tensor for tensor in engine.plan(recipe)}
    targets = places(model, {name: tensor.shape for name, tensor in planned.items()})
    engine.forget(model)
    device = next(model.parameters()).device
    moves = engine.tensors(replace(step, dtype="float32"), device)
    for name, exact in engine.tensors(replace(recipe, dtype="float32"), device):
        # The step may have a head of its own where the recipe's is its embedding.
        move = next(tensor for moved, tensor in moves if moved == name)
        weights = exact.add_(move).to(_ROUNDED.get(planned[name].dtype, torch.float32))
        for target in targets[name]:
            target.copy_(weights)
