"""Recipe: the complete, self-contained, hashable description of one merged model.

The value lives here, below search spaces, because spaces decode into it; how it is written
to files is in ``evomerge.recipes``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from evomerge.core.digest import digest
from evomerge.core.errors import ConfigError
from evomerge.core.tensor_names import layer_of

Scalar = float | int | bool | str

Value = Scalar | tuple[float, ...]
"""What an operator parameter may be; a tuple has one number for each part of a tensor."""

Parameters = Mapping[str, Value]

UNION = "union"
"""As a recipe's tokenizer: one that knows every token of every source."""


@dataclass(frozen=True)
class Source:
    """A checkpoint that takes part in a merge."""

    name: str
    """The short name by which rules refer to it."""

    model: str
    """A local folder or a hub id."""

    fingerprint: str | None = None
    """Identity of the weights; where known, a moved folder keeps the recipe's hash."""

    statistics: str | None = None
    """A statistics file, or a folder with one for each kind; None is the model's own folder
    of them. Only operators that weigh by statistics look there."""

    statistics_fingerprint: str | None = None
    """Identity of the statistics that the recipe's operators use, where known."""

    @property
    def identity(self) -> str:
        """What makes two sources the same: the weights where known, else where they are."""
        weights = self.fingerprint or self.model
        statistics = self.statistics_fingerprint or self.statistics
        return weights if statistics is None else f"{weights} with {statistics}"


@dataclass(frozen=True)
class Rule:
    """How the tensors that it selects are merged."""

    operator: str
    """Name of a merge operator."""

    models: Mapping[str, Parameters]
    """The sources merged, in order, each with its own parameters (weight, density …)."""

    parameters: Parameters = field(default_factory=dict)
    """Parameters of the merge as a whole (lambda, normalize, t …)."""

    layers: tuple[int, int] | None = None
    """Half-open range of the merged model's layers; None selects tensors in and outside of
    layers."""

    contains: tuple[str, ...] = ()
    """Parts that the tensor's name must contain, e.g. ``("self_attn",)``; none selects all."""

    scale: float = 1.0
    """What the merged tensor is multiplied by; finite and above 0."""

    def __post_init__(self) -> None:
        """Refuse one bare part, which would be taken for its letters."""
        given: object = self.contains
        if isinstance(given, str):
            raise ConfigError(f"rule: 'contains' is a tuple of parts, got {given!r}.")

    def selects(self, tensor_name: str) -> bool:
        """Whether the rule is for this tensor."""
        if not all(part in tensor_name for part in self.contains):
            return False
        if self.layers is None:
            return True
        layer = layer_of(tensor_name)
        return layer is not None and self.layers[0] <= layer < self.layers[1]


@dataclass(frozen=True)
class Slice:
    """Neighbouring layers of the merged model, and the layers that they are made of."""

    layers: Mapping[str, tuple[int, int]]
    """For each source that takes part, the half-open range of its own layers; all of one
    length."""

    @property
    def size(self) -> int:
        """How many layers of the merged model it makes."""
        return max((stop - first for first, stop in self.layers.values()), default=0)


@dataclass(frozen=True)
class Recipe:
    """One merged model: its sources and the rules that merge every tensor.

    For each tensor the first rule that selects it holds. The last rule must select every
    tensor, so that no tensor is left without a rule.

    Raises:
        ConfigError: Rules name unknown sources or leave tensors without a rule.
    """

    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    base: str | None = None
    """Name of the source from which task vectors are taken."""

    seed: int = 0
    """Keys the masks of stochastic operators; equal seeds give nested masks."""

    dtype: str | None = None
    """Output dtype (``bfloat16`` …); None keeps the dtype of the reference's tensor."""

    slices: tuple[Slice, ...] = ()
    """What the merged model's layers are made of, from the first on; the same layers of a
    source may take part more than once. None: every layer is made of the sources' layers of
    the same number."""

    tokenizer: str | None = None
    """``union``, or the name of the source whose tokenizer the merged model has; its
    embeddings are then merged token by token. None: the reference's, row by row."""

    def __post_init__(self) -> None:
        """Refuse what could not be merged."""
        problems = _problems(self)
        if problems:
            raise ConfigError(problems)

    @property
    def reference(self) -> str:
        """The source that gives tensor names, configuration and tokenizer files."""
        return self.base or self.sources[0].name

    def rule_for(self, tensor_name: str) -> Rule:
        """The first rule that selects the tensor."""
        return next(rule for rule in self.rules if rule.selects(tensor_name))

    @property
    def layer_count(self) -> int | None:
        """Layers of the merged model; None where it has as many as its sources."""
        return sum(part.size for part in self.slices) if self.slices else None

    def source_layer(self, model: str, output_layer: int) -> int | None:
        """The layer of a source that goes into a layer of the merged model.

        None where the source has no part in that layer, or there is no such layer.
        """
        if not self.slices:
            return output_layer
        start = 0
        for part in self.slices:
            if start <= output_layer < start + part.size:
                own = part.layers.get(model)
                return None if own is None else own[0] + output_layer - start
            start += part.size
        return None

    @cached_property
    def digest(self) -> str:
        """Identity of the merged model, 32 hex digits; where sources lie does not count.

        Names count, since they key the masks of stochastic operators, and so does the order
        of a rule's models, since slerp goes from the first to the second.
        """
        plain = self.to_plain()
        plain["sources"] = {source.name: source.identity for source in self.sources}
        plain["reference"] = self.reference
        for rule in plain["rules"]:
            rule["models"] = list(rule["models"].items())
        return digest(plain)

    def with_sources(self, sources: Mapping[str, Source]) -> Self:
        """The same recipe with some sources replaced by name."""
        return replace(self, sources=tuple(sources.get(s.name, s) for s in self.sources))

    def to_plain(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {
            "recipe": 1,
            "base": self.base,
            "sources": {
                s.name: {"model": s.model, "fingerprint": s.fingerprint} | _plain_statistics(s)
                for s in self.sources
            },
            "seed": self.seed,
            "dtype": self.dtype,
            **self._plain_structure(),
            "rules": [_plain_rule(rule) for rule in self.rules],
        }

    def _plain_structure(self) -> dict[str, Any]:
        """What most recipes do not have; left out of theirs, so that their digests stay."""
        plain: dict[str, Any] = {}
        if self.tokenizer is not None:
            plain["tokenizer"] = self.tokenizer
        if self.slices:
            plain["slices"] = [
                {model: list(own) for model, own in part.layers.items()} for part in self.slices
            ]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``to_plain``, for values that evomerge itself wrote."""
        return cls(
            sources=tuple(
                Source(
                    name,
                    value["model"],
                    value.get("fingerprint"),
                    value.get("statistics"),
                    value.get("statistics_fingerprint"),
                )
                for name, value in plain["sources"].items()
            ),
            rules=tuple(
                Rule(
                    operator=rule["operator"],
                    models={n: parameters_of(own) for n, own in rule["models"].items()},
                    parameters=parameters_of(rule.get("parameters")),
                    layers=tuple(rule["layers"]) if rule.get("layers") is not None else None,
                    contains=name_parts(rule.get("contains")),
                    scale=rule.get("scale", 1.0),
                )
                for rule in plain["rules"]
            ),
            base=plain.get("base"),
            seed=plain.get("seed", 0),
            dtype=plain.get("dtype"),
            slices=slices_of(plain.get("slices")),
            tokenizer=plain.get("tokenizer"),
        )


def name_parts(plain: str | Sequence[str] | None) -> tuple[str, ...]:
    """``Rule.contains`` as written in files: nothing, one part, or a list."""
    if plain is None:
        return ()
    return (plain,) if isinstance(plain, str) else tuple(plain)


def number_of(value: Value) -> float:
    """A parameter's value as one number.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(value, tuple):
        raise TypeError(f"one number is wanted, found {value}")
    return float(value)


def parameters_of(plain: Mapping[str, Any] | None) -> Parameters:
    """A rule's or model's parameters as written in files, where tuples are lists."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (plain or {}).items()
    }


def slices_of(plain: Sequence[Mapping[str, Sequence[int]]] | None) -> tuple[Slice, ...]:
    """``Recipe.slices`` as written in files: each slice ``[first, last + 1]`` by source."""
    return tuple(
        Slice({model: (own[0], own[1]) for model, own in part.items()}) for part in plain or ()
    )


def _plain_statistics(source: Source) -> dict[str, Any]:
    """Left out where there are none, so that the digests of other recipes stay."""
    keys = ("statistics", "statistics_fingerprint")
    return {key: value for key in keys if (value := getattr(source, key)) is not None}


def _plain_rule(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = {"operator": rule.operator}
    if rule.layers is not None:
        plain["layers"] = list(rule.layers)
    if rule.contains:
        plain["contains"] = rule.contains[0] if len(rule.contains) == 1 else [*rule.contains]
    if rule.scale != 1:  # left out of most, so that their digests stay
        plain["scale"] = rule.scale
    if rule.parameters:
        plain["parameters"] = _plain_parameters(rule.parameters)
    plain["models"] = {name: _plain_parameters(own) for name, own in rule.models.items()}
    return plain


def _plain_parameters(parameters: Parameters) -> dict[str, Any]:
    return {
        n: [*value] if isinstance(value, tuple) else value for n, value in parameters.items()
    }


def _problems(recipe: Recipe) -> list[str]:
    names = [source.name for source in recipe.sources]
    problems = []
    if not names:
        problems.append("recipe: no sources; name at least one model under 'sources'.")
    if recipe.base is not None and recipe.base not in names:
        problems.append(f"recipe: base {recipe.base!r} is not among the sources {names}.")
    if recipe.tokenizer not in (None, UNION, *names):
        problems.append(
            f"recipe: tokenizer {recipe.tokenizer!r} is neither {UNION!r} nor among the "
            f"sources {names}."
        )
    for number, rule in enumerate(recipe.rules, 1):
        problems += _rule_problems(number, rule, names)
    wrong = []
    for number, part in enumerate(recipe.slices, 1):
        wrong += _slice_problems(number, part, names)
    problems += wrong or _outside_of_their_slice(recipe)
    if not recipe.rules or recipe.rules[-1].layers or recipe.rules[-1].contains:
        problems.append(
            "recipe: the last rule must select every tensor (no 'layers', no 'contains')."
        )
    return problems


def _rule_problems(number: int, rule: Rule, names: Sequence[str]) -> list[str]:
    problems = []
    unknown = [name for name in rule.models if name not in names]
    if unknown:
        problems.append(f"recipe: rule {number} names {unknown}, sources are {names}.")
    if not rule.models:
        problems.append(f"recipe: rule {number} merges no models.")
    if not 0 < rule.scale < math.inf:
        problems.append(
            f"recipe: rule {number} has scale {rule.scale}; expected a finite number above 0."
        )
    if rule.layers is not None and not 0 <= rule.layers[0] < rule.layers[1]:
        problems.append(
            f"recipe: rule {number} is for the layers {[*rule.layers]}; expected "
            "[first, last + 1], counted from 0."
        )
    return problems


def _slice_problems(number: int, part: Slice, names: Sequence[str]) -> list[str]:
    where = f"recipe: slice {number}"
    if not part.layers:
        return [f"{where} has no layers; name at least one source and its layers."]
    problems = []
    unknown = [model for model in part.layers if model not in names]
    if unknown:
        problems.append(f"{where} names {unknown}, sources are {names}.")
    bad = {m: [*own] for m, own in part.layers.items() if not 0 <= own[0] < own[1]}
    if bad:
        problems.append(f"{where}: expected [first, last + 1], counted from 0; found {bad}.")
    elif len({stop - first for first, stop in part.layers.values()}) > 1:
        ranges = {model: [*own] for model, own in part.layers.items()}
        problems.append(f"{where}: its sources must give equally many layers; found {ranges}.")
    return problems


def _outside_of_their_slice(recipe: Recipe) -> list[str]:
    """Rules that hold for layers in which one of their models has no part."""
    members = [part.layers.keys() for part in recipe.slices for _ in range(part.size)]
    left = set(range(len(members)))  # layers some tensors of which no rule so far selects
    problems = []
    for number, rule in enumerate(recipe.rules, 1):
        first, stop = rule.layers or (0, len(members))
        held = {layer for layer in left if first <= layer < stop}
        for layer in sorted(held):
            strange = [model for model in rule.models if model not in members[layer]]
            if strange:
                problems.append(
                    f"recipe: rule {number} merges {strange} in layer {layer}, whose slice is "
                    f"made of {[*members[layer]]}."
                )
                break
        if not rule.contains:
            left = left - held
    return problems
