"""Layers that candidates have in common: the scorer is told what the resident model holds."""

from collections.abc import Mapping
from dataclasses import replace

from evomerge.core.recipe import Recipe
from evomerge.experiment.prepare import Prepared
from evomerge.fitness.custom_function import FunctionTask
from evomerge.fitness.prefix_forward import PrefixForward
from evomerge.merging.layer_identities import layer_identities
from evomerge.merging.source_model import SourceModel
from evomerge.search.evaluate import Merge, Neighbourhood


def prefix_bytes(prepared: Prepared) -> int:
    """The most bytes of hidden states that a worker keeps; 0 where layers are not shared.

    Functions of users are lent the model and may leave it with hooks and other buffers, which
    no recipe tells; vLLM computes elsewhere.
    """
    functions = any(isinstance(task, FunctionTask) for task in prepared.tasks.values())
    if functions or prepared.spec.evaluation.backend == "vllm":
        return 0
    return int(prepared.spec.workers.prefix_cache * 2**30)


def told(merge: Merge, prefixes: PrefixForward, sources: Mapping[str, SourceModel]) -> Merge:
    """A merge that also tells which layers the model has afterwards."""

    def merge_and_tell(recipe: Recipe) -> None:
        prefixes.unknown()
        merge(recipe)
        if prefixes.asks:
            made = layer_identities(recipe, sources)
            prefixes.holds(made.before, made.layers)

    return merge_and_tell


def told_of_nothing(
    neighbourhood: Neighbourhood | None, prefixes: PrefixForward
) -> Neighbourhood | None:
    """Neighbours, whose weights are no recipe's: with them in the model nothing is shared."""

    def unknown(merge: Merge) -> Merge:
        def merge_untold(recipe: Recipe) -> None:
            prefixes.unknown()
            merge(recipe)

        return merge_untold

    if neighbourhood is None:
        return None
    return replace(neighbourhood, merges=tuple(map(unknown, neighbourhood.merges)))
