"""Parameter spaces for properties: any valid one, over real operators, with a genome."""

import math
from dataclasses import dataclass

from hypothesis import strategies as st
from landscapes import source_models

from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe
from evomerge.merging.operators.registry import OPERATORS
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import ParameterSpace, ParameterSpaceSpec
from evomerge.spaces.space import OperatorSignature, SourceModels

COMPONENTS = ("self_attn", "mlp", "norm")
SIGNATURES = {
    name: OperatorSignature(
        name,
        tuple(p.name for p in operator.parameters if p.per_model),
        tuple(p.name for p in operator.parameters if not p.per_model),
        operator.needs_base,
        operator.max_models,
        {p.name: p.problem for p in operator.parameters},
        operator.takes_base,
        operator.min_models,
    )
    for name, operator in OPERATORS.items()
    if all(p.kind != "numbers" for p in operator.parameters)  # lists: no gene's value
}
PARAMETERS = {
    name: [p for operator in OPERATORS.values() for p in operator.parameters if p.name == name]
    for name in {p.name for operator in OPERATORS.values() for p in operator.parameters}
}


@dataclass(frozen=True)
class Drawn:
    """A space as written, and one of its genomes."""

    spec: ParameterSpaceSpec
    models: SourceModels
    space: ParameterSpace
    genome: Genome

    @property
    def recipe(self) -> Recipe:
        return self.space.decode(self.genome)

    def bounds(self, parameter: str, *, of_models: bool) -> tuple[float, float]:
        ranges = self.spec.experts if of_models else self.spec.merge
        ends = ranges[parameter].ends
        return min(ends), max(ends)

    @property
    def knots_are_on_layers(self) -> bool:
        knots = self.spec.layer_groups
        between = self.spec.interpolate and knots > 1
        return not between or (self.models.layers - 1) % (knots - 1) == 0

    @property
    def weights_may_be_replaced(self) -> bool:
        """Whether a rule has the weights that stand for those that cancel, also by chance."""
        return any(
            rule.operator in ("linear", "multislerp")
            and {p.get("weight") for p in rule.models.values()} == {1.0}
            for rule in self.recipe.rules
        )


def space_of(spec: ParameterSpaceSpec, models: SourceModels) -> ParameterSpace:
    return ParameterSpace(spec, models, SIGNATURES)


def tensor_names(layers: int) -> list[str]:
    parts = ("self_attn.q_proj", "mlp.up_proj", "input_layernorm", "rotary")
    inside = [f"model.layers.{k}.{part}.weight" for k in range(layers) for part in parts]
    return ["model.embed_tokens.weight", *inside, "model.norm.weight", "lm_head.weight"]


@st.composite
def ranges(draw, name: str, *, of_expert: bool):
    parameters = PARAMETERS[name]
    if parameters[0].kind == "flag":
        return draw(
            st.sampled_from([True, False, {"choice": [True, False]}, {"choice": [True]}])
        )
    low = max(-2.0, *(parameter.low for parameter in parameters))
    high = min(2.0, *(parameter.high for parameter in parameters))
    number = st.floats(low, high, allow_nan=False)
    a, b = sorted([draw(number), draw(number)])
    positive = sorted([max(a, 1e-3), max(b, 1e-3)])
    written = draw(
        st.sampled_from(
            [
                a,
                {"low": a, "high": b},
                {"low": positive[0], "high": positive[1], "log": True},
                {"low": math.ceil(low), "high": math.floor(high), "int": True},
                {"choice": sorted({a, b})},
            ]
        )
    )
    axes = ["layers", "component"] + ["expert"] * of_expert
    if isinstance(written, dict) and draw(st.booleans()):
        written["per"] = draw(st.lists(st.sampled_from(axes), unique=True))
    return written


def _least(operator: OperatorSignature) -> int:
    """Fewest experts; a pair may have the base for its first model."""
    pair = operator.max_models == 2 and not operator.takes_base
    return 1 if pair else operator.min_models


@st.composite
def drawn_spaces(draw) -> Drawn:
    operators = draw(st.lists(st.sampled_from(sorted(SIGNATURES)), min_size=1, unique=True))
    most = min(SIGNATURES[name].max_models or 3 for name in operators)
    least = max(_least(SIGNATURES[name]) for name in operators)
    if least > most:
        operators, most = operators[:1], SIGNATURES[operators[0]].max_models or 3
        least = _least(SIGNATURES[operators[0]])
    experts = draw(st.integers(least, most))
    models = source_models(experts=experts, layers=draw(st.integers(1, 7)))
    per_model = sorted({p for name in operators for p in SIGNATURES[name].model_parameters})
    whole = sorted({p for name in operators for p in SIGNATURES[name].merge_parameters})
    given_ = [p for p in per_model + whole if draw(st.booleans())]
    spec = ParameterSpaceSpec.model_validate(
        {
            "operator": operators,
            "layer_groups": draw(st.integers(1, models.layers)),
            "interpolate": draw(st.booleans()),
            "components": draw(st.lists(st.sampled_from(COMPONENTS), unique=True)),
            "experts": {p: draw(ranges(p, of_expert=True)) for p in given_ if p in per_model},
            "merge": {p: draw(ranges(p, of_expert=False)) for p in given_ if p in whole},
        }
    )
    space = space_of(spec, models)
    return Drawn(spec, models, space, genome_from_unit(space.genes, draw(points(space))))


def points(space: ParameterSpace) -> st.SearchStrategy[list[float]]:
    """Points in, on and outside of the unit cube, NaN and infinities among them."""
    count = len(space.genes)
    return st.lists(st.floats(0, 1) | st.floats(), min_size=count, max_size=count)
