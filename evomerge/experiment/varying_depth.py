"""Search spaces whose candidates differ in depth, and the resident model that they need."""

from collections.abc import Iterable, Mapping

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe, Rule
from evomerge.core.streams import stream
from evomerge.core.tensor_names import layer_of, with_layer
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.label_free import STABILITY
from evomerge.merging.merge_plan import merged_tensors, tensor_merges
from evomerge.merging.resident_depth import depth_problems, recipe_of_depth
from evomerge.merging.resident_model import checkpoint_names
from evomerge.merging.source_model import SourceModel
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.space import SearchSpace, SourceModels

_DRAWN = 16
"""Random candidates by which a space tells what it merges."""


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


def resident_entries(
    recipe: Recipe, sources: Mapping[str, SourceModel], sharing: SearchSpace | None = None
) -> int:
    """Parameters of the resident model that a recipe is built for, as far as it stores them.

    Args:
        recipe: As deep as the model is to be.
        sources: Opened source models by the names that recipes use.
        sharing: The space whose candidates share the layers that they take whole; all others
            are then told by its baselines and by some random candidates.
    """
    if not recipe.slices:
        return sum(info.entries for info in sources[recipe.reference].tensors.values())
    planned = merged_tensors(recipe, sources)
    if sharing is None:
        return sum(tensor.entries for tensor in planned)
    single = {_kind(name) for name in checkpoint_names(sources[recipe.reference]).values()}
    names, kinds = _written(sharing, sources)
    return sum(
        tensor.entries
        for tensor in planned
        if layer_of(tensor.name) is None
        or tensor.name in names
        or _kind(tensor.name) in kinds
        or _kind(tensor.name) not in single
    )


def shared_entries(recipe: Recipe, sources: Mapping[str, SourceModel]) -> int:
    """The most entries that copies of shared layers take, where sources cannot be shown."""

    def of_layers(tensors: Iterable[tuple[str, int]]) -> int:
        return sum(entries for name, entries in tensors if layer_of(name) is not None)

    slots = of_layers((t.name, t.entries) for t in merged_tensors(recipe, sources))
    pool = (of_layers((n, i.entries) for n, i in s.tensors.items()) for s in sources.values())
    return min(slots, sum(pool))


def _written(
    space: SearchSpace, sources: Mapping[str, SourceModel]
) -> tuple[set[str], set[str]]:
    """Tensors that baselines do not take whole; and those that candidates do not, anywhere."""
    units = stream(0, "varying depth", "written").random((_DRAWN, len(space.genes))).tolist()
    genomes = [genome_from_unit(space.genes, row) for row in units]
    names: set[str] = set()
    kinds: set[str] = set()
    for baseline in space.baselines():
        names.update(_merged_names(baseline.recipe, sources))
    for genome in (*space.starting_points(), *genomes):
        kinds.update(map(_kind, _merged_names(space.decode(genome), sources)))
    return names, kinds


def _merged_names(recipe: Recipe, sources: Mapping[str, SourceModel]) -> list[str]:
    merges = tensor_merges(recipe, sources, merged_tensors(recipe, sources))
    return [merge.tensor.name for merge in merges if not merge.taken_whole]


def _kind(name: str) -> str:
    """The tensor's name in the first layer."""
    return name if layer_of(name) is None else with_layer(name, 0)


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
