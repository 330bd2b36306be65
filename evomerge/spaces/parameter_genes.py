"""The genes of a parameter space, and what a genome says of each section of the model."""

from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Scalar
from evomerge.spaces.genes import FLOAT_DIGITS, ChoiceGene, Gene, IntGene
from evomerge.spaces.parameter_spec import WEIGHT, ParameterSpaceSpec
from evomerge.spaces.ranges import Axis, Range
from evomerge.spaces.sections import Section, cut
from evomerge.spaces.simplex import ShareGene, proportions
from evomerge.spaces.space import SourceModels

OPERATOR, SUBSET = "operator", "subset"
"""What genes are of that are no parameter's."""

SWITCH = "on"
"""How genes are called that turn an expert on and off."""

Key = tuple[str | None, str]
"""An expert, or None for the merge as a whole; and a parameter."""


@dataclass(frozen=True)
class Setting:
    """A parameter that the rules set, for one expert or for the merge as a whole."""

    expert: str | None
    parameter: str
    bounds: Range
    is_share: bool = False
    """Whether the value counts relative to those of the other experts."""

    prefix: str = ""
    """What tells its gene from one that all experts share, of a parameter called alike."""

    @property
    def key(self) -> Key:
        """What its values are kept under."""
        return self.expert, self.parameter

    @property
    def smooth(self) -> bool:
        """Whether values between two of its values are among its values too."""
        return self.is_share or (self.bounds.low is not None and not self.bounds.int)

    def gene_name(self, section: Section) -> str:
        """The gene that gives the parameter's value in a section."""
        default: tuple[Axis, ...] = ("expert", "layers", "component") if self.expert else ()
        axes = default if self.bounds.per is None else self.bounds.per
        own = self.expert is not None and "expert" in axes
        plain = f"{self.expert}.{self.parameter}" if own else self.prefix + self.parameter
        return f"{plain} {section.label(axes)}".strip()

    def gene(self, name: str) -> Gene:
        """Its gene; a share's interval is spaced so that shares spread over the simplex."""
        low, high = self.bounds.low, self.bounds.high
        plain = not (self.bounds.log or self.bounds.int)
        if self.is_share and plain and low is not None and high is not None:
            return ShareGene(name, low, high)
        return self.bounds.gene(name)


@dataclass(frozen=True)
class NamedGene:
    """A gene, and what it is of."""

    gene: Gene
    parameter: str
    """A parameter, ``operator`` or ``subset``."""

    section: Section
    """The first section that it is for."""

    setting: Setting | None = None
    """The first setting that it gives; None for operators and switches."""

    expert: str | None = None
    """The expert that it turns on and off."""


@dataclass(frozen=True)
class SectionValues:
    """What a genome says of one section."""

    operator: str
    on: tuple[str, ...]
    """The experts that take part."""

    values: Mapping[Key, Scalar]


class ParameterGenes:
    """The genes of a space over certain models.

    Args:
        spec: The space as written; its problems are not looked for here.
        models: What is merged.
    """

    def __init__(self, spec: ParameterSpaceSpec, models: SourceModels) -> None:
        self.spec = spec
        self.experts = tuple(expert.name for expert in models.experts)
        self.sections = cut(
            spec.groups(models.layers), spec.parts, only=spec.only, interpolate=spec.interpolate
        )
        simplex = spec.weights == "simplex"
        self.settings = [
            Setting(name, parameter, bounds.of_expert(name), simplex and parameter == WEIGHT)
            for name in self.experts
            for parameter, bounds in spec.expert_ranges.items()
        ]
        shared = {
            name
            for name, bounds in spec.expert_ranges.items()
            if bounds.per is not None and "expert" not in bounds.per
        }
        self.settings += [
            Setting(None, parameter, bounds, prefix="merge." if parameter in shared else "")
            for parameter, bounds in spec.merge.items()
        ]
        self.named = self._named()
        """All genes by name, also those that ``fixed`` holds."""

    @property
    def free(self) -> tuple[Gene, ...]:
        """In the order: operators, then by section switches and values."""
        fixed = self.spec.fixed
        return tuple(each.gene for name, each in self.named.items() if name not in fixed)

    def operator_gene(self, section: Section) -> str:
        """The name of the gene of a section's operator."""
        return f"{OPERATOR} {section.label(self.spec.operator_per)}".strip()

    def switch(self, expert: str, section: Section) -> str:
        """The name of the gene that turns an expert on and off in a section."""
        axes = self.spec.subset.per if self.spec.subset else ()
        return f"{expert}.{SWITCH} {section.label(axes)}".strip()

    def at(self, genome: Genome, section: Section) -> SectionValues:
        """What the genome says of a section, or at a knot."""
        known: Mapping[str, Scalar] = {**genome, **self.spec.fixed}
        one = len(self.spec.operator) == 1
        return SectionValues(
            self.spec.operator[0] if one else str(known[self.operator_gene(section)]),
            tuple(
                name
                for name in self.experts
                if self.spec.subset is None or known[self.switch(name, section)]
            ),
            {each.key: _value(each, known, section) for each in self.settings},
        )

    def between(self, here: SectionValues, after: SectionValues, share: float) -> SectionValues:
        """What is smooth interpolated, everything else taken from the nearer knot."""
        if share == 0:
            return here
        nearer = here if share < 0.5 else after
        start, end = self._comparable(here.values), self._comparable(after.values)
        values = {
            each.key: (
                _on_the_line(
                    float(start[each.key]), float(end[each.key]), share, exact=each.is_share
                )
                if each.smooth
                else nearer.values[each.key]
            )
            for each in self.settings
        }
        return SectionValues(nearer.operator, nearer.on, values)

    def _comparable(self, values: Mapping[Key, Scalar]) -> Mapping[Key, Scalar]:
        """With shares of a whole in place of what only counts relative to the others."""
        keys = {
            each.expert: each.key for each in self.settings if each.is_share and each.expert
        }
        parts = proportions({name: float(values[key]) for name, key in keys.items()})
        return {**values, **{key: parts[name] for name, key in keys.items()}}

    def _named(self) -> dict[str, NamedGene]:
        named: dict[str, NamedGene] = {}
        searched = [section for section in self.sections if section.searched]
        for section in searched:
            if len(self.spec.operator) > 1:
                name = self.operator_gene(section)
                choice = ChoiceGene(name, self.spec.operator)
                named.setdefault(name, NamedGene(choice, OPERATOR, section))
        for section in searched:
            for expert in self.experts if self.spec.subset else ():
                name = self.switch(expert, section)
                gene = IntGene(name, 0, 1)
                named.setdefault(name, NamedGene(gene, SUBSET, section, expert=expert))
            for each in self.settings:
                name = each.gene_name(section)
                if not each.bounds.fixed and name not in named:
                    named[name] = NamedGene(each.gene(name), each.parameter, section, each)
        return named


def _value(setting: Setting, known: Mapping[str, Scalar], section: Section) -> Scalar:
    """The fixed value, or the gene's."""
    if setting.bounds.value is not None:
        return setting.bounds.value
    return known[setting.gene_name(section)]


def _on_the_line(start: float, end: float, share: float, *, exact: bool) -> float:
    """Rounded as genes are unless ``exact``, never beyond the two, never -0.0."""
    value = (1 - share) * start + share * end
    value = value if exact else round(value, FLOAT_DIGITS)
    return min(max(start, end), max(min(start, end), value)) + 0.0
