"""Parameter spaces for properties: any valid one, over real operators, with a genome."""

import math
from dataclasses import dataclass, replace

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
        if of_models and parameter == "weight" and self.spec.weights == "simplex":
            return 0.0, 1.0
        bounds = (self.spec.experts if of_models else self.spec.merge)[parameter]
        ends = [end for own in (bounds, *bounds.per_expert.values()) for end in own.ends]
        return min(ends), max(ends)

    @property
    def knots_are_on_layers(self) -> bool:
        knots = len(self.spec.groups(self.models.layers))
        between = self.spec.interpolate and knots > 1
        return not between or (self.models.layers - 1) % (knots - 1) == 0

    @property
    def knots_tell_all(self) -> bool:
        """Whether no value of a knot is used between layers only, where none can be read."""
        subset = self.spec.subset.per if self.spec.subset else ()
        chosen = "layers" in (*self.spec.operator_per, *subset)
        return self.knots_are_on_layers and not (self.spec.interpolate and chosen)

    @property
    def weights_come_back(self) -> bool:
        """Whether the weights of a simplex can be read off a recipe to the last digit."""
        if self.spec.weights == "free":
            return True
        bounds = self.spec.expert_ranges["weight"]
        plain = bounds.low == 0 and not (bounds.int or bounds.per_expert)
        whole = self.spec.subset is None or bounds.per is None
        return plain and whole and not self.spec.interpolate

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
def ranges_by_expert(draw, name: str, experts: list[str]):
    """One range for all, or single experts with ranges of their own."""
    written = draw(ranges(name, of_expert=True))
    if draw(st.integers(0, 3)):
        return written
    named = draw(st.lists(st.sampled_from(experts), unique=True, min_size=1))
    others = written if isinstance(written, dict) else {"value": written}
    own = {expert: draw(ranges(name, of_expert=True)) for expert in named}
    for each in own.values():
        if isinstance(each, dict):
            each.pop("per", None)
    return (others if len(named) < len(experts) or draw(st.booleans()) else {}) | {
        "per_expert": own
    }


@st.composite
def shares_by_expert(draw, experts: list[str]):
    """A range of weights of which only the proportions count."""
    written = draw(
        st.sampled_from(
            [
                {"low": 0, "high": 1},
                {"low": 0, "high": 0.3},
                {"low": 0.1, "high": 2},
                {"low": 0, "high": 5, "int": True},
                {"low": 0.01, "high": 1, "log": True},
                {"choice": [0.0, 0.5, 1.0]},
                {"value": 1.0},
                {"low": 0, "high": 1, "per_expert": {experts[0]: 0.25}},
            ]
        )
    )
    if "value" not in written and draw(st.booleans()):
        written |= {"per": draw(st.sampled_from([["expert"], ["expert", "layers"]]))}
    return written


@st.composite
def cuts(draw, layers: int) -> dict[str, object]:
    """The keys that cut the model into sections."""
    size = {"layers_per_group": draw(st.integers(1, 8))}
    keys: dict[str, object] = {
        **draw(st.sampled_from([{"layer_groups": draw(st.integers(1, layers))}, size])),
        "interpolate": draw(st.booleans()),
        "components": draw(st.lists(st.sampled_from(COMPONENTS), unique=True)),
    }
    if not draw(st.integers(0, 3)):
        parts = keys["components"] or draw(st.permutations(COMPONENTS))
        keys["only"] = draw(st.lists(st.sampled_from(parts), unique=True, min_size=1))
    return keys


@st.composite
def choices(draw, operators: list[str], models: SourceModels) -> dict[str, object]:
    """The keys by which operators, experts and weights are chosen."""
    keys: dict[str, object] = {"operator": operators}
    axes = st.lists(st.sampled_from(["layers", "component"]), unique=True)
    if len(operators) > 1:
        keys["operator_per"] = draw(axes)
    if not draw(st.integers(0, 3)):
        keys["subset"] = draw(st.sampled_from([True, {"per": ["expert", *draw(axes)]}]))
    weighted = any("weight" in SIGNATURES[name].model_parameters for name in operators)
    if weighted and not draw(st.integers(0, 3)):
        keys["weights"] = "simplex"
    return keys


@st.composite
def drawn_models(draw, operators: list[str]) -> SourceModels | None:
    """Models that all the operators can merge; None where there are none."""
    most = min(SIGNATURES[name].max_models or 3 for name in operators)
    least = max(_least(SIGNATURES[name]) for name in operators)
    if least > most:
        return None
    experts = draw(st.integers(least, most))
    models = source_models(experts=experts, layers=draw(st.integers(1, 7)))
    can_do_without = all(
        not SIGNATURES[name].needs_base and SIGNATURES[name].min_models <= experts
        for name in operators
    )
    return replace(models, base=None) if can_do_without and draw(st.booleans()) else models


@st.composite
def drawn_spaces(draw) -> Drawn:
    operators = draw(st.lists(st.sampled_from(sorted(SIGNATURES)), min_size=1, unique=True))
    models = draw(drawn_models(operators))
    if models is None:
        operators = operators[:1]
        models = draw(drawn_models(operators))
    per_model = sorted({p for name in operators for p in SIGNATURES[name].model_parameters})
    whole = sorted({p for name in operators for p in SIGNATURES[name].merge_parameters})
    given_ = [p for p in per_model + whole if draw(st.booleans())]
    names = [expert.name for expert in models.experts]
    keys = draw(choices(operators, models)) | draw(cuts(models.layers))
    if "only" in keys and draw(st.booleans()):
        keys["rest_from"] = draw(st.sampled_from([s.name for s in models.sources]))
    experts = {p: draw(ranges_by_expert(p, names)) for p in given_ if p in per_model}
    if keys.get("weights") == "simplex":
        experts.pop("weight", None)
        if draw(st.booleans()):
            experts["weight"] = draw(shares_by_expert(names))
    spec = ParameterSpaceSpec.model_validate(
        keys
        | {
            "experts": experts,
            "merge": {p: draw(ranges(p, of_expert=False)) for p in given_ if p in whole},
        }
    )
    space = space_of(spec, models)
    return Drawn(spec, models, space, genome_from_unit(space.genes, draw(points(space))))


def points(space: ParameterSpace) -> st.SearchStrategy[list[float]]:
    """Points in, on and outside of the unit cube, NaN and infinities among them."""
    count = len(space.genes)
    return st.lists(st.floats(0, 1) | st.floats(), min_size=count, max_size=count)
