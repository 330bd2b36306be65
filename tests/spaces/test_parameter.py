"""The parameter space: whatever the genome, a valid recipe; and back."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from landscapes import parameter_space, source_models
from pydantic import ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.recipe_check import validate_recipe
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import (
    ParameterSpace,
    ParameterSpaceSpec,
    check_parameter_space,
)
from evomerge.spaces.space import OperatorSignature, SourceModels

PRESETS = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
COMPONENTS = ("self_attn", "mlp", "norm")
SIGNATURES = {
    name: OperatorSignature(
        name,
        tuple(p.name for p in operator.parameters if p.per_model),
        tuple(p.name for p in operator.parameters if not p.per_model),
        operator.needs_base,
        operator.max_models,
        {p.name: p.problem for p in operator.parameters},
    )
    for name, operator in OPERATORS.items()
}
PARAMETERS = {p.name: p for operator in OPERATORS.values() for p in operator.parameters}


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

    def bounds(self, parameter: str) -> tuple[float, float]:
        ends = {**self.spec.experts, **self.spec.merge}[parameter].ends
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
            rule.operator == "linear"
            and {p.get("weight") for p in rule.models.values()} == {1.0}
            for rule in self.recipe.rules
        )


def space_of(spec: ParameterSpaceSpec, models: SourceModels) -> ParameterSpace:
    return ParameterSpace(spec, models, SIGNATURES)


def tensor_names(layers: int) -> list[str]:
    parts = ("self_attn.q_proj", "mlp.up_proj", "input_layernorm", "rotary")
    inside = [f"model.layers.{k}.{part}.weight" for k in range(layers) for part in parts]
    return ["model.embed_tokens.weight", *inside, "model.norm.weight", "lm_head.weight"]


# ---- strategies: valid specifications, models and points


@st.composite
def ranges(draw, name: str, *, of_expert: bool):
    parameter = PARAMETERS[name]
    if parameter.kind == "flag":
        return draw(
            st.sampled_from([True, False, {"choice": [True, False]}, {"choice": [True]}])
        )
    low, high = max(parameter.low, -2.0), min(parameter.high, 2.0)
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


@st.composite
def drawn_spaces(draw) -> Drawn:
    operators = draw(st.lists(st.sampled_from(sorted(SIGNATURES)), min_size=1, unique=True))
    most = min(SIGNATURES[name].max_models or 3 for name in operators)
    models = source_models(experts=draw(st.integers(1, most)), layers=draw(st.integers(1, 7)))
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


# ---- decode


@given(drawn_spaces())
def test_every_genome_is_a_recipe_that_its_operator_accepts(drawn):
    assert validate_recipe(drawn.recipe) == []


@given(drawn_spaces())
def test_every_tensor_has_a_rule_and_every_rule_a_tensor(drawn):
    recipe = drawn.recipe
    used = [recipe.rule_for(name) for name in tensor_names(drawn.models.layers)]
    assert set(map(id, used)) == set(map(id, recipe.rules))


@given(drawn_spaces())
def test_parameters_are_finite_and_within_their_ranges(drawn):
    assume(not drawn.weights_may_be_replaced)
    for rule in drawn.recipe.rules:
        for parameters in (rule.parameters, *rule.models.values()):
            for name, value in parameters.items():
                assert math.isfinite(value)
                low, high = drawn.bounds(name)
                assert low <= value <= high


@given(drawn_spaces())
def test_equal_genomes_give_equal_recipes(drawn):
    backwards = dict(reversed(drawn.genome.items()))
    unsigned = {n: abs(v) if v == 0 and type(v) is float else v for n, v in backwards.items()}
    assert unsigned == drawn.genome
    assert drawn.space.decode(unsigned).digest == drawn.recipe.digest


@given(drawn_spaces())
def test_gene_names_are_unique(drawn):
    names = [gene.name for gene in drawn.space.genes]
    assert len(set(names)) == len(names)


@given(st.data(), st.integers(1, 4), st.booleans())
def test_a_gene_of_one_component_leaves_the_others_as_they_are(data, groups, interpolate):
    space = parameter_space(
        layer_groups=groups, interpolate=interpolate, components=["mlp", "self_attn"]
    )
    genome = genome_from_unit(space.genes, data.draw(points(space)))
    gene = data.draw(st.sampled_from([g for g in space.genes if g.name.endswith(" mlp")]))
    changed = genome | {gene.name: gene.from_unit(data.draw(st.floats(0, 1)))}
    before, after = space.decode(genome), space.decode(changed)
    for name in tensor_names(4):
        if "mlp" not in name:
            assert before.rule_for(name).models == after.rule_for(name).models


def test_operators_that_share_a_space_leave_out_what_they_do_not_have():
    space = parameter_space(
        operator=["task_arithmetic", "ties"], experts={"weight": [0, 1], "density": [0, 1]}
    )
    genome = {gene.name: gene.from_unit(0.5) for gene in space.genes}
    (plain,) = space.decode(genome | {"operator": "task_arithmetic"}).rules
    (trimmed,) = space.decode(genome | {"operator": "ties"}).rules
    assert plain.models["e1"] == {"weight": 0.5}
    assert trimmed.models["e1"] == {"weight": 0.5, "density": 0.5}


def test_sections_that_turn_out_alike_become_one_rule():
    space = parameter_space(layer_groups=2, components=["mlp"])
    flat = parameter_space()
    middle = {gene.name: gene.from_unit(0.5) for gene in space.genes}
    flat_middle = {gene.name: gene.from_unit(0.5) for gene in flat.genes}
    assert space.decode(middle).digest == flat.decode(flat_middle).digest
    other = middle | {"e1.weight rest": 0.25}
    assert len(space.decode(other).rules) == 3


# ---- names of genes


def gene_names(**spec: object) -> list[str]:
    written = {"experts": {}, "merge": {}} | spec
    return [gene.name for gene in parameter_space(source_models(experts=2), **written).genes]


@pytest.mark.parametrize(
    ("per", "names"),
    [
        (
            ["expert", "layers", "component"],
            [
                "e1.weight layers 0-1 mlp",
                "e2.weight layers 0-1 mlp",
                "e1.weight layers 2-3 mlp",
                "e2.weight layers 2-3 mlp",
                "e1.weight rest",
                "e2.weight rest",
            ],
        ),
        (["layers"], ["weight layers 0-1", "weight layers 2-3", "weight rest"]),
        (["component"], ["weight mlp", "weight rest"]),
        (["expert"], ["e1.weight", "e2.weight"]),
        ([], ["weight"]),
    ],
    ids=str,
)
def test_a_gene_is_repeated_over_its_axes_only(per, names):
    experts = {"weight": {"low": 0, "high": 1, "per": per}}
    assert gene_names(layer_groups=2, components=["mlp"], experts=experts) == names


def test_an_axis_along_which_the_model_is_not_cut_repeats_nothing():
    merge = {"lambda": {"low": 0, "high": 1, "per": ["component"]}}
    assert gene_names(layer_groups=2, merge=merge) == ["lambda"]
    merge = {"lambda": {"low": 0, "high": 1, "per": ["layers"]}}
    assert gene_names(components=["mlp"], merge=merge) == ["lambda"]


def test_knots_are_named_by_their_place():
    merge = {"lambda": {"low": 0, "high": 1, "per": ["layers"]}}
    names = gene_names(layer_groups=3, interpolate=True, merge=merge)
    assert names == [
        "lambda at layer 0",
        "lambda at layer 1.5",
        "lambda at layer 3",
        "lambda rest",
    ]


# ---- interpolation


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(2, 12))
def test_values_between_knots_lie_on_the_line_between_them(knots, layers):
    assume(len(knots) <= layers)
    space = parameter_space(
        source_models(experts=2, layers=layers),
        operator="slerp",
        layer_groups=len(knots),
        interpolate=True,
        experts={},
        merge={"t": {"low": 0, "high": 1, "per": ["layers"]}},
    )
    genome = genome_from_unit(space.genes, [*knots, 0.5])
    recipe = space.decode(genome)
    values = [genome[gene.name] for gene in space.genes[:-1]]
    for layer in range(layers):
        at = layer * (len(knots) - 1) / (layers - 1)
        before = min(int(at), len(knots) - 2)
        line = values[before] + (at - before) * (values[before + 1] - values[before])
        t = recipe.rule_for(f"model.layers.{layer}.mlp.weight").parameters["t"]
        assert t == pytest.approx(line, abs=2e-6)
    assert recipe.rule_for("lm_head.weight").parameters["t"] == genome["t rest"]


def test_what_is_no_float_is_taken_from_the_nearer_knot():
    space = parameter_space(
        source_models(layers=5),
        layer_groups=2,
        interpolate=True,
        merge={"normalize": {"choice": [True, False], "per": ["layers"]}},
    )
    genome = {gene.name: gene.from_unit(0.3) for gene in space.genes}
    genome |= {"normalize at layer 0": True, "normalize at layer 4": False}
    recipe = space.decode(genome)
    flags = [recipe.rule_for(f"l.{k}.mlp").parameters["normalize"] for k in range(5)]
    assert flags == [True, True, False, False, False]


# ---- weights that must not sum to zero


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.5, -0.5), (0.0004, 0.0), (1.0, -0.9995)])
def test_normalized_weights_that_cancel_are_replaced_by_equal_ones(weights):
    space = parameter_space(
        source_models(experts=2), operator="linear", experts={"weight": [-1, 1]}, merge={}
    )
    (rule,) = space.decode(dict(zip(("e1.weight", "e2.weight"), weights, strict=True))).rules
    assert rule.models == {"e1": {"weight": 1.0}, "e2": {"weight": 1.0}}


@pytest.mark.parametrize(
    "spec",
    [
        {"operator": "linear", "merge": {"normalize": False}},
        {"operator": "task_arithmetic", "merge": {"normalize": True}},
    ],
    ids=str,
)
def test_weights_of_zero_stay_where_nothing_is_divided_or_the_base_remains(spec):
    space = parameter_space(source_models(experts=2), experts={"weight": [0, 1]}, **spec)
    (rule,) = space.decode({"e1.weight": 0.0, "e2.weight": 0.0}).rules
    assert rule.models == {"e1": {"weight": 0.0}, "e2": {"weight": 0.0}}


def test_slerp_of_one_expert_goes_from_the_base_to_it():
    space = parameter_space(
        source_models(experts=1), operator="slerp", experts={}, merge={"t": [0, 1]}
    )
    (rule,) = space.decode({"t": 0.25}).rules
    assert list(rule.models) == ["base", "e1"]


# ---- encode


@given(drawn_spaces())
def test_a_decoded_recipe_is_encoded_to_a_genome_that_decodes_to_it(drawn):
    assume(drawn.knots_are_on_layers and not drawn.weights_may_be_replaced)
    encoded = drawn.space.encode(drawn.recipe)
    assert drawn.space.decode(encoded).digest == drawn.recipe.digest


@given(drawn_spaces())
def test_any_decoded_recipe_can_be_encoded_in_range(drawn):
    encoded = drawn.space.encode(drawn.recipe)
    assert list(encoded) == [gene.name for gene in drawn.space.genes]
    for gene in drawn.space.genes:
        assert gene.from_unit(gene.to_unit(encoded[gene.name])) == encoded[gene.name]


@given(drawn_spaces())
def test_a_baseline_is_encoded_in_range_or_not_at_all(drawn):
    for baseline in drawn.space.baselines():
        encoded = drawn.space.encode(baseline.recipe)
        if encoded is not None:
            assert validate_recipe(drawn.space.decode(encoded)) == []


RULE = Rule("task_arithmetic", {"e1": {"weight": 0.3}, "e2": {"weight": 0.6}}, {"lambda": 9.0})


def test_what_a_recipe_says_is_moved_into_range_and_what_it_leaves_out_is_sensible():
    space = parameter_space()
    genome = space.encode(source_models().recipe([RULE]))
    assert genome == {"e1.weight": 0.3, "e2.weight": 0.6, "e3.weight": 0.0, "lambda": 2.0}


def test_a_value_among_choices_becomes_the_nearest_choice():
    space = parameter_space(experts={"weight": {"choice": [0.0, 0.5, 1.0]}})
    genome = space.encode(source_models().recipe([RULE]))
    assert [genome[f"e{k}.weight"] for k in (1, 2, 3)] == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    "rules",
    [
        [Rule("ties", RULE.models)],
        [Rule("linear", RULE.models, contains="mlp"), RULE],
        [Rule("linear", {"base": {"weight": 1.0}})],
    ],
    ids=["another operator", "two operators", "another model"],
)
def test_what_the_space_cannot_express_has_no_genome(rules):
    space = parameter_space(
        source_models(experts=2), operator=["task_arithmetic", "linear"], components=["mlp"]
    )
    assert space.encode(source_models().recipe(rules)) is None


def test_slerp_the_other_way_round_has_no_genome():
    space = parameter_space(
        source_models(experts=2), operator="slerp", experts={}, merge={"t": [0, 1]}
    )
    there, back = ({"e1": {}, "e2": {}}, {"e2": {}, "e1": {}})
    assert space.encode(source_models().recipe([Rule("slerp", there, {"t": 0.2})])) == {
        "t": 0.2
    }
    assert space.encode(source_models().recipe([Rule("slerp", back, {"t": 0.2})])) is None


# ---- baselines


def test_the_baselines_are_every_source_the_average_and_merges_with_a_base():
    named = [(b.kind, b.name) for b in parameter_space().baselines()]
    assert named == [
        ("source", "base"),
        ("source", "e1"),
        ("source", "e2"),
        ("source", "e3"),
        ("baseline", "uniform average"),
        ("baseline", "task arithmetic"),
        ("baseline", "ties"),
    ]


def test_without_a_base_there_are_no_task_vectors_to_merge():
    models = replace(source_models(experts=2), base=None)
    space = parameter_space(models, operator="linear", merge={})
    assert [b.name for b in space.baselines()] == ["e1", "e2", "uniform average"]


@pytest.mark.parametrize("base", [True, False])
def test_every_baseline_is_valid_and_another_model(base):
    models = source_models(experts=3) if base else replace(source_models(), base=None)
    baselines = parameter_space(models, operator="linear", merge={}).baselines()
    assert all(validate_recipe(b.recipe) == [] for b in baselines)
    assert len({b.recipe.digest for b in baselines}) == len(baselines)


# ---- presets


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("experts", [2, 3])
@settings(max_examples=10)
@given(data=st.data())
def test_a_preset_gives_recipes_that_its_operators_accept(path, experts, data):
    spec = ParameterSpaceSpec.model_validate(yaml.safe_load(path.read_text()))
    models = source_models(experts=experts, layers=6)
    if check_parameter_space(spec, models, SIGNATURES):
        assert (path.stem, experts) == ("slerp", 3)
        return
    space = space_of(spec, models)
    genome = genome_from_unit(space.genes, data.draw(points(space)))
    assert validate_recipe(space.decode(genome)) == []


# ---- what is refused


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"operator": []}, "at least 1"),
        ({"operator": ["ties", "ties"]}, "'operator' names one twice"),
        ({"layer_groups": 0}, "greater than or equal to 1"),
        ({"components": ["mlp", "mlp"]}, "never be reached"),
        ({"components": ["mlp", "mlp.up_proj"]}, "name the longer one first"),
        ({"components": [""]}, "cannot be components"),
        ({"components": ["rest"]}, "cannot be components"),
        ({"expert": {}}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_wrong_specification_is_refused(written, reason):
    with pytest.raises(ValidationError, match=reason):
        ParameterSpaceSpec.model_validate({"operator": "linear"} | written)


@pytest.mark.parametrize(
    ("written", "experts", "problem"),
    [
        ({"operator": "tise"}, 2, "unknown operator 'tise'; did you mean 'ties'?"),
        (
            {"experts": {"wieght": 1}},
            2,
            "space.experts: unknown parameter of ties 'wieght'; did you mean 'weight'?",
        ),
        ({"experts": {"lambda": 1}}, 2, "space.experts.lambda: belongs under space.merge."),
        ({"merge": {"density": 1}}, 2, "space.merge.density: belongs under space.experts."),
        (
            {"merge": {"lambda": {"low": 0, "high": 1, "per": ["expert"]}}},
            2,
            "space.merge.lambda: one of the merge cannot vary per expert.",
        ),
        ({"experts": {"density": [0.5, 2]}}, 2, "ties's density must be a finite number"),
        ({"merge": {"normalize": [0, 1]}}, 2, "ties's normalize must be true or false"),
        ({"experts": {"weight": {"choice": [1, "x"]}}}, 2, "weight must be a number, got 'x'"),
        ({"layer_groups": 5}, 2, "5 groups of 4 layers; at most 4"),
        ({"operator": "slerp"}, 3, "slerp merges 2 models, the experiment names 3 experts"),
    ],
    ids=str,
)
def test_a_space_that_does_not_suit_operator_or_models_is_refused(written, experts, problem):
    spec = ParameterSpaceSpec.model_validate({"operator": "ties"} | written)
    with pytest.raises(ConfigError) as caught:
        space_of(spec, source_models(experts=experts))
    (found,) = caught.value.problems
    assert problem in found


def test_task_vectors_need_a_base_and_a_pair_needs_two():
    models = replace(source_models(experts=1), base=None)
    for operator, problem in (("ties", "takes differences to a base"), ("slerp", "one more")):
        (found,) = check_parameter_space(
            ParameterSpaceSpec(operator=(operator,)), models, SIGNATURES
        )
        assert problem in found


def test_layer_groups_need_layers():
    spec = ParameterSpaceSpec(operator=("linear",), layer_groups=2)
    with pytest.raises(ConfigError, match="no numbered layers"):
        space_of(spec, source_models(layers=0))


def test_every_problem_of_a_space_is_named_at_once():
    spec = ParameterSpaceSpec.model_validate(
        {"operator": ["tise", "ties"], "layer_groups": 9, "experts": {"wieght": 1}}
    )
    models = replace(source_models(), base=None)
    assert len(check_parameter_space(spec, models, SIGNATURES)) == 4
