"""Search spaces whose candidates differ in depth, and the resident model that they need."""

from collections.abc import Mapping

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe, Rule
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.label_free import STABILITY
from evomerge.merging.merge_plan import merged_tensors
from evomerge.merging.resident_depth import depth_problems, recipe_of_depth
from evomerge.merging.source_model import SourceModel
from evomerge.spaces.space import SearchSpace, SourceModels


def first_recipe(models: SourceModels) -> Recipe:
    """The reference alone: what a resident model is built for, and holds first."""
    return models.recipe([Rule("passthrough", {models.sources[0].name: {}})])


def resident_recipe(models: SourceModels, space: SearchSpace) -> Recipe:
    """A recipe as deep as any candidate, source or baseline can be.

    Its layer count is None for spaces that keep the sources' depth.
    """
    most = space.most_layers
    plain = first_recipe(models)
    if most is None:
        return plain
    return recipe_of_depth(plain, models.layers, max(most, models.layers))


def resident_entries(recipe: Recipe, sources: Mapping[str, SourceModel]) -> int:
    """Parameters of the resident model that a recipe is built for."""
    if not recipe.slices:
        return sum(info.entries for info in sources[recipe.reference].tensors.values())
    return sum(tensor.entries for tensor in merged_tensors(recipe, sources))


def varying_depth_problems(
    spec: ExperimentSpec,
    models: SourceModels,
    sources: Mapping[str, SourceModel],
    space: SearchSpace,
) -> list[tuple[tuple[str | int, ...], str]]:
    """Why candidates of other depths cannot be scored, each with the keys that it is about."""
    if space.most_layers is None:
        return []
    problems: list[tuple[tuple[str | int, ...], str]] = []
    if spec.evaluation.backend == "vllm":
        problems.append(
            (
                ("evaluation", "backend"),
                "vLLM builds its engine for one depth, and this space stacks more or fewer "
                "layers; use transformers.",
            )
        )
    problems += [
        (
            ("objectives", place),
            "stability compares with neighbours of the sources' depth, and this space stacks "
            "more or fewer layers; leave it out.",
        )
        for place, each in enumerate(spec.objectives)
        if STABILITY in (each.quantity, each.metric)
    ]
    deepest = resident_recipe(models, space).layer_count or models.layers
    try:
        found = depth_problems(sources, first_recipe(models), deepest)
    except CheckpointError as error:
        found = str(error).splitlines()
    return problems + [(("space",), f"depth cannot vary: {problem}") for problem in found]
