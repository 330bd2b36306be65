"""The parameter space: whatever the genome, a valid recipe, the same each time."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from landscapes import parameter_space, source_models
from spaces.drawn_spaces import drawn_spaces, points, space_of, tensor_names

from evomerge.merging.recipe_check import validate_recipe
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import ParameterSpaceSpec

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
        whole = [(rule.parameters, False)]
        for parameters, of_models in whole + [(own, True) for own in rule.models.values()]:
            for name, value in parameters.items():
                assert math.isfinite(value)
                low, high = drawn.bounds(name, of_models=of_models)
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


def test_a_parameter_of_the_merge_has_a_gene_of_its_own_beside_the_experts():
    density = {"low": 0.1, "high": 0.2, "per": []}
    spec = {"operator": ["ties", "pcb"], "merge": {"density": [0.6, 0.9]}}
    space = space_of(
        ParameterSpaceSpec.model_validate(spec | {"experts": {"density": density}}),
        source_models(),
    )
    assert [gene.name for gene in space.genes] == ["operator", "density", "merge.density"]
    (rule,) = space.decode({"operator": "pcb", "density": 0.1, "merge.density": 0.7}).rules
    assert rule.parameters == {"density": 0.7}


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


@pytest.mark.parametrize(
    ("gene", "first", "last"),
    [
        ({"choice": [0.1, 0.9]}, 0.1, 0.9),
        ({"choice": [True, False]}, True, False),
        ({"low": 1, "high": 4, "int": True}, 1, 4),
    ],
    ids=["floats", "flags", "ints"],
)
def test_choices_and_ints_are_taken_from_the_nearer_knot(gene, first, last):
    space = parameter_space(
        source_models(layers=5),
        layer_groups=2,
        interpolate=True,
        merge={"lambda": gene | {"per": ["layers"]}},
    )
    genome = {g.name: g.from_unit(0.3) for g in space.genes}
    genome |= {"lambda at layer 0": first, "lambda at layer 4": last}
    recipe = space.decode(genome)
    values = [recipe.rule_for(f"layers.{k}.mlp").parameters["lambda"] for k in range(5)]
    assert values == [first, first, last, last, last]


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
