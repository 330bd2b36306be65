"""Why a parameter space cannot be searched over certain models, every reason at once."""

from collections.abc import Iterable, Mapping, Sequence

from evomerge.core.near_names import unknown
from evomerge.core.recipe import Value
from evomerge.spaces.genes import ChoiceGene, IntGene
from evomerge.spaces.parameter_genes import SUBSET, NamedGene, ParameterGenes
from evomerge.spaces.parameter_spec import WEIGHT, ParameterSpaceSpec
from evomerge.spaces.ranges import Range, is_number
from evomerge.spaces.space import OperatorSignature, SourceModels

_SHOWN = 5
"""Names of models in a message; of more only how many there are."""


def check_parameter_space(
    spec: ParameterSpaceSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> list[str]:
    """Every reason why the space cannot be searched over these models.

    Models of 0 layers are taken to be not known yet, so that what depends on layers is not
    judged.
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
        if bounds.per_expert or (bounds.per is not None and "expert" in bounds.per):
            problems.append(f"space.merge.{name}: one of the merge cannot vary per expert.")
    problems += _expert_problems(spec, models)
    if spec.weights == "simplex":
        problems += _simplex_problems(spec, models, known)
    names = [source.name for source in models.sources]
    if spec.rest_from is not None and spec.rest_from not in names:
        problems.append(f"space.rest_from: {unknown('model', spec.rest_from, names)}.")
    cut = spec.layer_groups > 1 or spec.layers_per_group is not None
    if spec.fixed and not problems and (models.layers or not cut):
        problems += _fixed_problems(spec, ParameterGenes(spec, models).named, known)
    return problems


def unmatched_parts(spec: ParameterSpaceSpec, tensor_names: Iterable[str]) -> list[str]:
    """Parts of tensor names that no tensor has, so that their genes would do nothing.

    Args:
        spec: The space as written.
        tensor_names: Those of one of the models.
    """
    names = [*tensor_names]
    key = "components" if spec.components else "only"
    return [
        f"space.{key}: no tensor's name contains {part!r}, so its genes would do nothing; "
        f"names are e.g. {names[len(names) // 2]}."
        for part in spec.parts
        if names and not any(part in name for name in names)
    ]


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
                    for problem in _value_problems(name, _ends(bounds), operators)
                ]
            elif name in other:
                problems.append(f"space.{section}.{name}: belongs under space.{other_section}.")
            else:
                problems.append(f"space.{section}: {unknown(kind, name, accepted)}.")
    return problems


def _ends(bounds: Range) -> list[Value]:
    """The ends of the range and of those of single experts."""
    return [end for own in (bounds, *bounds.per_expert.values()) for end in own.ends]


def _value_problems(
    name: str, values: Sequence[Value], operators: Sequence[OperatorSignature]
) -> list[str]:
    problems = []
    for operator in operators:
        if name in operator.value_problems:
            reasons = filter(None, map(operator.value_problems[name], values))
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


def _expert_problems(spec: ParameterSpaceSpec, models: SourceModels) -> list[str]:
    """Of ranges that differ from expert to expert."""
    names = [expert.name for expert in models.experts]
    problems = []
    for parameter, bounds in spec.experts.items():
        where = f"space.experts.{parameter}.per_expert"
        problems += [
            f"{where}: {unknown('expert', name, names)}."
            for name in bounds.per_expert
            if name not in names
        ]
        without = [name for name in names if name not in bounds.per_expert]
        if without and not bounds.for_others:
            problems.append(
                f"{where}: nothing is said of {_listed(without)}; name every expert, or write "
                "low and high (or a value) for the others beside per_expert."
            )
    return problems


def _simplex_problems(
    spec: ParameterSpaceSpec, models: SourceModels, operators: Sequence[OperatorSignature]
) -> list[str]:
    problems = []
    if operators and not any(WEIGHT in each.model_parameters for each in operators):
        names = " / ".join(each.name for each in operators)
        problems.append(f"space.weights: {names} has no weights to share out; leave it out.")
    where = f"space.experts.{WEIGHT}"
    bounds = spec.expert_ranges[WEIGHT]
    wrong = [end for end in _ends(bounds) if not is_number(end) or float(end) < 0]
    if wrong:
        problems.append(
            f"{where}: with 'weights: simplex' weights are shares of a whole, numbers of at "
            f"least 0, found {wrong[0]!r}; for negative weights use 'weights: free'."
        )
    axes = ("expert",) if bounds.per is None else bounds.per
    if "expert" not in axes and not bounds.per_expert and len(models.experts) > 1:
        problems.append(
            f"{where}: with 'weights: simplex' one weight for all experts, as per: {[*axes]} "
            "says, would give each the same share whatever it is; add expert to 'per'."
        )
    return problems


def _fixed_problems(
    spec: ParameterSpaceSpec,
    named: Mapping[str, NamedGene],
    operators: Sequence[OperatorSignature],
) -> list[str]:
    problems = []
    for name, value in spec.fixed.items():
        if name not in named:
            problems.append(f"space.fixed: {unknown('gene', name, named)}.")
            continue
        reason = _gene_problem(named[name], value, is_simplex=spec.weights == "simplex")
        found = [reason] if reason else []
        found = found or _value_problems(named[name].parameter, [value], operators)
        problems += [f"space.fixed.{name}: {each}." for each in found]
    return problems


def _gene_problem(named: NamedGene, value: Value, *, is_simplex: bool) -> str | None:
    """Why a gene cannot be held at a value; a number may lie outside of the gene's range."""
    gene = named.gene
    if isinstance(gene, ChoiceGene):
        return None if value in gene.options else f"one of {[*gene.options]}, found {value!r}"
    if not is_number(value) or (isinstance(gene, IntGene) and not float(value).is_integer()):
        kind = "whole number" if isinstance(gene, IntGene) else "number"
        return f"must be a {kind}, found {value!r}"
    if named.parameter == SUBSET and value not in (0, 1):
        return f"must be 0 (off) or 1 (on), found {value!r}"
    if is_simplex and named.parameter == WEIGHT and float(value) < 0:
        return f"a share of a whole is at least 0, found {value!r}"
    return None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
