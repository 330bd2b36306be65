"""The plan of a merge: which tensors the merged model has, and what each is made of."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from evomerge.core.errors import CheckpointError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Recipe, Rule
from evomerge.core.tensor_names import count_layers, layer_of, with_layer
from evomerge.merging.compatibility import nearest
from evomerge.merging.operators.contract import Operator, Settings
from evomerge.merging.operators.passthrough import PASSTHROUGH
from evomerge.merging.operators.registry import operator
from evomerge.merging.recipe_check import OUTPUT_DTYPES
from evomerge.merging.safetensors_header import TensorInfo
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import embedding_name, head_name, stored_name

_SHOWN = 5


@dataclass(frozen=True)
class MergedTensor:
    """A tensor of the merged model before it is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors spells it."""

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorMerge:
    """How one tensor of the merged model is made."""

    tensor: MergedTensor
    operator: Operator
    settings: Settings
    models: tuple[str, ...]
    """Those whose tensors go in; models that add nothing are left out."""

    stored: tuple[str, ...]
    """Under which name each model has the tensor."""

    base: tuple[str, str] | None
    """The base and its tensor's name, where the operator takes one."""

    seed: int
    depth: float | None
    statistics: tuple[str | None, ...] = ()
    """Identity of the sources' statistics, where the operator weighs by them."""

    scale: float = 1.0
    """What the operator's result is multiplied by in float32."""

    @property
    def taken_whole(self) -> bool:
        """Whether it equals the tensor of its one model, save for the dtype."""
        return self.operator is PASSTHROUGH and self.settings.of_models("scale") == [1]

    @cached_property
    def identity(self) -> object:
        """Equal for merges that give equal tensors."""
        own = tuple(tuple(sorted(parameters.items())) for parameters in self.settings.models)
        whole = tuple(sorted(self.settings.whole.items()))
        stochastic = (self.seed, self.tensor.name) if self.operator.stochastic else None
        made_of = (self.models, self.stored, self.base, stochastic, self.statistics)
        made_by = (self.operator.name, own, whole, self.scale)
        return self.tensor.dtype, made_by, made_of, self.depth


def used_names(recipe: Recipe) -> tuple[str, ...]:
    """The sources that the rules merge, and the reference; in the recipe's order."""
    named = {name for rule in recipe.rules for name in rule.models} | {recipe.reference}
    return tuple(source.name for source in recipe.sources if source.name in named)


def is_tied(recipe: Recipe, sources: Mapping[str, SourceModel]) -> bool:
    """Whether the merged model's output head is its input embedding."""
    return all(sources[name].tied for name in used_names(recipe))


def merged_tensors(recipe: Recipe, sources: Mapping[str, SourceModel]) -> list[MergedTensor]:
    """What the merged model holds, in the order of the reference's tensors.

    If any source that takes part has an output head of its own, so has the merged model.
    """
    reference = sources[recipe.reference]
    infos = {name: (info.shape, info.dtype) for name, info in reference.tensors.items()}
    head = head_name(infos)
    if is_tied(recipe, sources):
        if head is not None and embedding_name(infos) is not None:
            del infos[head]
    elif head is None:
        untied = next(sources[n] for n in used_names(recipe) if not sources[n].tied)
        name, embedding = head_name(untied.tensors), embedding_name(infos)
        if name is not None and embedding is not None:
            infos[name] = infos[embedding]
    wanted = OUTPUT_DTYPES[recipe.dtype] if recipe.dtype else None
    if recipe.slices:
        infos = _restacked(infos, recipe, sources)
    return [
        MergedTensor(name, shape, wanted or dtype) for name, (shape, dtype) in infos.items()
    ]


def tensor_merges(
    recipe: Recipe, sources: Mapping[str, SourceModel], planned: Sequence[MergedTensor]
) -> Iterator[TensorMerge]:
    """How each planned tensor is made.

    Raises:
        CheckpointError: A model lacks a tensor, or a layer that it should give.
    """
    rules, places = _RulesByLayer(recipe), _Places(recipe, sources)
    layers = recipe.layer_count or count_layers([tensor.name for tensor in planned])
    statistics = tuple(s.statistics_fingerprint or s.statistics for s in recipe.sources)
    for tensor in planned:
        layer = layer_of(tensor.name)
        rule = rules.plan_for(tensor.name, layer)
        taken = rule.operator.base_taken(recipe.base)
        yield TensorMerge(
            tensor,
            rule.operator,
            rule.settings,
            rule.models,
            tuple(places.stored(model, tensor.name, layer) for model in rule.models),
            None if taken is None else (taken, places.stored(taken, tensor.name, layer)),
            recipe.seed,
            None if layer is None or layers < 2 else layer / (layers - 1),
            statistics if rule.operator.statistics else (),
            rule.scale,
        )


def idle_rules(recipe: Recipe, planned: Sequence[MergedTensor]) -> list[str]:
    """Rules that are for no tensor of the merged model: most likely a part is misspelt.

    A rule that only others come before is no problem.
    """
    names = [tensor.name for tensor in planned]
    layers = count_layers(names)
    parts = sorted({part for name in names for part in name.split(".") if not part.isdigit()})
    problems = []
    for number, rule in enumerate(recipe.rules, 1):
        if any(rule.selects(name) for name in names):
            continue
        lost = [part for part in rule.contains if not any(part in name for name in names)]
        said = "".join(f" {unknown('part', part, parts)}" for part in lost)
        problems.append(
            f"rule {number}: selects no tensor (layers "
            f"{'any' if rule.layers is None else [*rule.layers]}, names with all of "
            f"{[*rule.contains]}); the merged model has {layers} layers.{said}"
        )
    return problems


def slice_problems(recipe: Recipe, sources: Mapping[str, SourceModel]) -> list[str]:
    """Why sources cannot give the layers that a recipe's slices ask for."""
    problems = []
    for number, part in enumerate(recipe.slices, 1):
        for model, (first, stop) in part.layers.items():
            layers = count_layers(list(sources[model].tensors))
            if stop > layers:
                problems.append(
                    f"slice {number}: takes layers {first} to {stop - 1} of {model}, "
                    f"which has {layers}."
                )
    if problems:
        return problems
    for merge in tensor_merges(recipe, sources, merged_tensors(recipe, sources)):
        made_of = [*zip(merge.models, merge.stored, strict=True)]
        for model, stored in made_of + ([merge.base] if merge.base else []):
            shape = sources[model].tensors[stored].shape
            if shape != merge.tensor.shape:
                problems.append(
                    f"{model}: {stored} has shape {list(shape)}, {merge.tensor.name} of the "
                    f"merged model has {list(merge.tensor.shape)}."
                )
    more = [f"{len(problems) - _SHOWN} more tensors do not fit."]
    return problems[:_SHOWN] + (more if len(problems) > _SHOWN else [])


@dataclass(frozen=True)
class _RulePlan:
    """A rule with its operator found and the models that need not be read left out."""

    operator: Operator
    settings: Settings
    models: tuple[str, ...]
    scale: float

    @classmethod
    def of(cls, rule: Rule, recipe: Recipe) -> "_RulePlan":
        found = operator(rule.operator)
        settings = found.rule_settings(rule, recipe.base)
        models = found.merged(rule, recipe.base)
        if found.zero_weight_drops_out:
            weights = settings.of_models("weight")
            kept = [k for k, weight in enumerate(weights) if weight != 0]
            if kept or found.needs_base:
                models = tuple(models[k] for k in kept)
                settings = Settings(tuple(settings.models[k] for k in kept), settings.whole)
        if found is PASSTHROUGH:  # whose own factor it joins, for one multiplication
            factor = settings.of_models("scale")[0] * rule.scale
            return cls(found, Settings(({"scale": factor},), settings.whole), models, 1.0)
        return cls(found, settings, models, rule.scale)


class _RulesByLayer:
    """Finds the first rule that selects a tensor, past rules for other layers."""

    def __init__(self, recipe: Recipe) -> None:
        self._rules = recipe.rules
        self._plans = [_RulePlan.of(rule, recipe) for rule in recipe.rules]
        self._held: dict[int | None, list[int]] = {}

    def plan_for(self, name: str, layer: int | None) -> _RulePlan:
        """How a tensor of that layer, or of none, is merged."""
        if layer not in self._held:
            self._held[layer] = [
                number
                for number, rule in enumerate(self._rules)
                if rule.layers is None
                or (layer is not None and rule.layers[0] <= layer < rule.layers[1])
            ]
        return self._plans[next(n for n in self._held[layer] if self._rules[n].selects(name))]


class _Places:
    """Under which name each source has what goes into a tensor of the merged model."""

    def __init__(self, recipe: Recipe, sources: Mapping[str, SourceModel]) -> None:
        self._sources = sources
        self._stacked = source_layers(recipe)

    def stored(self, model: str, name: str, layer: int | None) -> str:
        """The source's name for a tensor of that layer, or of none.

        Raises:
            CheckpointError: It has no such layer or tensor.
        """
        wanted = name
        if self._stacked and layer is not None:
            own = self._stacked[layer].get(model)
            if own is None:
                raise CheckpointError(
                    f"{model}: has no part in layer {layer} of the merged model."
                )
            wanted = with_layer(name, own)
        tensors = self._sources[model].tensors
        found = stored_name(wanted, tensors)
        if found is None:
            raise CheckpointError(f"{model}: has no tensor {wanted}{nearest(wanted, tensors)}.")
        return found


def source_layers(recipe: Recipe) -> list[dict[str, int]]:
    """For each layer that slices stack, the layer of each source that goes in."""
    return [
        {model: first + offset for model, (first, _) in part.layers.items()}
        for part in recipe.slices
        for offset in range(part.size)
    ]


_Infos = dict[str, tuple[tuple[int, ...], str]]


def _restacked(infos: _Infos, recipe: Recipe, sources: Mapping[str, SourceModel]) -> _Infos:
    """Layers as the slices stack them, among the tensors outside of layers."""
    made: _Infos = {}
    stacked = False
    for name, info in infos.items():
        if layer_of(name) is None:
            made[name] = info
        elif not stacked:
            stacked = True
            made |= _layers_of(recipe, sources)
    return made


def _layers_of(recipe: Recipe, sources: Mapping[str, SourceModel]) -> _Infos:
    """Each layer with the tensors of the first source in it, the reference before others."""
    by_layer: dict[str, dict[int | None, list[tuple[str, TensorInfo]]]] = {}
    made: _Infos = {}
    for layer, members in enumerate(source_layers(recipe)):
        first = next(model for model in sources if model in members)
        owner = recipe.reference if recipe.reference in members else first
        if owner not in by_layer:
            groups = by_layer.setdefault(owner, {})
            for name, info in sources[owner].tensors.items():
                groups.setdefault(layer_of(name), []).append((name, info))
        for name, info in by_layer[owner].get(members[owner], ()):
            made[with_layer(name, layer)] = (info.shape, info.dtype)
    return made
