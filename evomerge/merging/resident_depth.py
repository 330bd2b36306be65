"""Depth of a resident model: as many of its layers take part as a recipe stacks.

The model is built as deep as any candidate can be, and keeps all of its layers. Those beyond
a candidate's depth are taken out of its list of layers and put back when they are needed, so
that weights stay where the engine wrote them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import transformers

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe, Slice
from evomerge.core.tensor_names import count_layers, layer_stacks
from evomerge.merging.resident_model import configuration, empty_model
from evomerge.merging.source_model import SourceModel
from evomerge.merging.stacked_config import stacked_config

_Facts = dict[str, Any]
"""What decides how a module computes, beside the values of its parameters; by name."""

_COMPARED = 40
"""Layers of the deepest model that is built for a comparison, unless sources have more."""

_PLAIN = (str, bool, int, float, type(None))


def recipe_of_depth(recipe: Recipe, layers: int, depth: int) -> Recipe:
    """The reference's layers over and over, until there are enough of them.

    Args:
        recipe: The reference's own tensors, with no slices.
        layers: How many the reference has.
        depth: How many are wanted.
    """
    parts = [min(layers, depth - first) for first in range(0, depth, layers)]
    slices = tuple(Slice({recipe.reference: (0, size)}) for size in parts)
    return replace(recipe, slices=slices)


class ResidentDepth:
    """Sets the depth of a resident model before a recipe is merged into it.

    The model then is, module by module and setting by setting, what transformers builds for
    that depth: caches, masks and layer kinds are those of its layers.

    Args:
        model: From ``MergeEngine.resident_model(recipe_of_depth(…))``, as deep as any recipe
            to come. ``depth_problems`` must know nothing against its architecture.
        recipe: The reference's own tensors, with no slices.
        sources: Opened source models by the names that recipes use.

    Raises:
        CheckpointError: The model has not one list of all of its layers.
    """

    def __init__(
        self, model: torch.nn.Module, recipe: Recipe, sources: Mapping[str, SourceModel]
    ) -> None:
        self._own = count_layers(list(sources[recipe.reference].tensors))
        self._config: Any = model.config
        self._stack = layer_list(model)
        self._layers = list(self._stack)

        @cache
        def fresh(depth: int) -> Any:  # noqa: ANN401 - untyped library
            stacked = recipe_of_depth(recipe, self._own, depth)
            return configuration(stacked_config(stacked, sources))

        self._fresh = fresh

    @property
    def most(self) -> int:
        """Layers of the deepest model."""
        return len(self._layers)

    def fit(self, recipe: Recipe) -> None:
        """Give the model as many layers as the recipe makes.

        Raises:
            CheckpointError: The recipe makes more than the model has.
        """
        self.set(recipe.layer_count or self._own)

    def set(self, depth: int) -> None:
        """Give the model its first layers, so many of them.

        Raises:
            CheckpointError: It has fewer.
        """
        if depth > self.most:
            raise CheckpointError(
                f"the recipe makes {depth} layers, the resident model has room for {self.most}."
            )
        del self._stack[:]
        self._stack.extend(self._layers[:depth])
        if self.most > 1:
            _take_over(
                self._config, self._fresh(depth), (self._fresh(1), self._fresh(self.most))
            )


def depth_problems(sources: Mapping[str, SourceModel], recipe: Recipe, depth: int) -> list[str]:
    """Why a resident model cannot change its depth, in plain words; empty if it can.

    Models without storage are built and compared, which takes about a second for large ones.

    Args:
        sources: Opened source models by the names that recipes use.
        recipe: The reference's own tensors, with no slices.
        depth: Layers of the deepest model wanted; up to 40 are compared, by which every
            pattern shows in which model code lets layers differ.

    Raises:
        CheckpointError: transformers cannot build the architecture.
    """
    reference = sources[recipe.reference]
    own = count_layers(list(reference.tensors))
    if problems := _uneven_settings(sources, own):
        return problems
    deepest = max(own, min(depth, _COMPARED), 2)  # two layers at least, to compare them

    def built(layers: int) -> torch.nn.Module:
        config = stacked_config(recipe_of_depth(recipe, own, layers), sources)
        model: torch.nn.Module = empty_model(
            reference, config, tied=reference.tied, dtype=torch.float32
        )
        return model

    model = built(deepest)
    try:
        resident = ResidentDepth(model, recipe, sources)
    except CheckpointError as error:
        return [str(error)]
    if resident.most != deepest:
        return [
            f"config.json of {recipe.reference} does not tell how deep the model is: with "
            f"{deepest} asked for, transformers builds {resident.most} layers."
        ]
    if problem := _uneven_layers(model):
        return [problem]
    for layers in sorted({1, own, deepest}):
        resident.set(layers)
        if differs := _first_difference(_facts(model), _facts(built(layers))):
            name, here, there = differs
            return [
                f"a model of {layers} layers has {name} = {there}, one of {deepest} layers "
                f"that is cut to as many has {here}."
            ]
    return []


def layer_list(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The one list whose children are the model's layers.

    Raises:
        CheckpointError: There is no such list, or there are several.
    """
    kind = type(model).__name__
    stacks = layer_stacks(model.state_dict())
    if len(stacks) != 1:
        found = ", ".join(stacks) or "none"
        raise CheckpointError(
            f"{kind} has {len(stacks)} stacks of layers ({found}), and its depth can change "
            "only where there is one."
        )
    ((name, layers),) = stacks.items()
    try:
        found_list = model.get_submodule(name)
    except AttributeError:
        found_list = None
    if not isinstance(found_list, torch.nn.ModuleList) or len(found_list) != layers:
        raise CheckpointError(f"{kind} keeps its layers {name}.* in no plain list of modules.")
    return found_list


def _take_over(live: Any, wanted: Any, extremes: tuple[Any, Any]) -> None:  # noqa: ANN401
    """Write what depends on depth into a configuration; all others are of its class."""
    lowest, highest = extremes
    settings = vars(live)
    for key, value in vars(wanted).items():
        if isinstance(value, transformers.PretrainedConfig):
            _take_over(settings[key], value, (vars(lowest)[key], vars(highest)[key]))
        elif vars(lowest).get(key) != vars(highest).get(key):
            # Past its checks, which compare one setting with others still to be written.
            settings[key] = list(value) if isinstance(value, list) else value


def _uneven_settings(sources: Mapping[str, SourceModel], own: int) -> list[str]:
    """Lists of config.json with one entry a layer, which must say the same of all layers."""
    listed: dict[str, list[str]] = {}
    for name, source in sources.items():
        for key, values in _per_layer(source.config, own):
            listed.setdefault(key, []).extend(dict.fromkeys(f"{value!r}" for value in values))
            if len(set(listed[key])) > 1:
                said = ", ".join(dict.fromkeys(listed[key]))
                return [
                    f"config.json of {name}: layers are of several kinds ({key}: {said}), so "
                    "that a layer cannot stand anywhere else."
                ]
    lacking = [
        f"config.json of {name} does not list {key}, which others list layer by layer."
        for key in listed
        for name, source in sources.items()
        if key not in dict(_per_layer(source.config, own))
    ]
    return lacking[:1]


def _per_layer(config: Mapping[str, Any], own: int) -> Iterator[tuple[str, list[Any]]]:
    nested = config.get("text_config")
    given = nested if isinstance(nested, Mapping) else config
    for key, value in given.items():
        if isinstance(value, list) and len(value) == own and key != "architectures":
            yield key, value


def _uneven_layers(model: torch.nn.Module) -> str | None:
    """How a layer differs from the first in more than its number and its weights."""
    first, *others = map(_facts, layer_list(model))
    for number, facts in enumerate(others, 1):
        as_first = {
            name: 0 if type(fact) is int and fact == number and first.get(name) == 0 else fact
            for name, fact in facts.items()
        }
        if differs := _first_difference(as_first, first):
            name, here, there = differs
            return (
                f"layers of {type(model).__name__} differ: {name} is {here} in layer {number}, "
                f"{there} in layer 0, so that a layer cannot stand anywhere else."
            )
    return None


def _facts(module: torch.nn.Module) -> _Facts:
    facts: _Facts = {}
    configs: dict[int, Any] = {}  # nearly always one object, and slow to write out
    for name, part in module.named_modules():
        facts[f"{name}.class"] = type(part).__name__
        for key, value in vars(part).items():
            if isinstance(value, _PLAIN):
                facts[f"{name}.{key}"] = value
            elif isinstance(value, transformers.PretrainedConfig):
                plain = configs.setdefault(id(value), value.to_dict())
                facts |= {f"{name}.{key}.{setting}": plain[setting] for setting in plain}
        for key, tensor in part.named_parameters(recurse=False):
            facts[f"{name}.{key}"] = tuple(tensor.shape)
        for key, tensor in part.named_buffers(recurse=False):
            facts[f"{name}.{key}"] = (tuple(tensor.shape), _content(tensor))
    return facts


def _content(buffer: torch.Tensor) -> int:
    return hash(buffer.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _first_difference(here: _Facts, there: _Facts) -> tuple[str, Any, Any] | None:
    """A name, and what each side has under it."""
    for name in [*here, *there]:
        if name not in here or name not in there or here[name] != there[name]:
            return name, here.get(name, "missing"), there.get(name, "missing")
    return None
