"""Recipe: the complete, self-contained, hashable description of one merged model.

The value lives here, below search spaces, because spaces decode into it; how it is written
to files is in ``evomerge.recipes``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from evomerge.core.digest import digest
from evomerge.core.errors import ConfigError
from evomerge.core.tensor_names import layer_of

Value = float | int | bool | str
"""What an operator parameter may be."""

Parameters = Mapping[str, Value]


@dataclass(frozen=True)
class Source:
    """A checkpoint that takes part in a merge."""

    name: str
    """The short name by which rules refer to it."""

    model: str
    """A local folder or a hub id."""

    fingerprint: str | None = None
    """Identity of the weights; where known, a moved folder keeps the recipe's hash."""

    @property
    def identity(self) -> str:
        """What makes two sources the same: the weights where known, else where they are."""
        return self.fingerprint or self.model


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
    """Half-open range of layer numbers; None selects tensors in and outside of layers."""

    contains: str | None = None
    """A part that the tensor's name must contain, e.g. ``self_attn``; None selects all."""

    def selects(self, tensor_name: str) -> bool:
        """Whether the rule is for this tensor."""
        if self.contains is not None and self.contains not in tensor_name:
            return False
        if self.layers is None:
            return True
        layer = layer_of(tensor_name)
        return layer is not None and self.layers[0] <= layer < self.layers[1]


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
                s.name: {"model": s.model, "fingerprint": s.fingerprint} for s in self.sources
            },
            "seed": self.seed,
            "dtype": self.dtype,
            "rules": [_plain_rule(rule) for rule in self.rules],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``to_plain``, for values that evomerge itself wrote."""
        return cls(
            sources=tuple(
                Source(name, value["model"], value.get("fingerprint"))
                for name, value in plain["sources"].items()
            ),
            rules=tuple(
                Rule(
                    operator=rule["operator"],
                    models=rule["models"],
                    parameters=rule.get("parameters", {}),
                    layers=tuple(rule["layers"]) if rule.get("layers") is not None else None,
                    contains=rule.get("contains"),
                )
                for rule in plain["rules"]
            ),
            base=plain.get("base"),
            seed=plain.get("seed", 0),
            dtype=plain.get("dtype"),
        )


def _plain_rule(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = {"operator": rule.operator}
    if rule.layers is not None:
        plain["layers"] = list(rule.layers)
    if rule.contains is not None:
        plain["contains"] = rule.contains
    if rule.parameters:
        plain["parameters"] = dict(rule.parameters)
    plain["models"] = {name: dict(parameters) for name, parameters in rule.models.items()}
    return plain


def _problems(recipe: Recipe) -> list[str]:
    names = [source.name for source in recipe.sources]
    problems = []
    if not names:
        problems.append("recipe: no sources; name at least one model under 'sources'.")
    if recipe.base is not None and recipe.base not in names:
        problems.append(f"recipe: base {recipe.base!r} is not among the sources {names}.")
    for number, rule in enumerate(recipe.rules, 1):
        unknown = [name for name in rule.models if name not in names]
        if unknown:
            problems.append(f"recipe: rule {number} names {unknown}, sources are {names}.")
        if not rule.models:
            problems.append(f"recipe: rule {number} merges no models.")
    if not recipe.rules or recipe.rules[-1].layers or recipe.rules[-1].contains:
        problems.append(
            "recipe: the last rule must select every tensor (no 'layers', no 'contains')."
        )
    return problems
