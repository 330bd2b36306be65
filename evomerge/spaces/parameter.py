"""The parameter space: operator parameters per expert, layer group and component."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import GeneValue, Genome
from evomerge.core.recipe import Recipe, Rule, Value
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import FLOAT_DIGITS, Gene
from evomerge.spaces.ranges import ParameterRange, Range
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

SMALLEST_WEIGHT_SUM = 1e-3
"""Below this, normalized weights are replaced by equal ones: dividing would explode."""


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


class ParameterSpaceSpec(BaseModel):
    """A parameter space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["parameter"] = "parameter"
    operator: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(min_length=1)
    """One merge operator, or several: then which one is a choice gene."""

    layer_groups: int = Field(default=1, ge=1)
    """Into how many runs of neighbouring layers the model is cut."""

    interpolate: bool = False
    """Take the groups as knots and interpolate between them, layer by layer."""

    components: tuple[str, ...] = ()
    """Parts of tensor names with genes of their own, e.g. [self_attn, mlp]; all that no
    part matches (norms, embeddings, head) shares one further set."""

    experts: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of parameters that each expert has (weight, density …)."""

    merge: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of parameters of the merge as a whole (lambda, normalize, t …)."""


@dataclass(frozen=True)
class _Section:
    """A set of tensors with genes of their own."""

    layers: tuple[int, int] | None
    component: str | None
    group: int | None
    """Number of the layer group (or of the first knot); None outside of layer groups."""

    def label(self, axes: Sequence[str], groups: Sequence[tuple[int, int]]) -> str:
        """The part of a gene's name that says which tensors it is for."""
        if self.group is None:
            return "rest" if {"layers", "component"} & set(axes) else ""
        parts = []
        if "layers" in axes and len(groups) > 1:
            first, stop = groups[self.group]
            parts.append(f"layers {first}-{stop - 1}")
        if "component" in axes and self.component is not None:
            parts.append(self.component)
        return " ".join(parts)


class ParameterSpace(SearchSpace):
    """Genes per expert × layer group × component, plus overall ones such as ``lambda``.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: An operator or parameter is unknown, or the models do not suit it.
    """

    def __init__(
        self,
        spec: ParameterSpaceSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],
    ) -> None:
        problems = check_parameter_space(spec, models, operators)
        if problems:
            raise ConfigError(problems)
        self._spec = spec
        self._models = models
        self._operators = {name: operators[name] for name in spec.operator}
        self._groups = _layer_groups(models.layers, spec.layer_groups)
        self._sections = self._cut()
        genes: dict[str, Gene] = {}
        if len(spec.operator) > 1:
            genes["operator"] = Range(choice=spec.operator).gene("operator")
        for section in self._sections:
            for name, parameter, bounds, expert in self._parameters():
                if not bounds.fixed:
                    gene = self._gene_name(name, parameter, bounds, expert, section)
                    genes.setdefault(gene, bounds.gene(gene))
        self._genes = tuple(genes.values())

    @property
    def genes(self) -> tuple[Gene, ...]:
        """In the order: operator, then by section, expert, parameter."""
        return self._genes

    def decode(self, genome: Genome) -> Recipe:
        """One rule a section; with ``interpolate``, one a layer and component."""
        operator = self._operators[str(genome.get("operator", self._spec.operator[0]))]
        rules = []
        for section in self._sections:
            for layers, values in self._layer_values(genome, section):
                rules.append(self._rule(operator, section, layers, values))
        return self._models.recipe(_without_repeats(rules))

    def encode(self, recipe: Recipe) -> Genome | None:
        """Reads each gene off the rule that holds for its section."""
        genome: dict[str, GeneValue] = {}
        for section in self._sections:
            rule = recipe.rule_for(_sample_name(section, self._groups))
            if rule.operator not in self._operators:
                return None
            genome.setdefault("operator", rule.operator)
            for name, parameter, bounds, expert in self._parameters():
                gene = self._gene_name(name, parameter, bounds, expert, section)
                if bounds.fixed or gene in genome:
                    continue
                given = rule.models.get(expert, {}) if expert else rule.parameters
                if parameter in given:
                    genome[gene] = given[parameter]
        return {
            gene.name: gene.from_unit(gene.to_unit(genome[gene.name]))
            if gene.name in genome
            else gene.from_unit(0.5)
            for gene in self._genes
        }

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self._models)

    # ---- sections and genes

    def _cut(self) -> list[_Section]:
        spec, groups = self._spec, self._groups
        named: list[str | None] = [*spec.components] or [None]
        inside = [
            _Section(group if len(groups) > 1 else None, component, number)
            for number, group in enumerate(groups)
            for component in named
        ]
        needs_rest = bool(spec.components) or len(groups) > 1
        return inside + ([_Section(None, None, None)] if needs_rest else [])

    def _parameters(self) -> list[tuple[str, str, Range, str | None]]:
        """Label, parameter, range and expert (None for the merge as a whole)."""
        per_expert = [
            (f"{expert.name}.{parameter}", parameter, bounds, expert.name)
            for expert in self._models.experts
            for parameter, bounds in self._spec.experts.items()
        ]
        whole = [(p, p, bounds, None) for p, bounds in self._spec.merge.items()]
        return [*per_expert, *whole]

    def _gene_name(
        self, name: str, parameter: str, bounds: Range, expert: str | None, section: _Section
    ) -> str:
        axes: Sequence[str] = _axes(bounds, expert)
        label = section.label(axes, self._groups)
        plain = name if expert is None or "expert" in axes else parameter
        return f"{plain} {label}".strip()

    # ---- decoding

    def _layer_values(
        self, genome: Genome, section: _Section
    ) -> list[tuple[tuple[int, int] | None, dict[tuple[str | None, str], Value]]]:
        """The parameter values of a section, by (expert or None, parameter)."""
        here = self._values(genome, section)
        if section.group is None or not self._spec.interpolate or len(self._groups) == 1:
            return [(section.layers, here)]
        following = next(
            (
                s
                for s in self._sections
                if s.group == section.group + 1 and s.component == section.component
            ),
            None,
        )
        if following is None:
            last = self._models.layers - 1
            return [((last, last + 1), here)]
        after = self._values(genome, following)
        knots = len(self._groups) - 1
        positions = [
            (layer, layer * knots / (self._models.layers - 1))
            for layer in range(self._models.layers)
        ]
        return [
            ((layer, layer + 1), _between(here, after, at - section.group))
            for layer, at in positions
            if section.group <= at < section.group + 1
        ]

    def _values(self, genome: Genome, section: _Section) -> dict[tuple[str | None, str], Value]:
        return {
            (expert, parameter): _value(
                bounds, genome, self._gene_name(name, parameter, bounds, expert, section)
            )
            for name, parameter, bounds, expert in self._parameters()
        }

    def _rule(
        self,
        operator: OperatorSignature,
        section: _Section,
        layers: tuple[int, int] | None,
        values: Mapping[tuple[str | None, str], Value],
    ) -> Rule:
        models = {
            expert.name: {
                p: values[expert.name, p]
                for p in operator.model_parameters
                if (expert.name, p) in values
            }
            for expert in self._models.experts
        }
        if len(models) == 1 and operator.max_models == 2 and self._models.base:
            models = {self._models.base.name: {}, **models}
        merge = {p: values[None, p] for p in operator.merge_parameters if (None, p) in values}
        normalized = merge.get("normalize", operator.name == "linear") is True
        if normalized and not operator.needs_base:
            models = _with_safe_weights(models)
        return Rule(operator.name, models, merge, layers, section.component)


def check_parameter_space(
    spec: ParameterSpaceSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> list[str]:
    """Every reason why the space cannot be searched over these models."""
    problems = [
        f"space.operator: {unknown('operator', name, operators)}."
        for name in spec.operator
        if name not in operators
    ]
    known = [operators[name] for name in spec.operator if name in operators]
    for section, given, accepted in (
        ("experts", spec.experts, [o.model_parameters for o in known]),
        ("merge", spec.merge, [o.merge_parameters for o in known]),
    ):
        names = sorted({p for group in accepted for p in group})
        kind = f"parameter of {' / '.join(spec.operator)}"
        if known:
            problems += [
                f"space.{section}: {unknown(kind, p, names)}." for p in given if p not in names
            ]
    for operator in known:
        problems += _model_problems(operator, models)
    if models.layers and spec.layer_groups > models.layers:
        problems.append(
            f"space.layer_groups: {spec.layer_groups} groups of {models.layers} layers; "
            f"at most {models.layers}."
        )
    if any(bounds.per and "expert" in bounds.per for bounds in spec.merge.values()):
        problems.append("space.merge: a parameter of the merge cannot vary per expert.")
    return problems


def _model_problems(operator: OperatorSignature, models: SourceModels) -> list[str]:
    problems = []
    if operator.needs_base and models.base is None:
        problems.append(
            f"space.operator: {operator.name} takes differences to a base model; name it "
            "under models.base."
        )
    many = len(models.experts)
    if operator.max_models is not None and many > operator.max_models:
        problems.append(
            f"space.operator: {operator.name} merges {operator.max_models} models, the "
            f"experiment names {many} experts; use linear, task_arithmetic, ties or dare_ties."
        )
    return problems


def _axes(bounds: Range, expert: str | None) -> Sequence[str]:
    if bounds.per is not None:
        return bounds.per
    return ("expert", "layers", "component") if expert is not None else ()


def _layer_groups(layers: int, groups: int) -> list[tuple[int, int]]:
    """Contiguous half-open ranges whose sizes differ by at most one."""
    cuts = [layers * k // groups for k in range(groups + 1)]
    return [(cuts[k], cuts[k + 1]) for k in range(groups)]


def _sample_name(section: _Section, groups: Sequence[tuple[int, int]]) -> str:
    if section.group is None:
        return "outside"
    return f"layers.{groups[section.group][0]}.{section.component or 'any'}"


def _value(bounds: Range, genome: Genome, gene: str) -> Value:
    return bounds.value if bounds.value is not None else genome[gene]


def _between(
    here: Mapping[tuple[str | None, str], Value],
    after: Mapping[tuple[str | None, str], Value],
    share: float,
) -> dict[tuple[str | None, str], Value]:
    """Floats interpolated, everything else taken from the nearer knot."""
    mixed: dict[tuple[str | None, str], Value] = {}
    for key, value in here.items():
        other = after[key]
        if isinstance(value, float) and isinstance(other, float):
            mixed[key] = round((1 - share) * value + share * other, FLOAT_DIGITS)
        else:
            mixed[key] = value if share < 0.5 else other
    return mixed


def _with_safe_weights(models: dict[str, dict[str, Value]]) -> dict[str, dict[str, Value]]:
    weights = [float(p["weight"]) for p in models.values() if "weight" in p]
    if not weights or abs(sum(weights)) >= SMALLEST_WEIGHT_SUM:
        return models
    return {name: {**parameters, "weight": 1.0} for name, parameters in models.items()}


def _without_repeats(rules: list[Rule]) -> list[Rule]:
    """One rule where all sections turned out alike, so that equal merges have equal hashes."""
    if all((r.operator, r.models, r.parameters) == _content(rules[-1]) for r in rules):
        last = rules[-1]
        return [Rule(last.operator, last.models, last.parameters)]
    return rules


def _content(rule: Rule) -> tuple[object, ...]:
    return (rule.operator, rule.models, rule.parameters)
