"""Search spaces that are refused before anything is searched, each with its reasons."""

from dataclasses import replace

import pytest
from landscapes import source_models
from pydantic import ValidationError
from spaces.drawn_spaces import SIGNATURES, space_of

from evomerge.core.errors import ConfigError
from evomerge.spaces.parameter import ParameterSpaceSpec, check_parameter_space


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
