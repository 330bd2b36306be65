"""A parameter space as written in YAML, as far as it can be checked without models."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evomerge.core.near_names import unknown
from evomerge.spaces.ranges import Axis, ParameterRange, Plain, Range
from evomerge.spaces.sections import REST, Layers, layer_groups, layer_groups_of

WEIGHT = "weight"
"""The parameter that ``weights`` is about."""


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


def _as_subset(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    if isinstance(given, bool):
        return {} if given else None
    return given


_Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class SubsetSpec(BaseModel):
    """Whether each expert takes part, as genes of 0 or 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per: tuple[Axis, ...] = ("expert",)
    """Over what the genes are repeated; ``expert`` is always among it."""

    @model_validator(mode="after")
    def _is_per_expert(self) -> Self:
        if "expert" not in self.per:
            raise ValueError(
                f"each expert is on or off by itself, so 'per' needs 'expert', found "
                f"{[*self.per]}; write e.g. per: [expert, layers]"
            )
        return self


class ParameterSpaceSpec(BaseModel):
    """A parameter space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["parameter"] = "parameter"
    operator: _Names = Field(min_length=1)
    """One merge operator, or several: then which one is a choice gene."""

    operator_per: tuple[Literal["layers", "component"], ...] = ()
    """Over what the gene of the operator is repeated; none: one operator for all."""

    layer_groups: int = Field(default=1, ge=1)
    """Into how many runs of neighbouring layers the model is cut."""

    layers_per_group: int | None = Field(default=None, ge=1)
    """In place of ``layer_groups``: layers of a run. The last has what is left, so it may be
    shorter; a model of no more layers than this is not cut."""

    interpolate: bool = False
    """Take the groups as knots and interpolate between them, layer by layer."""

    components: tuple[str, ...] = ()
    """Parts of tensor names with genes of their own, e.g. [self_attn, mlp]; all that no
    part matches (norms, embeddings, head) shares one further set."""

    only: _Names = ()
    """The parts of tensor names that are searched, with genes as ``components`` have, of which
    they are some where both are given. Everything else is that of one source."""

    rest_from: str | None = None
    """The source of what ``only`` leaves; by default the base, or else the first expert."""

    subset: Annotated[SubsetSpec | None, BeforeValidator(_as_subset)] = None
    """Genes that turn experts on and off: ``true``, or over what they are repeated."""

    weights: Literal["free", "simplex"] = "free"
    """``simplex``: the weights of a section's experts are divided by their sum."""

    experts: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of parameters that each expert has (weight, density …)."""

    merge: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of parameters of the merge as a whole (lambda, normalize, t …)."""

    fixed: Mapping[str, Plain] = Field(default_factory=dict)
    """Values of genes, by their names, that are not searched."""

    @model_validator(mode="after")
    def _every_gene_counts(self) -> Self:
        problems = [*_of_operators(self), *_of_sections(self), *_of_parts(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The components into which tensors are sorted, whether searched or not."""
        return self.components or self.only

    @property
    def expert_ranges(self) -> Mapping[str, Range]:
        """``experts``, with the weights that a simplex has if nothing is said of them."""
        if self.weights == "simplex" and WEIGHT not in self.experts:
            return {WEIGHT: Range(low=0.0, high=1.0), **self.experts}
        return self.experts

    def groups(self, layers: int) -> list[Layers]:
        """The layer groups, or as many ranges as there are knots."""
        if self.layers_per_group is not None:
            return layer_groups_of(layers, self.layers_per_group)
        return layer_groups(layers, self.layer_groups)


def _of_operators(spec: ParameterSpaceSpec) -> list[str]:
    problems = []
    if len(set(spec.operator)) < len(spec.operator):
        problems.append(f"'operator' names one twice: {list(spec.operator)}")
    if spec.operator_per and len(spec.operator) == 1:
        problems.append(
            f"'operator_per' repeats the choice of an operator, but {spec.operator[0]} is the "
            "only one; name several, or leave it out"
        )
    return problems


def _of_sections(spec: ParameterSpaceSpec) -> list[str]:
    problems = []
    if spec.layers_per_group is not None and spec.layer_groups > 1:
        problems.append(
            "the layers are cut by 'layer_groups' (how many groups) or by 'layers_per_group' "
            f"(layers of one), found both: {spec.layer_groups} and {spec.layers_per_group}; "
            "leave one out"
        )
    if spec.rest_from is not None and not spec.only:
        problems.append(
            f"'rest_from: {spec.rest_from}' is for what 'only' leaves, but 'only' is empty; "
            "name the parts that are searched under 'only'"
        )
    return problems


def _of_parts(spec: ParameterSpaceSpec) -> list[str]:
    key = "components" if spec.components else "only"
    problems = []
    if "" in spec.parts or REST in spec.parts:
        problems.append(f"'' and {REST!r} cannot be {key}; leave them out")
    else:
        problems += _hidden(spec.parts)
    if spec.components:
        problems += [
            f"'only' names some of the components: {unknown('one', part, spec.components)}"
            for part in spec.only
            if part not in spec.components
        ]
    return problems


def _hidden(parts: Sequence[str]) -> list[str]:
    return [
        f"component {later!r} would never be reached, since {earlier!r} before it matches the "
        "same tensors; name the longer one first"
        for number, later in enumerate(parts)
        for earlier in parts[:number]
        if earlier in later
    ]
