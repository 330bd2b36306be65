"""How a mergekit configuration merges each tensor: places, parameters and their lookup."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Rule, Value
from evomerge.core.tensor_names import layer_of
from evomerge.recipes.mergekit_config import Input, MergekitConfig, OutputSlice, Settings
from evomerge.recipes.mergekit_methods import METHODS
from evomerge.recipes.mergekit_setting import as_kind_of, filters_of, value_at

_EMBEDDING = re.compile(r"embed(?!_out)|\bw[tp]e\b|\bshared\b")


def merges(
    config: MergekitConfig, tensors: Mapping[str, Sequence[str]], names: Mapping[str, str]
) -> dict[str, Rule]:
    """For each tensor of the merged model a rule that says how it is merged.

    Args:
        config: With the ranges of layers spelled out.
        tensors: The names of each merged model's tensors.
        names: What the recipe calls each model.

    Raises:
        ConfigError: A parameter is not given or is of the wrong kind.
    """
    lookup = _Lookup(config, names)
    found = {name: lookup.rule(name, place) for name, place in _places(config, tensors).items()}
    if lookup.problems:
        raise ConfigError([*lookup.problems.values()])
    return found


def comes_before_layers(name: str) -> bool:
    """Whether a tensor outside of layers is an embedding; others come after the last layer."""
    return _EMBEDDING.search(name) is not None


def filters(config: MergekitConfig) -> list[str]:
    """Every part of names by which the configuration tells tensors apart."""
    scopes = [config.parameters]
    for part in config.slices:
        scopes += [each.parameters for each in part.inputs] + [part.parameters]
    found = [f for scope in scopes for setting in scope.values() for f in filters_of(setting)]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Place:
    """Where in the configuration a tensor of the merged model belongs."""

    part: OutputSlice
    offset: int | None
    """Number of the layer within its slice; None outside of layers."""

    @property
    def depth(self) -> float:
        """Place on gradients; tensors outside of layers have the first layer's."""
        if self.offset is None:
            return 0.0
        first, stop = self.part.inputs[0].layers or (0, 1)
        return self.offset / (stop - first - 1) if stop - first > 1 else 1.0

    def name_in(self, model: Input, name: str) -> str:
        """What the merged model's tensor is called in one of the models."""
        if self.offset is None or model.layers is None:
            return name
        return numbered(name, model.layers[0] + self.offset)


def _places(config: MergekitConfig, tensors: Mapping[str, Sequence[str]]) -> dict[str, _Place]:
    """Every tensor of the merged model, the layers in order and then what is in none."""
    by_layer: dict[str, dict[int | None, list[str]]] = {}
    for model, found in tensors.items():
        groups = by_layer.setdefault(model, {})
        for name in found:
            groups.setdefault(layer_of(name), []).append(name)
    places: dict[str, _Place] = {}
    start = 0
    for part in config.slices:
        for each in part.inputs:
            first, stop = each.layers or (0, 0)
            for layer in range(first, stop):
                for name in by_layer[each.model].get(layer, []):
                    output = numbered(name, start + layer - first)
                    places.setdefault(output, _Place(part, layer - first))
        start += _size(part)
    first_part, last_part = config.slices[0], config.slices[-1]
    # mergekit pairs the tensors after the layers with as many models as the first slice has.
    after = replace(last_part, inputs=last_part.inputs[: len(first_part.inputs)])
    for part in (first_part, after):
        for name in _outside(part, by_layer):
            owner = first_part if comes_before_layers(name) else after
            places.setdefault(name, _Place(owner, None))
    return places


def _outside(
    part: OutputSlice, by_layer: Mapping[str, Mapping[int | None, Sequence[str]]]
) -> Iterator[str]:
    for each in part.inputs:
        yield from by_layer[each.model].get(None, [])


def _size(part: OutputSlice) -> int:
    first, stop = part.inputs[0].layers or (0, 0)
    return stop - first


def numbered(name: str, layer: int) -> str:
    """The tensor's name with another layer number."""
    words = name.split(".")
    old = str(layer_of(name))
    if old in words:
        words[words.index(old)] = str(layer)
    return ".".join(words)


class _Lookup:
    """Finds parameters in the scopes of a configuration; notes what is missing."""

    def __init__(self, config: MergekitConfig, names: Mapping[str, str]) -> None:
        self.problems: dict[tuple[str, str], str] = {}
        self._config = config
        self._names = names
        self._method = METHODS[config.method]

    def rule(self, name: str, place: _Place) -> Rule:
        """How a tensor is merged."""
        shared = (place.part.parameters, self._config.parameters)
        whole = {
            parameter: self._value(parameter, shared, (name, "the merge"), place.depth)
            for parameter in self._method.whole
        }
        models = {
            self._names[each.model]: {
                parameter: self._value(
                    parameter,
                    (each.parameters, *shared),
                    (place.name_in(each, name), each.model),
                    place.depth,
                )
                for parameter in self._method.per_model
            }
            for each in self._merged(place.part)
        }
        return Rule(self._config.method, models, whole)

    def _merged(self, part: OutputSlice) -> list[Input]:
        """The models that a rule names, in their order."""
        base = part.base or self._config.base
        others = [each for each in part.inputs if each.model != base]
        match self._method.base:
            case "required" | "used":
                return others
            case "first":
                return [each for each in part.inputs if each.model == base] + others
            case _:
                return list(part.inputs)

    def _value(
        self, parameter: str, scopes: Sequence[Settings], of: tuple[str, str], depth: float
    ) -> Value:
        tensor, owner = of
        default = self._method.default(parameter)
        given = (value_at(s[parameter], tensor, depth) for s in scopes if parameter in s)
        value = next((v for v in given if v is not None), default)
        if value is None:
            problem = (
                f"parameters: {self._config.method} needs {parameter!r} of {owner}, which is "
                f"not given for {tensor}."
            )
            self.problems.setdefault((parameter, owner), problem)
            return 0.0
        try:
            return as_kind_of(default, value)
        except ValueError as error:
            self.problems.setdefault((parameter, owner), f"parameters.{parameter}: {error}.")
            return 0.0
