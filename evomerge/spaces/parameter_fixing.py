"""Genes of a parameter space held at the values that an earlier search chose."""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import GeneValue, Genome
from evomerge.spaces.parameter import ParameterSpace
from evomerge.spaces.parameter_genes import OPERATOR, SUBSET, NamedGene, ParameterGenes
from evomerge.spaces.parameter_spec import WEIGHT, ParameterSpaceSpec
from evomerge.spaces.sections import Section


def fixed_to(
    spec: ParameterSpaceSpec,
    space: ParameterSpace,
    genome: Genome,
    parameters: Sequence[str],
) -> ParameterSpaceSpec:
    """A space in which some parameters are what a genome of an earlier space says.

    The later space takes the parameters' ranges from the earlier one and holds their genes,
    by ``fixed``. Where the two cut the model differently, each gene has the value that the
    first tensors that it is for had. Genes of tensors that the earlier space left alone
    (``only``) stay free.

    Args:
        spec: The later space.
        space: The earlier space, over the same models.
        genome: One of the earlier space.
        parameters: Names of parameters, ``operator`` for the choice of it, ``subset`` for
            which experts are on.

    Raises:
        ConfigError: The earlier space has no such parameters.
    """
    earlier = space.spec
    known = [*earlier.expert_ranges, *earlier.merge, OPERATOR]
    known += [SUBSET] if earlier.subset is not None else []
    problems = [
        f"fix: {unknown('parameter of the earlier space', name, known)}."
        for name in parameters
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    adopted = spec.model_copy(update=_adopted(spec, earlier, parameters))
    known_genes = space.parameter_genes
    fixed: dict[str, GeneValue] = dict(adopted.fixed)
    for name, each in ParameterGenes(adopted, space.models).named.items():
        section = _section_of(each.section, known_genes.sections)
        if each.parameter in parameters and section.searched:
            fixed[name] = _value(each, section, known_genes, genome)
    return adopted.model_copy(update={"fixed": fixed})


def _adopted(
    spec: ParameterSpaceSpec, earlier: ParameterSpaceSpec, parameters: Sequence[str]
) -> Mapping[str, Any]:
    """The keys of the later space that take over what the earlier one says of parameters."""
    keys: dict[str, Any] = {"experts": dict(spec.experts), "merge": dict(spec.merge)}
    for name in parameters:
        if name == OPERATOR:
            keys |= {"operator": earlier.operator, "operator_per": earlier.operator_per}
        elif name == SUBSET:
            keys["subset"] = earlier.subset
        elif name in earlier.expert_ranges:
            keys["experts"][name] = earlier.expert_ranges[name]
        else:
            keys["merge"][name] = earlier.merge[name]
    if WEIGHT in parameters:
        keys["weights"] = earlier.weights
    return keys


def _section_of(wanted: Section, sections: Sequence[Section]) -> Section:
    """The section, or knot, of the same tensors; else that of the first of them."""
    for section in sections:
        if section.component == wanted.component and section.labels == wanted.labels:
            return section
    return next(section for section in sections if section.selects(wanted.sample))


def _value(
    named: NamedGene, section: Section, genes: ParameterGenes, genome: Genome
) -> GeneValue:
    """What the genome says of the gene's parameter in a section of the earlier space."""
    said = genes.at(genome, section)
    if named.setting is not None:
        return said.values[named.setting.key]
    return said.operator if named.parameter == OPERATOR else int(named.expert in said.on)
