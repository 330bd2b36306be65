"""A path through a merged model that is itself given by a recipe, as one recipe; and back."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from evomerge.core.recipe import Recipe, Rule, Slice, number_of
from evomerge.spaces.data_flow_recipe import recipe_of_path
from evomerge.spaces.space import OperatorSignature, SourceModels

_Range = tuple[int, int]

_Part = tuple[int, int, int]
"""A run of a path's layers that are the merged model's, and the first one's number there."""

_SCALE, _GROWTH = "lambda", "lines"
"""A scale of task vectors, 1 by default, and what it grows by from the first layer to the
last (LiNeS, Wang et al., 2024, arXiv:2410.17146)."""

_Reaching = Callable[[_Range], Sequence[Rule]]
"""The merged model's rules for a range of its layers."""


@dataclass(frozen=True)
class MergedInPlace:
    """Puts a merged model's own rules wherever a path takes its layers.

    The path's recipe knows the merged model as one more source; the result is over the models
    alone.
    """

    name: str
    """What the path calls the merged model."""

    models: SourceModels
    operators: Mapping[str, OperatorSignature]

    def recipe(self, path: Recipe, merged: Recipe) -> Recipe:
        """The path's recipe with the merged model's rules.

        For every layer of the path that is one of the merged model, its rules for this layer,
        moved to where the layer now is, in slices of all models that they merge; a scale that
        grows over the layers stays what it is in the merged model. The path's name parts and
        scales hold besides its own. Tensors outside of layers: as the path says where that is
        one source, else as the merged model has them. The merged model's own path gives its
        recipe as it is.
        """
        if self._is_alone(path):
            return merged
        parts = [*self._parts(path)]
        if path.slices:
            merged = _whatever_the_place(merged, self.models.layers)
        reaching = cache(partial(_reaching, merged))
        rules: list[Rule] = []
        left = set(range(self._depth(path)))  # layers some tensors of which have no rule
        for rule in path.rules:
            held = {k for k in left if rule.layers is None or _within(k, rule.layers)}
            if self.name in rule.models:
                rules += _rules_in_layers(rule, parts, reaching, held)
                if rule.layers is None:
                    outside = [own for own in merged.rules if own.layers is None]
                    rules += [_both(rule, own, None) for own in outside]
            else:
                rules.append(rule)
            if not rule.contains:
                left -= held
        slices = tuple(self._slice(part, reaching) for part in path.slices)
        return replace(self.models.recipe(_joined(rules)), slices=slices)

    def _is_alone(self, path: Recipe) -> bool:
        """Whether the path goes through the merged model's layers and nothing else."""
        layers = [path.source_layer(self.name, k) for k in range(self._depth(path))]
        return layers == [*range(self.models.layers)] and all(
            self.name in rule.models and rule.scale == 1 for rule in path.rules
        )

    def _parts(self, path: Recipe) -> Iterator[_Part]:
        """Layers of the path that are the merged model's, and the first one's number there.

        Without slices each layer may be.
        """
        if not path.slices:
            yield 0, self.models.layers, 0
        first = 0
        for part in path.slices:
            if self.name in part.layers:
                yield first, first + part.size, part.layers[self.name][0]
            first += part.size

    def _depth(self, path: Recipe) -> int:
        return path.layer_count or self.models.layers

    def _slice(self, part: Slice, reaching: _Reaching) -> Slice:
        if self.name not in part.layers:
            return part
        own = part.layers[self.name]
        rules = reaching(own)
        members = {model for rule in rules for model in rule.models}
        if self.models.base and any(self._takes_base(rule) for rule in rules):
            members.add(self.models.base.name)
        return Slice({s.name: own for s in self.models.sources if s.name in members})

    def _takes_base(self, rule: Rule) -> bool:
        operator = self.operators[rule.operator]
        return operator.needs_base or operator.takes_base

    def parts(
        self, recipe: Recipe, pool: SourceModels, outside: str
    ) -> tuple[Recipe, Recipe | None]:
        """A path and a merged model's recipe that ``recipe`` may have been made of.

        Layers with nothing but one source's rule are taken to be the path's, all others the
        merged model's. Its layers that are nowhere on the path are given the rules of the
        next one that is. Whether the parts are right has to be seen by putting them together
        again.

        Args:
            recipe: One that is not a merge with the same rules in all layers.
            pool: The models with the merged model among them.
            outside: The source that gives the path's tensors outside of layers.

        Returns:
            The path, and the merged model; None for that where the recipe holds none of it.
        """
        layers: list[tuple[str, int]] = []
        factors: list[float] = []
        inside: dict[int, list[Rule]] = {}
        for number in range(self._depth(recipe)):
            rules = _reaching(recipe, (number, number + 1))
            plain = [rule for rule in rules if rule.scale == 1]
            source = next(iter(plain[-1].models)) if plain else self.name
            own = recipe.source_layer(source, number)
            own = number if own is None else own
            if len(plain) != 1 or plain[0].operator != "passthrough":
                source = self.name
                inside.setdefault(own, plain)
            layers.append((source, own))
            factors.append(next((rule.scale for rule in rules if rule.scale != 1), 1.0))
        path = recipe_of_path(pool, layers, factors, outside)
        if outside == self.name:
            last = [rule for rule in recipe.rules if rule.layers is None]
        elif inside:
            last = [replace(next(reversed(inside.values()))[-1], layers=None)]
        else:
            return path, None
        found = _layer_by_layer(inside, self.models.layers)
        return path, self.models.recipe([*found, *last])


def _whatever_the_place(merged: Recipe, layers: int) -> Recipe:
    """The merged model by rules that mean the same for a layer wherever it stands."""
    rules: list[Rule] = []
    for rule in merged.rules:
        growth = number_of(rule.parameters.get(_GROWTH, 0.0))
        if not growth:
            rules.append(rule)
            continue
        scale = number_of(rule.parameters.get(_SCALE, 1.0))
        plain = {name: value for name, value in rule.parameters.items() if name != _GROWTH}
        for layer in range(*(rule.layers or (0, layers))):
            here = {**plain, _SCALE: scale + growth * (layer / max(1, layers - 1))}
            rules.append(replace(rule, layers=(layer, layer + 1), parameters=here))
        if rule.layers is None:
            rules.append(replace(rule, parameters=plain))
    return replace(merged, rules=tuple(rules))


def _rules_in_layers(
    rule: Rule, parts: Sequence[_Part], reaching: _Reaching, held: Collection[int]
) -> Iterator[Rule]:
    """A rule of the path for merged layers, as rules of the merged model."""
    for first, stop, start in parts if held else ():
        shift = first - start
        for low, high in _ranges(k for k in range(first, stop) if k in held):
            own = (low - shift, high - shift)
            for within in reaching(own):
                shared = _shared(within.layers or own, own)
                yield _both(rule, within, (shared[0] + shift, shared[1] + shift))


def _layer_by_layer(known: Mapping[int, Sequence[Rule]], layers: int) -> list[Rule]:
    """Rules for every layer: its own where known, else those of the next one that has some.

    The next rather than the nearest, since layer groups are read off their first layer.
    """
    found: list[Rule] = []
    for layer in range(layers if known else 0):
        following = min((k for k in known if k >= layer), default=max(known))
        found += [replace(rule, layers=(layer, layer + 1)) for rule in known[following]]
    return found


def _reaching(recipe: Recipe, layers: _Range) -> list[Rule]:
    """The rules that hold for some tensors in a range of layers."""
    found: list[Rule] = []
    left = set(range(*layers))
    for rule in recipe.rules:
        held = {k for k in left if rule.layers is None or _within(k, rule.layers)}
        if held:
            found.append(rule)
            if not rule.contains:
                left -= held
    return found


def _both(rule: Rule, own: Rule, layers: _Range | None) -> Rule:
    """The merged model's rule, for those of its tensors that the path's rule selects."""
    contains = tuple(dict.fromkeys([*rule.contains, *own.contains]))
    return replace(own, layers=layers, contains=contains, scale=rule.scale * own.scale)


def _joined(rules: Sequence[Rule]) -> list[Rule]:
    """The rules with neighbours joined that differ in nothing but layers side by side."""
    joined: list[Rule] = []
    for rule in rules:
        before = joined[-1] if joined else None
        if before is not None and before.layers is not None and rule.layers is not None:
            both = (before.layers[0], rule.layers[1])
            if before.layers[1] == rule.layers[0] and _plain(before, both) == _plain(
                rule, both
            ):
                joined[-1] = replace(before, layers=both)
                continue
        joined.append(rule)
    return joined


def _plain(rule: Rule, layers: _Range) -> tuple[object, ...]:
    """What tells rules apart, the order of their models included."""
    moved = replace(rule, layers=layers)
    return moved, tuple(rule.models)


def _shared(one: _Range, other: _Range) -> _Range:
    return max(one[0], other[0]), min(one[1], other[1])


def _within(layer: int, layers: _Range) -> bool:
    return layers[0] <= layer < layers[1]


def _ranges(numbers: Iterator[int]) -> Iterator[_Range]:
    """Ascending numbers as half-open ranges."""
    first = stop = None
    for number in numbers:
        if first is not None and number == stop:
            stop = number + 1
            continue
        if first is not None and stop is not None:
            yield first, stop
        first, stop = number, number + 1
    if first is not None and stop is not None:
        yield first, stop
