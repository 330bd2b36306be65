"""The parameter space: operator parameters per expert, layer group and component."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import GeneValue, Genome
from evomerge.core.recipe import Recipe, Rule, Scalar, Value
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import FLOAT_DIGITS, ChoiceGene, Gene
from evomerge.spaces.ranges import Axis, ParameterRange, Range
from evomerge.spaces.sections import REST, Section, cut
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

SMALLEST_WEIGHT_SUM = 1e-3
"""Below this, normalized weights are replaced by equal ones: dividing would explode."""

_DIVIDE = ("normalize", "normalize_weights")
"""Flags, on by default, that divide by the sum of weights."""

_Values = Mapping[tuple[str | None, str], Scalar]
"""Values by (expert, or None for the merge as a whole; parameter)."""


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

    @model_validator(mode="after")
    def _every_gene_counts(self) -> Self:
        if len(set(self.operator)) < len(self.operator):
            raise ValueError(f"'operator' names one twice: {list(self.operator)}")
        if "" in self.components or REST in self.components:
            raise ValueError(f"'' and {REST!r} cannot be components; leave them out")
        for number, later in enumerate(self.components):
            for earlier in self.components[:number]:
                if earlier in later:
                    raise ValueError(
                        f"component {later!r} would never be reached, since {earlier!r} before "
                        "it matches the same tensors; name the longer one first"
                    )
        return self


@dataclass(frozen=True)
class _Setting:
    """A parameter that the rules set, for one expert or for the merge as a whole."""

    expert: str | None
    parameter: str
    bounds: Range

    @property
    def key(self) -> tuple[str | None, str]:
        """What its values are kept under."""
        return self.expert, self.parameter

    @property
    def smooth(self) -> bool:
        """Whether values between two of its values are among its values too."""
        return self.bounds.low is not None and not self.bounds.int

    def gene_name(self, section: Section) -> str:
        """The gene that gives the parameter's value in a section."""
        default: tuple[Axis, ...] = ("expert", "layers", "component") if self.expert else ()
        axes = default if self.bounds.per is None else self.bounds.per
        own = self.expert is not None and "expert" in axes
        plain = f"{self.expert}.{self.parameter}" if own else self.parameter
        return f"{plain} {section.label(axes)}".strip()

    def value(self, genome: Genome, section: Section) -> Scalar:
        """The fixed value, or the gene's."""
        if self.bounds.value is not None:
            return self.bounds.value
        return genome[self.gene_name(section)]


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
        if spec.layer_groups > 1 and not models.layers:
            problems.append("space.layer_groups: the models have no numbered layers; use 1.")
        if problems:
            raise ConfigError(problems)
        self._models = models
        self._operators = {name: operators[name] for name in spec.operator}
        self._sections = cut(
            models.layers, spec.layer_groups, spec.components, interpolate=spec.interpolate
        )
        self._settings = [
            _Setting(expert.name, parameter, bounds)
            for expert in models.experts
            for parameter, bounds in spec.experts.items()
        ] + [_Setting(None, parameter, bounds) for parameter, bounds in spec.merge.items()]
        genes: dict[str, Gene] = {}
        if len(spec.operator) > 1:
            genes["operator"] = ChoiceGene("operator", spec.operator)
        for section in self._sections:
            for setting in self._settings:
                name = setting.gene_name(section)
                if not setting.bounds.fixed and name not in genes:
                    genes[name] = setting.bounds.gene(name)
        self._genes = tuple(genes.values())

    @property
    def genes(self) -> tuple[Gene, ...]:
        """In the order: operator, then by section, expert, parameter."""
        return self._genes

    def decode(self, genome: Genome) -> Recipe:
        """One rule a section; with ``interpolate``, one a layer and component.

        Parameters that the chosen operator does not have are left out.
        """
        operator = self._operators[str(genome.get("operator", next(iter(self._operators))))]
        rules = [
            self._rule(operator, layers, section.component, values)
            for section in self._sections
            for layers, values in self._layer_values(genome, section)
        ]
        return self._models.recipe(_without_repeats(rules))

    def encode(self, recipe: Recipe) -> Genome | None:
        """Each gene read off the first rule that it is for.

        A recipe that ``decode`` gave comes back to itself, except between knots that lie
        between layers (there the nearest layer's values are taken). A gene of which the recipe
        says nothing is in the middle of its range.
        """
        if recipe.slices:
            return None
        found: dict[str, Value] = {}
        for section in self._sections:
            rule = recipe.rule_for(section.sample)
            if not self._writes(rule):
                return None
            if found.setdefault("operator", rule.operator) != rule.operator:
                return None
            for setting in self._settings:
                given = _given(rule, setting.expert)
                if setting.parameter in given:
                    found.setdefault(setting.gene_name(section), given[setting.parameter])
        genome: dict[str, GeneValue] = {}
        for gene in self._genes:
            known = gene.name in found
            value = _nearest(gene, found[gene.name]) if known else gene.from_unit(0.5)
            if value is None:
                return None
            genome[gene.name] = value
        return genome

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self._models)

    def _layer_values(
        self, genome: Genome, section: Section
    ) -> list[tuple[tuple[int, int] | None, _Values]]:
        """The layers of a section, in runs that are merged alike, with their values."""
        here = self._values(genome, section)
        if section.following is None:
            return [(span.layers, here) for span in section.spans]
        after = self._values(genome, section.following)
        return [(span.layers, self._between(here, after, span.share)) for span in section.spans]

    def _values(self, genome: Genome, section: Section) -> _Values:
        return {setting.key: setting.value(genome, section) for setting in self._settings}

    def _between(self, here: _Values, after: _Values, share: float) -> _Values:
        """What is smooth interpolated, everything else taken from the nearer knot."""
        nearer = here if share < 0.5 else after
        return {
            setting.key: (
                _on_the_line(float(here[setting.key]), float(after[setting.key]), share)
                if setting.smooth
                else nearer[setting.key]
            )
            for setting in self._settings
        }

    def _rule(
        self,
        operator: OperatorSignature,
        layers: tuple[int, int] | None,
        component: str | None,
        values: _Values,
    ) -> Rule:
        models = {
            name: {p: values[name, p] for p in operator.model_parameters if (name, p) in values}
            for name in self._merged(operator)
        }
        whole = {p: values[None, p] for p in operator.merge_parameters if (None, p) in values}
        divides = any(
            name in operator.merge_parameters and whole.get(name, True) for name in _DIVIDE
        )
        if divides and not operator.needs_base:
            models = _with_safe_weights(models)
        return Rule(operator.name, models, whole, layers, (component,) if component else ())

    def _merged(self, operator: OperatorSignature) -> list[str]:
        """The models of every rule: the experts, for a pair with one expert the base first."""
        names = [expert.name for expert in self._models.experts]
        pair = operator.max_models == 2 and not operator.takes_base
        if pair and len(names) == 1 and self._models.base:
            return [self._models.base.name, *names]
        return names

    def _writes(self, rule: Rule) -> bool:
        """Whether ``decode`` could write a rule of this operator over these models."""
        operator = self._operators.get(rule.operator)
        if operator is None:
            return False
        takes_base = operator.needs_base or operator.takes_base
        base = self._models.base.name if self._models.base and takes_base else None
        merged, written = [n for n in rule.models if n != base], self._merged(operator)
        if operator.max_models is not None:
            return merged == written
        return all(name in written for name in merged)


def check_parameter_space(
    spec: ParameterSpaceSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> list[str]:
    """Every reason why the space cannot be searched over these models.

    Models of 0 layers are taken to be not known yet, so that ``layer_groups`` is not judged.
    """
    problems = [
        f"space.operator: {unknown('operator', name, operators)}."
        for name in spec.operator
        if name not in operators
    ]
    known = [operators[name] for name in spec.operator if name in operators]
    if known:
        problems += _parameter_problems(spec, known)
    for operator in known:
        problems += _model_problems(operator, models)
    if models.layers and spec.layer_groups > models.layers:
        problems.append(
            f"space.layer_groups: {spec.layer_groups} groups of {models.layers} layers; "
            f"at most {models.layers}."
        )
    for name, bounds in spec.merge.items():
        if bounds.per is not None and "expert" in bounds.per:
            problems.append(f"space.merge.{name}: one of the merge cannot vary per expert.")
    return problems


def _parameter_problems(
    spec: ParameterSpaceSpec, operators: Sequence[OperatorSignature]
) -> list[str]:
    of_experts = sorted({p for operator in operators for p in operator.model_parameters})
    of_merge = sorted({p for operator in operators for p in operator.merge_parameters})
    kind = f"parameter of {' / '.join(operator.name for operator in operators)}"
    problems = []
    for section, given, accepted, other_section, other in (
        ("experts", spec.experts, of_experts, "merge", of_merge),
        ("merge", spec.merge, of_merge, "experts", of_experts),
    ):
        for name, bounds in given.items():
            if name in accepted:
                problems += [
                    f"space.{section}.{name}: {problem}."
                    for problem in _value_problems(name, bounds, operators)
                ]
            elif name in other:
                problems.append(f"space.{section}.{name}: belongs under space.{other_section}.")
            else:
                problems.append(f"space.{section}: {unknown(kind, name, accepted)}.")
    return problems


def _value_problems(
    name: str, bounds: Range, operators: Sequence[OperatorSignature]
) -> list[str]:
    problems = []
    for operator in operators:
        if name in operator.value_problems:
            reasons = filter(None, map(operator.value_problems[name], bounds.ends))
            problems += [f"{operator.name}'s {name} {reason}" for reason in [*reasons][:1]]
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
    pair = operator.max_models == 2 and models.base is not None and not operator.takes_base
    if many < operator.min_models and not pair:
        least = "2 models" if operator.max_models == 2 else f"{operator.min_models} or more"
        base = "and no base" if models.base is None else "besides the base"
        problems.append(
            f"space.operator: {operator.name} merges {least}, the experiment names {many} "
            f"expert {base}; name one more."
        )
    return problems


def _given(rule: Rule, expert: str | None) -> Mapping[str, Value]:
    """What a rule says of an expert, or of the merge as a whole."""
    if expert is None:
        return rule.parameters
    if expert not in rule.models:
        return {"weight": 0.0}
    return {**rule.parameters, **rule.models[expert]}


def _nearest(gene: Gene, value: Value) -> GeneValue | None:
    """The gene's value nearest to a recipe's; None where they are of different kinds."""
    if isinstance(gene, ChoiceGene):
        if value in gene.options:
            return gene.options[gene.options.index(value)]
        numbers = [option for option in gene.options if _is_number(option)]
        if not numbers or not _is_number(value):
            return None
        return min(numbers, key=lambda option: abs(float(option) - float(value)))
    return gene.from_unit(gene.to_unit(value)) if _is_number(value) else None


def _is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _on_the_line(start: float, end: float, share: float) -> float:
    """Rounded as genes are, never beyond the two, never -0.0."""
    value = round((1 - share) * start + share * end, FLOAT_DIGITS)
    return min(max(start, end), max(min(start, end), value)) + 0.0


def _with_safe_weights(models: dict[str, dict[str, Scalar]]) -> dict[str, dict[str, Scalar]]:
    weights = [float(p["weight"]) for p in models.values() if "weight" in p]
    if not weights or abs(sum(weights)) >= SMALLEST_WEIGHT_SUM:
        return models
    return {name: {**parameters, "weight": 1.0} for name, parameters in models.items()}


def _without_repeats(rules: list[Rule]) -> list[Rule]:
    """One rule where all sections turned out alike, so that equal merges have equal hashes."""
    last = Rule(rules[-1].operator, rules[-1].models, rules[-1].parameters)
    alike = all(replace(rule, layers=None, contains=()) == last for rule in rules)
    return [last] if alike else rules
