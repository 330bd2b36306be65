"""The neighbours whose answers a study's stability objectives compare with."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from evomerge.core.recipe import Recipe
from evomerge.experiment.prepare import Prepared
from evomerge.fitness.label_free import DEFAULT_STEP, STABILITY
from evomerge.merging.engine import MergeEngine
from evomerge.merging.neighbours import apply_neighbour, neighbour_steps
from evomerge.search.evaluate import Neighbourhood


def stability_settings(prepared: Prepared) -> dict[str, Any]:
    """What ``stability`` depends on besides weights and items; empty where it is not asked.

    Weight is moved between the experts, or between a single expert and the base.
    """
    if not _tasks(prepared):
        return {}
    experts = [source.name for source in prepared.models.experts]
    models = experts if len(experts) > 1 else [s.name for s in prepared.models.sources]
    steps = [o.step for o in prepared.spec.objectives if o.step is not None]
    return {STABILITY: {"step": (steps or [DEFAULT_STEP])[0], "models": models}}


def neighbourhood(
    prepared: Prepared, engine: MergeEngine, model: torch.nn.Module
) -> Neighbourhood | None:
    """How to ask neighbours by way of a resident model; None where no objective needs them."""
    settings = stability_settings(prepared).get(STABILITY)
    if settings is None:
        return None
    steps = [
        replace(prepared.models.recipe([rule]), dtype="float32")
        for rule in neighbour_steps(settings["models"], settings["step"])
    ]

    def merge(recipe: Recipe, step: Recipe) -> None:
        apply_neighbour(engine, recipe, step, model)

    return Neighbourhood(_tasks(prepared), tuple(partial(merge, step=step) for step in steps))


def asks_per_item(prepared: Prepared) -> dict[str, int]:
    """How often an item is put to a model, by task; tasks not named ask once."""
    return dict.fromkeys(_tasks(prepared), 2)


def _tasks(prepared: Prepared) -> tuple[str, ...]:
    asked = {
        task
        for objective in prepared.objectives
        if STABILITY in (objective.metric, objective.of)
        for task in objective.tasks
    }
    return tuple(task for task in prepared.tasks if task in asked)
