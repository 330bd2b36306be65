"""Operators by section, groups of so many layers, parts left alone, experts on and off."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscapes import parameter_space, source_models
from spaces.drawn_spaces import SIGNATURES, drawn_spaces, points, space_of, tensor_names

from evomerge.core.recipe import Recipe, Rule
from evomerge.merging.recipe_check import validate_recipe
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import ParameterSpaceSpec


def middle(space, **values):
    return {gene.name: gene.from_unit(0.5) for gene in space.genes} | values


def merged(recipe: Recipe, tensor: str) -> Rule:
    return recipe.rule_for(f"model.layers.{tensor}.weight")


# ---- an operator for each layer group or component


def operators_by(per, **cut):
    return parameter_space(
        operator=["ties", "task_arithmetic"],
        operator_per=per,
        experts={"weight": {"low": 0, "high": 1, "per": ["expert"]}},
        **cut,
    )


@pytest.mark.parametrize(
    ("per", "names"),
    [
        ([], ["operator"]),
        (["layers"], ["operator layers 0-1", "operator layers 2-3", "operator rest"]),
        (["component"], ["operator mlp", "operator rest"]),
        (
            ["layers", "component"],
            ["operator layers 0-1 mlp", "operator layers 2-3 mlp", "operator rest"],
        ),
    ],
    ids=str,
)
def test_the_operators_gene_is_repeated_over_its_axes(per, names):
    space = operators_by(per, layer_groups=2, components=["mlp"])
    assert [gene.name for gene in space.genes if gene.name.startswith("operator")] == names


def test_each_layer_group_is_merged_by_its_operator():
    space = operators_by(["layers"], layer_groups=2)
    first, second = {"operator layers 0-1": "ties"}, {"operator layers 2-3": "task_arithmetic"}
    recipe = space.decode(middle(space, **first, **second, **{"operator rest": "ties"}))
    by_layer = [merged(recipe, f"{layer}.mlp").operator for layer in range(4)]
    assert by_layer == ["ties", "ties", "task_arithmetic", "task_arithmetic"]
    assert recipe.rule_for("lm_head.weight").operator == "ties"


def test_between_knots_the_nearer_ones_operator_holds():
    space = operators_by(["layers"], layer_groups=2, interpolate=True)
    ends = {"operator at layer 0": "ties", "operator at layer 4": "task_arithmetic"}
    space = parameter_space(
        source_models(layers=5),
        operator=["ties", "task_arithmetic"],
        operator_per=["layers"],
        layer_groups=2,
        interpolate=True,
    )
    recipe = space.decode(middle(space, **ends))
    by_layer = [merged(recipe, f"{layer}.mlp").operator for layer in range(5)]
    assert by_layer == ["ties", "ties", *["task_arithmetic"] * 3]


def test_weights_are_on_the_line_between_knots_of_other_operators():
    space = parameter_space(
        source_models(layers=5),
        operator=["ties", "task_arithmetic"],
        operator_per=["layers"],
        layer_groups=2,
        interpolate=True,
    )
    genome = middle(space, **{"operator at layer 0": "ties"})
    genome |= {"e1.weight at layer 0": 0.0, "e1.weight at layer 4": 1.0}
    recipe = space.decode(genome)
    weights = [merged(recipe, f"{k}.mlp").models["e1"]["weight"] for k in range(5)]
    assert weights == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_recipes_of_one_operator_are_encoded_where_each_section_may_have_its_own():
    space = operators_by(["layers"], layer_groups=2)
    rule = Rule("ties", {f"e{k}": {"weight": 0.5} for k in (1, 2, 3)}, {"lambda": 1.0})
    genome = space.encode(source_models().recipe([rule]))
    assert {genome[name] for name in genome if name.startswith("operator")} == {"ties"}


# ---- granularity in layers


@pytest.mark.parametrize(
    ("layers", "size", "groups"),
    [
        (8, 4, ["layers 0-3", "layers 4-7", "rest"]),
        (10, 4, ["layers 0-3", "layers 4-7", "layers 8-9", "rest"]),
        (3, 1, ["layers 0-0", "layers 1-1", "layers 2-2", "rest"]),
        (4, 4, [""]),
        (4, 9, [""]),
    ],
)
def test_groups_have_so_many_layers_and_the_last_what_is_left(layers, size, groups):
    merge = {"lambda": {"low": 0, "high": 1, "per": ["layers"]}}
    models = source_models(layers=layers)
    space = parameter_space(models, layers_per_group=size, experts={}, merge=merge)
    assert [gene.name for gene in space.genes] == [f"lambda {own}".strip() for own in groups]


@given(st.integers(1, 40), st.integers(1, 45))
def test_knots_are_as_many_as_groups_and_reach_from_the_first_layer_to_the_last(layers, size):
    merge = {"lambda": {"low": 0, "high": 1, "per": ["layers"]}}
    keys = {"layers_per_group": size, "interpolate": True, "experts": {}, "merge": merge}
    names = [g.name for g in parameter_space(source_models(layers=layers), **keys).genes]
    if size >= layers:
        assert names == ["lambda"]
    else:
        assert len(names) == -(-layers // size) + 1
        assert names[0] == "lambda at layer 0"
        assert names[-2:] == [f"lambda at layer {layers - 1}", "lambda rest"]


# ---- parts that are searched, and the rest


@given(drawn_spaces())
def test_what_is_not_searched_is_the_rests_model(drawn):
    if not drawn.spec.only:
        return
    parts = drawn.spec.parts
    default = drawn.models.sources[0].name
    for name in tensor_names(drawn.models.layers):
        first = next((part for part in parts if part in name), None)
        outside = "layers" not in name and len(drawn.spec.groups(drawn.models.layers)) > 1
        if first not in drawn.spec.only or outside:
            rule = drawn.recipe.rule_for(name)
            assert rule.operator == "passthrough"
            assert [*rule.models] == [drawn.spec.rest_from or default]


def test_only_the_attention_is_searched_and_the_base_gives_the_rest():
    space = parameter_space(only=["self_attn"], layer_groups=2)
    assert [gene.name for gene in space.genes if gene.name.startswith("e1")] == [
        "e1.weight layers 0-1 self_attn",
        "e1.weight layers 2-3 self_attn",
    ]
    recipe = space.decode(middle(space))
    assert merged(recipe, "0.self_attn.q_proj").operator == "task_arithmetic"
    alone = Rule("passthrough", {"base": {}})
    assert merged(recipe, "0.mlp.up_proj") == recipe.rule_for("lm_head.weight") == alone


def test_the_rest_is_the_first_experts_where_there_is_no_base():
    models = replace(source_models(), base=None)
    spec = {"operator": "linear", "experts": {"weight": [0, 1]}, "merge": {}}
    space = parameter_space(models, only="mlp", **spec)
    assert [*space.decode(middle(space)).rules[-1].models] == ["e1"]
    space = parameter_space(models, only="mlp", rest_from="e3", **spec)
    assert [*space.decode(middle(space)).rules[-1].models] == ["e3"]


def test_a_component_that_is_not_searched_keeps_its_tensors_from_those_after_it():
    space = parameter_space(components=["q_proj", "self_attn", "mlp"], only=["self_attn"])
    recipe = space.decode(middle(space))
    operators = {
        part: merged(recipe, f"1.{part}").operator
        for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
    }
    assert operators == {
        "self_attn.q_proj": "passthrough",
        "self_attn.v_proj": "task_arithmetic",
        "mlp.up_proj": "passthrough",
    }
    assert len(recipe.rules) == 3


def test_single_experts_of_a_mixture_of_experts_are_components():
    space = parameter_space(
        source_models(experts=1), layer_groups=2, only=["mlp.experts.1.", "mlp.experts.12."]
    )
    genome = middle(space) | {
        "e1.weight layers 0-1 mlp.experts.1.": 0.25,
        "e1.weight layers 0-1 mlp.experts.12.": 0.75,
    }
    recipe = space.decode(genome)
    for number, weight in ((1, 0.25), (12, 0.75)):
        rule = merged(recipe, f"1.mlp.experts.{number}.up_proj")
        assert rule.models["e1"]["weight"] == weight
    assert merged(recipe, "1.mlp.experts.2.up_proj").operator == "passthrough"
    assert merged(recipe, "1.self_attn.q_proj").operator == "passthrough"
    assert space.encode(recipe) == genome


# ---- experts on and off


def test_each_expert_is_on_or_off_by_itself():
    space = parameter_space(subset=True)
    assert [gene.name for gene in space.genes if gene.name.endswith(".on")] == [
        "e1.on",
        "e2.on",
        "e3.on",
    ]
    (rule,) = space.decode(middle(space, **{"e1.on": 1, "e2.on": 0, "e3.on": 1})).rules
    assert [*rule.models] == ["e1", "e3"]


def test_an_expert_may_be_on_in_some_layers_only():
    space = parameter_space(subset={"per": ["expert", "layers"]}, layer_groups=2)
    on = {gene.name: 1 for gene in space.genes if ".on" in gene.name}
    recipe = space.decode(middle(space) | on | {"e2.on layers 2-3": 0})
    assert [*merged(recipe, "1.mlp").models] == ["e1", "e2", "e3"]
    assert [*merged(recipe, "2.mlp").models] == ["e1", "e3"]


NONE_ON = {f"e{k}.on": 0 for k in (1, 2, 3)}
LINEAR = {"operator": "linear", "experts": {"weight": [0, 1]}, "merge": {}, "subset": True}


def test_where_none_is_on_the_base_stays_as_it_is():
    for spec in ({"subset": True}, LINEAR):
        space = parameter_space(**spec)
        recipe = space.decode(middle(space) | NONE_ON)
        assert recipe.rules == (Rule("passthrough", {"base": {}}),)
        assert {n: v for n, v in space.encode(recipe).items() if ".on" in n} == NONE_ON


def test_where_none_is_on_and_there_is_no_base_all_are():
    space = parameter_space(replace(source_models(), base=None), **LINEAR)
    assert [*space.decode(middle(space) | NONE_ON).rules[0].models] == ["e1", "e2", "e3"]


@pytest.mark.parametrize("on", [1, 2, 3])
def test_one_that_is_on_stays_alone_where_its_operator_merges_two_or_more(on):
    spec = ParameterSpaceSpec(operator=("model_stock",), subset={"per": ["expert"]})
    space = space_of(spec, source_models())
    genome = {f"e{k}.on": int(k <= on) for k in (1, 2, 3)}
    (rule,) = space.decode(genome).rules
    assert rule.operator == ("passthrough" if on == 1 else "model_stock")
    assert space.encode(space.decode(genome)) == genome


@pytest.mark.parametrize(
    ("units", "models"),
    [((1, 1), ["e1", "e2"]), ((1, 0), ["e1"]), ((0, 1), ["e2"]), ((0, 0), ["base"])],
)
def test_a_pair_of_which_one_is_off_is_the_other(units, models):
    space = parameter_space(
        source_models(experts=2), operator="slerp", subset=True, experts={}, merge={"t": [0, 1]}
    )
    (rule,) = space.decode({"e1.on": units[0], "e2.on": units[1], "t": 0.5}).rules
    assert [*rule.models] == models


def test_a_source_alone_is_encoded_as_the_only_one_on():
    space = parameter_space(subset=True)
    alone = {each.name: space.encode(each.recipe) for each in space.baselines()}
    assert [alone["e2"][f"e{k}.on"] for k in (1, 2, 3)] == [0, 1, 0]
    assert [alone["base"][f"e{k}.on"] for k in (1, 2, 3)] == [0, 0, 0]


# ---- ranges of single experts


def test_experts_may_have_values_and_ranges_of_their_own():
    density = {"low": 0.1, "high": 1.0, "per_expert": {"e1": 0.3, "e3": [0.5, 0.6]}}
    space = parameter_space(operator="ties", experts={"density": density}, merge={})
    assert [(g.name, g.low, g.high) for g in space.genes] == [
        ("e2.density", 0.1, 1.0),
        ("e3.density", 0.5, 0.6),
    ]
    (rule,) = space.decode({"e2.density": 0.7, "e3.density": 0.55}).rules
    assert [own["density"] for own in rule.models.values()] == [0.3, 0.7, 0.55]


def test_a_range_of_its_own_is_a_gene_of_its_own_where_the_others_share_one():
    weight = {"low": 0, "high": 1, "per": ["layers"], "per_expert": {"e2": [0, 2]}}
    space = parameter_space(experts={"weight": weight}, merge={}, layer_groups=2)
    assert [gene.name for gene in space.genes][:2] == [
        "weight layers 0-1",
        "e2.weight layers 0-1",
    ]


# ---- genes held at values


@given(drawn_spaces(), st.data())
def test_genes_held_at_a_genomes_values_give_its_recipe(drawn, data):
    names = [gene.name for gene in drawn.space.genes]
    held = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    fixed = {name: drawn.genome[name] for name in held}
    space = space_of(drawn.spec.model_copy(update={"fixed": fixed}), drawn.models)
    assert [gene.name for gene in space.genes] == [n for n in names if n not in fixed]
    free = {name: value for name, value in drawn.genome.items() if name not in fixed}
    assert space.decode(free).digest == drawn.recipe.digest
    assert (space.encode(drawn.recipe) or {}).keys() <= free.keys()


def test_every_option_together_is_total():
    spec = ParameterSpaceSpec.model_validate(
        {
            "operator": ["ties", "linear", "model_stock"],
            "operator_per": ["layers", "component"],
            "layers_per_group": 2,
            "interpolate": True,
            "components": ["self_attn", "mlp"],
            "only": ["mlp"],
            "rest_from": "e2",
            "subset": {"per": ["expert", "layers", "component"]},
            "weights": "simplex",
            "experts": {"density": {"low": 0, "high": 1, "per_expert": {"e1": 0.5}}},
            "merge": {"lambda": [0, 2]},
        }
    )
    space = space_of(spec, source_models(layers=7))

    @given(points(space))
    def total(units):
        recipe = space.decode(genome_from_unit(space.genes, units))
        assert validate_recipe(recipe) == []
        assert space.encode(recipe) is not None

    total()
    assert set(spec.operator) <= set(SIGNATURES)
