"""Spaces over operators that merge task vectors of so many models."""

import pytest
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES

from evomerge.merging.recipe_check import validate_recipe
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import (
    ParameterSpace,
    ParameterSpaceSpec,
    check_parameter_space,
)
from evomerge.spaces.space import SourceModels

WEIGHTED = {"operator": "nuslerp", "experts": {"weight": [0.1, 1]}}


def problems(operator, models):
    spec = ParameterSpaceSpec.model_validate({"operator": operator})
    return check_parameter_space(spec, models, SIGNATURES)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ("nuslerp", "merges 2 models, the experiment names 1 expert besides the base"),
        ("model_stock", "merges 2 or more, the experiment names 1 expert besides the base"),
    ],
)
def test_one_expert_is_too_few_where_the_base_is_no_model(operator, message):
    (problem,) = problems(operator, source_models(experts=1))
    assert message in problem
    assert not problems(operator, source_models(experts=2))


def test_a_pair_without_base_wants_a_second_expert():
    models = source_models(experts=1)
    alone = SourceModels(None, models.experts, models.layers)
    (problem,) = problems("slerp", alone)
    assert "merges 2 models, the experiment names 1 expert and no base" in problem
    assert not problems("slerp", models)


@pytest.mark.parametrize("with_base", [True, False])
def test_the_experts_are_the_models_with_and_without_base(with_base):
    models = source_models(experts=2)
    if not with_base:
        models = SourceModels(None, models.experts, models.layers)
    space = ParameterSpace(ParameterSpaceSpec.model_validate(WEIGHTED), models, SIGNATURES)
    genome = genome_from_unit(space.genes, [0.3] * len(space.genes))
    recipe = space.decode(genome)
    assert list(recipe.rules[0].models) == ["e1", "e2"]
    assert not validate_recipe(recipe)
    assert space.encode(recipe) == genome


def test_normalized_multislerp_weights_never_cancel():
    spec = {
        "operator": "multislerp",
        "experts": {"weight": {"choice": [-1, 1], "per": ["expert"]}},
    }
    models = source_models(experts=2)
    space = ParameterSpace(ParameterSpaceSpec.model_validate(spec), models, SIGNATURES)
    for unit in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0]):
        rule = space.decode(genome_from_unit(space.genes, unit)).rules[0]
        assert sum(p["weight"] for p in rule.models.values()) != 0
