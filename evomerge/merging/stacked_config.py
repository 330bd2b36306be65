"""config.json of a merged model whose layers are stacked otherwise than its sources'."""

from collections.abc import Mapping
from typing import Any

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe
from evomerge.core.tensor_names import count_layers
from evomerge.merging.source_model import SourceModel

_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "max_window_layers")


def stacked_config(recipe: Recipe, sources: Mapping[str, SourceModel]) -> dict[str, Any]:
    """The reference's configuration with the layer count and lists of the recipe's slices.

    What config.json lists layer by layer (kinds of attention …) is taken for each layer from
    the model that the layer comes from.
    """
    reference = sources[recipe.reference]
    config = dict(reference.config)
    if not recipe.slices:
        return config
    nested = config.get("text_config")
    if isinstance(nested, Mapping):
        return {**config, "text_config": _stacked(dict(nested), recipe, sources, "text_config")}
    return _stacked(config, recipe, sources, None)


def _stacked(
    config: dict[str, Any],
    recipe: Recipe,
    sources: Mapping[str, SourceModel],
    part: str | None,
) -> dict[str, Any]:
    layers = count_layers(list(sources[recipe.reference].tensors))
    made = recipe.layer_count or 0
    for key, value in config.items():
        if key in _COUNTS and value == layers:
            config[key] = made
        elif isinstance(value, list) and len(value) == layers:
            config[key] = [_listed(key, layer, recipe, sources, part) for layer in range(made)]
    return config


def _listed(
    key: str,
    layer: int,
    recipe: Recipe,
    sources: Mapping[str, SourceModel],
    part: str | None,
) -> Any:  # noqa: ANN401 - what JSON holds
    owners = [recipe.reference, *sources]
    owner = next(name for name in owners if recipe.source_layer(name, layer) is not None)
    config = sources[owner].config
    listed = (config if part is None else config.get(part, {})).get(key, [])
    own = recipe.source_layer(owner, layer) or 0
    if own >= len(listed):
        raise CheckpointError(
            f"{owner}: config.json has no {key!r} for layer {own}, which {recipe.reference}'s "
            "lists for every layer; add it, or take that layer from another model."
        )
    return listed[own]
