"""What the layers of a model are made of: genes that select experts, and merge parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.core.outcomes import GeneValue, Genome
from evomerge.core.recipe import Rule, Scalar, Value
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.layer_edit_spec import NONE, LayerEditSpec
from evomerge.spaces.parameter_rules import with_safe_weights
from evomerge.spaces.ranges import Axis, Range
from evomerge.spaces.sections import Layers
from evomerge.spaces.space import OperatorSignature, SourceModels

ON = (0, 1)
"""Options of the genes that say whether an expert takes part."""


@dataclass(frozen=True)
class MergeSetting:
    """A parameter of merged layers, for one expert or for the merge as a whole."""

    expert: str | None
    parameter: str
    bounds: Range

    def gene_name(self, group: Layers) -> str:
        """The gene that gives its value in a layer group."""
        default: tuple[Axis, ...] = ("expert",) if self.expert else ()
        axes = default if self.bounds.per is None else self.bounds.per
        own = self.expert is not None and "expert" in axes
        plain = f"{self.expert}.{self.parameter}" if own else self.parameter
        return f"{plain} {group_label(group)}" if "layers" in axes else plain

    def value(self, genome: Genome, group: Layers) -> Scalar:
        """The fixed value, or the gene's."""
        if self.bounds.value is not None:
            return self.bounds.value
        return genome[self.gene_name(group)]


@dataclass(frozen=True)
class Origins:
    """From which models each layer group is taken.

    Each expert has a gene of 0 or 1: one chosen gives its layers whole, several are merged,
    and where none is chosen the layers are the base's (without a base, the first expert's).
    Where layers are always taken whole, one gene chooses among the models.
    """

    experts: tuple[str, ...]
    """That can be chosen."""

    base: str | None
    """Where layers of the base can be taken."""

    operator: OperatorSignature | None
    """None: layers are taken whole."""

    settings: tuple[MergeSetting, ...]
    task_base: str | None
    """The base that takes part in every merge by the operator."""

    @property
    def otherwise(self) -> str:
        """What gives the layers for which no expert is chosen."""
        return self.base or self.experts[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """All models that can give whole layers."""
        return (*((self.base,) if self.base else ()), *self.experts)

    @property
    def merges(self) -> bool:
        """Whether layers can be merged of several experts."""
        return self.operator is not None and len(self.experts) > 1

    def genes(self, group: Layers) -> Iterator[Gene]:
        """Genes for one group, of which some are those of other groups too."""
        if self.merges:
            for expert in self.experts:
                yield ChoiceGene(switch(expert, group), ON)
        elif len(self.sources) > 1:
            yield ChoiceGene(_choice(group), self.sources)
        for setting in self.settings:
            if not setting.bounds.fixed:
                yield setting.bounds.gene(setting.gene_name(group))

    def members(self, genome: Genome, group: Layers) -> tuple[str, ...]:
        """The models that a group's layers are made of: several are merged."""
        if self.merges:
            chosen = [name for name in self.experts if genome[switch(name, group)]]
            return tuple(chosen) or (self.otherwise,)
        if len(self.sources) > 1:
            return (str(genome[_choice(group)]),)
        return (self.otherwise,)

    def selecting(self, members: Sequence[str], group: Layers) -> dict[str, GeneValue] | None:
        """Genes by which a group is made of these models; None where it cannot be."""
        if not members or any(name not in self.sources for name in members):
            return None
        if self.merges:
            if self.base in members and len(members) > 1:
                return None
            return {switch(name, group): int(name in members) for name in self.experts}
        if len(members) > 1:
            return None
        return {_choice(group): members[0]} if len(self.sources) > 1 else {}

    def rule(self, genome: Genome, group: Layers) -> Rule:
        """How the tensors of a group's layers are merged, for layers not named yet."""
        members = self.members(genome, group)
        if self.operator is None or len(members) == 1:
            return Rule("passthrough", {members[0]: {}})
        values = {(s.expert, s.parameter): s.value(genome, group) for s in self.settings}
        models = {
            name: {p: v for (expert, p), v in values.items() if expert == name}
            for name in members
        }
        whole = {p: v for (expert, p), v in values.items() if expert is None}
        return merge_rule(self.operator, models, whole)

    def taking_part(self, rule: Rule) -> list[str]:
        """The models whose layers a rule's slice is made of."""
        merged = rule.operator != "passthrough"
        base = [self.task_base] if merged and self.task_base else []
        return list(dict.fromkeys([*base, *rule.models]))

    def members_of(self, rule: Rule) -> tuple[str, ...] | None:
        """The models that a rule makes layers of; None where no genome does it so.

        Parameters that have no gene must be the same for all models.
        """
        if rule.operator == "passthrough":
            return (next(iter(rule.models)),)
        if self.operator is None or rule.operator != self.operator.name:
            return None
        members = tuple(name for name in rule.models if name != self.task_base)
        free = {setting.parameter for setting in self.settings if setting.expert}
        for parameter in {p for own in rule.models.values() for p in own} - free:
            if len({rule.models[name].get(parameter) for name in members}) > 1:
                return None
        ordered = tuple(name for name in self.experts if name in members)
        return members if len(members) > 1 and ordered == members else None

    def values_of(self, rule: Rule, group: Layers) -> dict[str, Value]:
        """What a rule says of the group's parameters, by gene."""
        found: dict[str, Value] = {}
        for setting in self.settings:
            given = rule.parameters
            if setting.expert is not None:
                given = {**given, **rule.models.get(setting.expert, {})}
            own = setting.expert is None or setting.expert in rule.models
            if own and setting.parameter in given and not setting.bounds.fixed:
                found.setdefault(setting.gene_name(group), given[setting.parameter])
        return found


def origins(
    spec: LayerEditSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> Origins:
    """What the layers of a space can be made of; its problems are not looked for here."""
    operator = None if spec.operator == NONE else operators[spec.operator]
    experts = spec.selectable(models)
    base = models.base.name if models.base else None
    takes_base = operator is not None and (operator.needs_base or operator.takes_base)
    of_experts = [
        MergeSetting(expert, parameter, own)
        for expert in experts
        for parameter, bounds in spec.experts.items()
        if (own := bounds.of_expert(expert)).for_others
    ]
    of_merge = [
        MergeSetting(None, parameter, bounds) for parameter, bounds in spec.merge.items()
    ]
    return Origins(
        experts,
        base if base in spec.taken_from(models) else None,
        operator,
        (*of_experts, *of_merge),
        base if takes_base else None,
    )


def merge_rule(
    operator: OperatorSignature,
    models: Mapping[str, Mapping[str, Scalar]],
    parameters: Mapping[str, Scalar],
) -> Rule:
    """A rule that can be merged, and that is the uniform average's where it means that.

    Weights that cancel are replaced where they are divided by their sum.
    """
    if operator.name == "linear":
        models = {name: {"weight": 1.0, **own} for name, own in models.items()}
        parameters = {"normalize": True, **parameters}
    return Rule(operator.name, with_safe_weights(operator, models, parameters), parameters)


def group_label(group: Layers) -> str:
    """How genes of a layer group are called: ``layer 3``, ``layers 3-5``."""
    first, stop = group
    return f"layer {first}" if stop == first + 1 else f"layers {first}-{stop - 1}"


def switch(expert: str, group: Layers) -> str:
    """The gene that says whether an expert takes part in a layer group."""
    return f"{expert}.on {group_label(group)}"


def _choice(group: Layers) -> str:
    return f"from {group_label(group)}"
