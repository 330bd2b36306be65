"""From recipes back to genomes of the parameter space, and the baselines that start there."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from landscapes import parameter_space, source_models
from spaces.drawn_spaces import drawn_spaces

from evomerge.core.recipe import Rule, Slice
from evomerge.merging.recipe_check import validate_recipe


@given(drawn_spaces())
def test_a_decoded_recipe_is_encoded_to_a_genome_that_decodes_to_it(drawn):
    assume(drawn.knots_tell_all and not drawn.weights_may_be_replaced)
    assume(drawn.weights_come_back)
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
        [Rule("linear", RULE.models, contains=("mlp",)), RULE],
        [Rule("linear", {"base": {"weight": 1.0}})],
    ],
    ids=["another operator", "two operators", "another model"],
)
def test_what_the_space_cannot_express_has_no_genome(rules):
    space = parameter_space(
        source_models(experts=2), operator=["task_arithmetic", "linear"], components=["mlp"]
    )
    assert space.encode(source_models().recipe(rules)) is None


def test_stacked_layers_have_no_genome():
    plain = source_models().recipe([RULE])
    stacked = replace(plain, slices=(Slice({s.name: (0, 2) for s in plain.sources}),) * 2)
    assert parameter_space().encode(plain) is not None
    assert parameter_space().encode(stacked) is None


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
