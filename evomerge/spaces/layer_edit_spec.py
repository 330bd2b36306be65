"""A layer_edit space as written in YAML, and why it may not suit the models."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evomerge.core.near_names import unknown
from evomerge.spaces.layer_edit_removal import Amount, Removal, number_of_layers
from evomerge.spaces.ranges import ParameterRange, Range
from evomerge.spaces.space import OperatorSignature, SourceModels

NONE = "none"
"""In place of an operator: layers are taken whole."""

MEAN = "mean"
"""As ``rest``: the mean of the experts."""

ANY = "any"
"""As ``rest``: a gene chooses between the mean and every model that layers are taken from."""


def _as_pair(given: object) -> object:
    return given if isinstance(given, list | tuple) else (given, given)


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


class LayerEditSpec(BaseModel):
    """A layer_edit space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["layer_edit"] = "layer_edit"
    remove: Annotated[tuple[Amount, Amount], BeforeValidator(_as_pair)] = (0, 0)
    """How many layers are left out: a number, a share of the layers such as ``25%`` (rounded
    up), or ``[fewest, most]``, between which a gene decides."""

    keep_ends: bool = False
    """Whether the first and last layer always stay."""

    sources: Annotated[tuple[str, ...] | None, BeforeValidator(_as_tuple)] = None
    """The models that layers are taken from; none means the base, if there is one, and all
    experts."""

    operator: str = "linear"
    """By what two or more experts are merged in a layer; ``none``: layers are taken whole."""

    layers_per_group: int = Field(default=1, ge=1)
    """So many neighbouring layers are taken from the same models; the last group may have
    fewer. Layers are left out one by one all the same."""

    experts: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of the operator's parameters that each expert has (weight, density …): a gene an
    expert, or more with ``per: [expert, layers]``."""

    merge: Mapping[str, ParameterRange] = Field(default_factory=dict)
    """Ranges of the operator's parameters of the merge as a whole (lambda …): one gene, or with
    ``per: [layers]`` one a layer group."""

    rest: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field((MEAN,), min_length=1)
    """What gives embeddings, final norm and head: ``mean`` of the experts, or a source; of
    several, or ``any``, a gene chooses."""

    warm_start: int = Field(default=24, ge=0)
    """How many of the well-known designs are proposed first, at most."""

    def removal(self, layers: int) -> Removal:
        """Which layers of models of this depth can be left out."""
        low, high = (number_of_layers(amount, layers) for amount in self.remove)
        return Removal(layers, low, high, self.keep_ends)

    def taken_from(self, models: SourceModels) -> list[str]:
        """The models that layers are taken from, in the order of the models."""
        names = [source.name for source in models.sources]
        return [name for name in names if self.sources is None or name in self.sources]

    def rests(self, models: SourceModels) -> tuple[str, ...]:
        """What may give the tensors outside of layers."""
        return (MEAN, *self.taken_from(models)) if self.rest == (ANY,) else self.rest

    def selectable(self, models: SourceModels) -> tuple[str, ...]:
        """The experts that layers are taken from."""
        base = models.base.name if models.base else None
        return tuple(name for name in self.taken_from(models) if name != base)


def layer_edit_problems(
    spec: LayerEditSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> list[str]:
    """Every reason why the space cannot be searched over these models."""
    return [
        *_of_removal(spec, models.layers),
        *_of_sources(spec, models),
        *_of_rest(spec, models),
        *_of_operator(spec, models, operators),
        *_of_ranges(spec, models, operators),
    ]


def _of_removal(spec: LayerEditSpec, layers: int) -> Iterator[str]:
    if not layers:
        yield "space.kind: layer_edit needs numbered layers, the models have none."
        return
    removal = spec.removal(layers)
    most = min(len(removal.removable), layers - 1)
    if removal.low > removal.high:
        low, high = spec.remove
        yield (
            f"space.remove: the fewest, {low}, are more than the most, {high}, of {layers} "
            "layers; expected [fewest, most]."
        )
    elif removal.high > most:
        ends = ", of which the first and last are kept" if spec.keep_ends else ""
        share = isinstance(spec.remove[1], str)
        found = f"{spec.remove[1]}, which is {removal.high}" if share else f"{removal.high}"
        yield (
            f"space.remove: at most {most} can be left out of {layers} layers{ends}; found "
            f"{found}."
        )


def _of_sources(spec: LayerEditSpec, models: SourceModels) -> Iterator[str]:
    names = [source.name for source in models.sources]
    given = spec.sources
    if given is not None:
        for name in given:
            if name not in names:
                yield f"space.sources: {unknown('model', name, names)}."
        if len(set(given)) < len(given):
            yield f"space.sources: names one twice: {[*given]}."
    if given == () or not names:
        yield "space.sources: expected at least one model to take layers from, found none."


def _of_rest(spec: LayerEditSpec, models: SourceModels) -> Iterator[str]:
    names = [source.name for source in models.sources]
    for word, means in ((MEAN, "the mean of the experts"), (ANY, "any of the models")):
        if word in names and word in spec.rest:
            yield (
                f"space.rest: {word!r} is {means} and the name of a model; call the model "
                "otherwise."
            )
    rests = spec.rests(models)
    for name in rests:
        if name not in (MEAN, *names):
            yield f"space.rest: {unknown('model', name, [MEAN, ANY, *names])}."
    if len(set(rests)) < len(rests):
        yield f"space.rest: names one twice: {[*rests]}."


def _of_operator(
    spec: LayerEditSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> Iterator[str]:
    if spec.operator == NONE:
        return
    operator, many = operators.get(spec.operator), len(spec.selectable(models))
    if operator is None:
        yield f"space.operator: {unknown('operator', spec.operator, [NONE, *operators])}."
    elif many > 1:
        if operator.needs_base and models.base is None:
            yield (
                f"space.operator: {operator.name} takes differences to a base model; name it "
                "under models.base."
            )
        if operator.max_models is not None and many > operator.max_models:
            yield (
                f"space.operator: {operator.name} merges {operator.max_models} models, and "
                f"layers are taken from {many} experts, any of which may be merged; use "
                "linear, task_arithmetic or ties, or name fewer under space.sources."
            )
        if operator.min_models > 2:
            yield (
                f"space.operator: {operator.name} merges {operator.min_models} models or more, "
                "here any two may be merged; use linear, task_arithmetic or ties."
            )


def _of_ranges(
    spec: LayerEditSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> Iterator[str]:
    given = [*spec.experts, *spec.merge]
    if not given:
        return
    where = "space.experts" if spec.experts else "space.merge"
    if spec.operator == NONE:
        yield f"{where}: layers are taken whole, so {given} would not count; leave them out."
        return
    if len(spec.selectable(models)) < 2:
        yield (
            f"{where}: {given} are of merges of two experts or more, and layers are taken "
            f"from {len(spec.selectable(models))}; leave them out, or name more experts."
        )
    if spec.operator in operators:
        known = operators[spec.operator]
        for section, ranges, other in (
            ("experts", spec.experts, known.merge_parameters),
            ("merge", spec.merge, known.model_parameters),
        ):
            for name, bounds in ranges.items():
                if name in other:
                    right = "merge" if section == "experts" else "experts"
                    yield f"space.{section}.{name}: belongs under space.{right}."
                elif section == "experts":
                    yield from _of_expert_range(name, bounds, known, spec.selectable(models))
                else:
                    yield from _of_merge_range(name, bounds, known)


def _of_expert_range(
    name: str, bounds: Range, operator: OperatorSignature, experts: Sequence[str]
) -> Iterator[str]:
    if name not in operator.model_parameters:
        kind = f"parameter of {operator.name}"
        yield f"space.experts: {unknown(kind, name, operator.model_parameters)}."
        return
    yield from _of_values(f"space.experts.{name}", bounds, operator, ["expert", "layers"])
    for expert in bounds.per_expert:
        if expert not in experts:
            yield f"space.experts.{name}.per_expert: {unknown('expert', expert, experts)}."


def _of_merge_range(name: str, bounds: Range, operator: OperatorSignature) -> Iterator[str]:
    if name not in operator.merge_parameters:
        kind = f"parameter of {operator.name}"
        yield f"space.merge: {unknown(kind, name, operator.merge_parameters)}."
        return
    yield from _of_values(f"space.merge.{name}", bounds, operator, ["layers"])
    if bounds.per_expert:
        yield f"space.merge.{name}: one of the merge cannot vary per expert."


def _of_values(
    where: str, bounds: Range, operator: OperatorSignature, axes: Sequence[str]
) -> Iterator[str]:
    for axis in bounds.per or ():
        if axis not in axes:
            yield f"{where}: 'per' takes {' and '.join(axes)} here, found {axis!r}."
    problem = operator.value_problems.get(operator_parameter := where.rpartition(".")[2])
    ends = [end for own in (bounds, *bounds.per_expert.values()) for end in own.ends]
    reasons = [reason for end in ends if problem and (reason := problem(end))]
    if reasons:
        yield f"{where}: {operator.name}'s {operator_parameter} {reasons[0]}."
