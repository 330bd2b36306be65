"""From the objectives of an experiment file to checked objectives of the search."""

from collections.abc import Callable, Mapping, Sequence

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Kind, Objective
from evomerge.core.recipe import Recipe
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.objective_spec import FORGETTING, ObjectiveSpec
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.derived_metrics import response_metrics
from evomerge.fitness.label_free import STABILITY
from evomerge.fitness.reply_values import metric_problems
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.engine import MergeEngine
from evomerge.merging.model_size import DEFAULT_CONTEXT, flops_per_token
from evomerge.spaces.parameter import ParameterSpace
from evomerge.spaces.space import SearchSpace

_TWO = 2
_KINDS: Mapping[str, Kind] = {
    "information": "information",
    FORGETTING: "forgetting",
    "parameters": "parameters",
    "flops": "flops",
    "layers": "layers",
}


def objective(spec: ObjectiveSpec) -> Objective:
    """The objective that a part of the experiment file stands for."""
    kind = _KINDS.get(spec.quantity, "mean")
    names = {
        "forgetting": f"forgetting ({spec.metric}, {spec.reference})",
        "flops": f"flops at {spec.context} tokens",
    }
    return Objective(
        metric=names.get(kind, spec.quantity),
        tasks=spec.weights,
        direction=spec.direction,
        kind=kind,
        reference=spec.reference,
        of=spec.metric,
        context=spec.context,
        collapse=spec.collapse or None,
    )


def objective_problems(
    spec: ExperimentSpec, metrics: Mapping[str, Mapping[str, bool]]
) -> list[tuple[int, str]]:
    """What is wrong with the objectives, each with the place of the objective.

    Args:
        spec: The experiment.
        metrics: Metrics with one number an item, by task; empty where the tasks could not
            be loaded, so that only what needs none of them is checked.
    """
    problems: list[tuple[int, str]] = []
    steps = [o.step for o in spec.objectives if o.step is not None]
    for place, each in enumerate(spec.objectives):
        made = objective(each)
        if metrics:
            problems += [
                (place, problem.removeprefix("objectives: "))
                for problem in metric_problems([made], metrics)
            ]
        if made.reference is not None and made.reference not in spec.models.all:
            named = unknown("source model", made.reference, spec.models.all)
            problems.append((place, f"reference: {named}"))
        if each.quantity == STABILITY:
            problems += [(place, problem) for problem in _stability_problems(each, spec)]
        if each.step is not None and each.step != steps[0]:
            problems.append(
                (place, f"step: {each.step:g} here and {steps[0]:g} above; give all one step.")
            )
    return problems


def _stability_problems(each: ObjectiveSpec, spec: ExperimentSpec) -> list[str]:
    problems = []
    if len(spec.models.all) < _TWO:
        problems.append("stability needs at least two source models.")
    custom = [use.name for use in spec.tasks.use if use.score and use.name in each.weights]
    if custom:
        problems.append(
            f"task {custom[0]}: stability is of lm-eval tasks only, whose answers can be "
            "compared with those of neighbouring models."
        )
    return problems


def recipe_value(engine: MergeEngine) -> Callable[[Objective, Recipe], float]:
    """What computes objectives of the recipe alone; no weights are read."""

    def value(of: Objective, recipe: Recipe) -> float:
        if of.kind == "flops":
            return flops_per_token(engine, recipe, of.context or DEFAULT_CONTEXT)
        if of.kind == "layers":
            return depth(engine, recipe)
        return engine.parameter_count(recipe)

    return value


def depth(engine: MergeEngine, recipe: Recipe) -> int:
    """Layers of the merged model, of its deepest stack where it has several."""
    own = recipe.layer_count
    return own or count_layers(list(engine.sources[recipe.reference].tensors))


def size_findings(
    spec: ExperimentSpec, sources: Mapping[str, SourceModel], space: SearchSpace
) -> tuple[list[tuple[int, str]], list[str]]:
    """Problems, each with the objective's place, and notes on objectives of the recipe alone.

    A parameter space merges tensor by tensor, so that sources of one size give merges of it.
    """
    problems: list[tuple[int, str]] = []
    notes: list[str] = []
    value = recipe_value(MergeEngine(sources))
    for place, each in enumerate(map(objective, spec.objectives)):
        if each.tasks:
            continue
        try:
            sizes = [value(each, baseline.recipe) for baseline in space.baselines()]
        except (ConfigError, CheckpointError) as error:
            problems.append((place, str(error)))
            continue
        if isinstance(space, ParameterSpace) and min(sizes) == max(sizes):
            notes.append(
                f"objectives.{place}: {each.name} is {sizes[0]:,} for every recipe: all source "
                "models are of one size and this space keeps it, so it decides nothing here."
            )
    return problems, notes


def wanted_metrics(objectives: Sequence[Objective]) -> dict[str, tuple[str, ...]]:
    """The metrics that responses must have for the objectives, by task."""
    wanted: dict[str, list[str]] = {}
    for each in objectives:
        for task in each.tasks:
            wanted.setdefault(task, []).extend(response_metrics(each))
    return {task: tuple(dict.fromkeys(metrics)) for task, metrics in wanted.items()}
