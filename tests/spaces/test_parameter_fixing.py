"""Parameters that a later search holds at what an earlier one chose."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import parameter_space, source_models
from spaces.drawn_spaces import drawn_spaces, space_of

from evomerge.core.errors import ConfigError
from evomerge.spaces.parameter import ParameterSpaceSpec
from evomerge.spaces.parameter_fixing import fixed_to

DENSE = {"operator": "ties", "experts": {"weight": 0.5, "density": [0, 1]}, "merge": {}}
SIGNED = {
    "operator": "ties",
    "experts": {"weight": [-1.5, 1.5], "density": 1.0},
    "merge": {"normalize": False},
}


def later(space, genome, parameters, **spec):
    written = ParameterSpaceSpec.model_validate(SIGNED | spec)
    return space_of(fixed_to(written, space, genome, parameters), space.models)


def some(space):
    places = range(1, len(space.genes) + 1)
    return {
        gene.name: gene.from_unit(k / (len(space.genes) + 1))
        for k, gene in zip(places, space.genes, strict=True)
    }


def test_a_later_search_has_the_densities_that_the_earlier_one_chose():
    first = parameter_space(**DENSE)
    genome = {"e1.density": 0.25, "e2.density": 0.5, "e3.density": 0.75}
    second = later(first, genome, ["density"])
    assert [gene.name for gene in second.genes] == ["e1.weight", "e2.weight", "e3.weight"]
    (rule,) = second.decode({"e1.weight": 1.0, "e2.weight": -1.0, "e3.weight": 0.0}).rules
    assert [own["density"] for own in rule.models.values()] == [0.25, 0.5, 0.75]
    assert [own["weight"] for own in rule.models.values()] == [1.0, -1.0, 0.0]


def test_values_go_by_tensor_where_the_later_space_cuts_the_model_otherwise():
    first = parameter_space(**DENSE, layer_groups=2, components=["mlp"])
    second = later(first, some(first), ["density"], layer_groups=4, components=["self_attn"])
    (before, after) = (
        first.decode(some(first)),
        second.decode({g.name: 0.5 for g in second.genes}),
    )
    for layer in range(4):
        name = f"layers.{layer}.self_attn.q_proj"
        densities = [
            [own["density"] for own in recipe.rule_for(name).models.values()]
            for recipe in (before, after)
        ]
        assert densities[0] == densities[1]


def test_knots_keep_their_own_values():
    cut = {"layer_groups": 4, "interpolate": True}
    first = parameter_space(source_models(layers=6), **DENSE, **cut)
    second = later(first, some(first), ["density"], **cut)
    fixed = {name: value for name, value in some(first).items() if "density" in name}
    assert second.spec.fixed == fixed


def test_a_value_that_the_earlier_search_did_not_vary_is_taken_over_too():
    first = parameter_space(**DENSE | {"merge": {"lambda": 0.7}})
    second = later(first, some(first), ["lambda", "weight"])
    (rule,) = second.decode({}).rules
    assert rule.parameters == {"lambda": 0.7, "normalize": False}
    assert {own["weight"] for own in rule.models.values()} == {0.5}


def test_operators_and_experts_can_be_held():
    first = parameter_space(
        operator=["ties", "task_arithmetic"],
        operator_per=["layers"],
        layer_groups=2,
        subset=True,
    )
    genome = some(first) | {"operator layers 2-3": "task_arithmetic", "e2.on": 0}
    second = later(first, genome, ["operator", "subset"], layer_groups=2)
    assert not [
        g.name for g in second.genes if g.name.startswith("operator") or ".on" in g.name
    ]
    recipes = [first.decode(genome), second.decode({g.name: 0.5 for g in second.genes})]
    for layer in range(4):
        rules = [recipe.rule_for(f"layers.{layer}.mlp") for recipe in recipes]
        assert rules[0].operator == rules[1].operator
        assert [*rules[0].models] == [*rules[1].models]


def test_shares_are_held_as_shares():
    first = parameter_space(weights="simplex", experts={})
    genome = {"e1.weight": 0.1, "e2.weight": 0.1, "e3.weight": 0.2, "lambda": 1.0}
    second = later(first, genome, ["weight"], experts={"density": [0, 1]})
    (rule,) = second.decode({g.name: 0.5 for g in second.genes}).rules
    assert [own["weight"] for own in rule.models.values()] == [0.25, 0.25, 0.5]


def test_what_the_earlier_search_left_alone_stays_free():
    first = parameter_space(**DENSE, only=["self_attn"])
    second = later(first, some(first), ["density"], components=["self_attn", "mlp"])
    free = [gene.name for gene in second.genes if "density" in gene.name and "e1" in gene.name]
    assert free == ["e1.density mlp", "e1.density rest"]


@given(drawn_spaces())
@settings(max_examples=40)
def test_holding_every_parameter_gives_the_earlier_recipe(drawn):
    spec = drawn.spec
    parameters = [*spec.expert_ranges, *spec.merge, "operator"]
    parameters += ["subset"] if spec.subset else []
    fixed = fixed_to(spec, drawn.space, drawn.genome, parameters)
    space = space_of(fixed, drawn.models)
    assert space.genes == ()
    assert space.decode({}).digest == drawn.recipe.digest


@given(st.sampled_from([["densty"], ["weight", "subset"], ["e1.density"]]))
def test_an_unknown_parameter_is_refused_with_the_nearest(parameters):
    first = parameter_space(**DENSE)
    with pytest.raises(ConfigError, match="unknown parameter of the earlier space") as caught:
        later(first, some(first), parameters)
    assert "known: weight, density, operator" in str(caught.value)
