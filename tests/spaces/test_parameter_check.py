"""Search spaces that are refused before anything is searched, each with its reasons."""

from dataclasses import replace

import pytest
from landscapes import source_models
from pydantic import ValidationError
from spaces.drawn_spaces import SIGNATURES, space_of

from evomerge.core.errors import ConfigError
from evomerge.spaces.parameter import ParameterSpaceSpec, check_parameter_space
from evomerge.spaces.parameter_checks import unmatched_parts


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
        ({"operator_per": ["layers"]}, "linear is the only one; name several"),
        (
            {"operator": ["linear", "ties"], "operator_per": ["expert"]},
            "'layers' or 'component'",
        ),
        ({"layer_groups": 2, "layers_per_group": 4}, "found both: 2 and 4; leave one out"),
        ({"layers_per_group": 0}, "greater than or equal to 1"),
        ({"only": ["mlp", "mlp.up_proj"]}, "name the longer one first"),
        ({"only": ["rest"]}, "cannot be only"),
        (
            {"components": ["mlp", "self_attn"], "only": ["self_atn"]},
            "'only' names some of the components: .*did you mean 'self_attn'",
        ),
        ({"rest_from": "base"}, "'rest_from: base' is for what 'only' leaves"),
        ({"subset": {"per": ["layers"]}}, "'per' needs 'expert', found .'layers'."),
        ({"subset": "e1"}, "subset"),
        ({"weights": "simplx"}, "'free' or 'simplex'"),
        ({"experts": {"weight": {"per_expert": {}}}}, "give a value, or"),
        (
            {"experts": {"weight": {"per_expert": {"e1": {"choice": [1], "per": ["layers"]}}}}},
            "e1: 'per' and 'per_expert' are for all experts",
        ),
        (
            {
                "experts": {
                    "weight": {"per_expert": {"e1": {"value": 1, "per_expert": {"a": 1}}}}
                }
            },
            "e1: 'per' and 'per_expert' are for all experts",
        ),
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
        (
            {"only": ["mlp"], "rest_from": "e4"},
            2,
            "space.rest_from: unknown model 'e4'; did you mean 'e2'? known: base, e1, e2",
        ),
        (
            {"experts": {"density": {"value": 1, "per_expert": {"e21": 0.5}}}},
            2,
            "space.experts.density.per_expert: unknown expert 'e21'; did you mean 'e2'?",
        ),
        (
            {"experts": {"density": {"per_expert": {"e2": 0.5}}}},
            8,
            "nothing is said of e1, e3, e4, e5, e6 and 2 more; name every expert",
        ),
        (
            {"experts": {"density": {"value": 1, "per_expert": {"e2": [0, 3]}}}},
            2,
            "space.experts.density: ties's density must be a finite number",
        ),
        (
            {"merge": {"lambda": {"value": 1, "per_expert": {"e1": 2}}}},
            2,
            "space.merge.lambda: one of the merge cannot vary per expert.",
        ),
        (
            {"operator": "model_stock", "weights": "simplex"},
            2,
            "space.weights: model_stock has no weights to share out",
        ),
        (
            {"weights": "simplex", "experts": {"weight": [-0.5, 1]}},
            2,
            "numbers of at least 0, found -0.5; for negative weights use 'weights: free'",
        ),
        (
            {"weights": "simplex", "experts": {"weight": {"low": 0, "high": 1, "per": []}}},
            2,
            "would give each the same share whatever it is; add expert to 'per'",
        ),
        ({"fixed": {"e1.wieght": 1}}, 2, "space.fixed: unknown gene 'e1.wieght'"),
        (
            {"fixed": {"e1.weight": "x"}},
            2,
            "space.fixed.e1.weight: must be a number, found 'x'",
        ),
        ({"fixed": {"e1.density": 2}}, 2, "space.fixed.e1.density: ties's density must be"),
        (
            {"subset": True, "fixed": {"e1.on": 2}},
            2,
            "e1.on: must be 0 (off) or 1 (on), found 2",
        ),
        ({"subset": True, "fixed": {"e1.on": 0.5}}, 2, "must be a whole number, found 0.5"),
        (
            {"operator": ["ties", "linear"], "fixed": {"operator": "della"}},
            2,
            "space.fixed.operator: one of ['ties', 'linear'], found 'della'",
        ),
        (
            {"weights": "simplex", "fixed": {"e1.weight": -1}},
            2,
            "a share of a whole is at least",
        ),
    ],
    ids=str,
)
def test_a_space_that_does_not_suit_operator_or_models_is_refused(written, experts, problem):
    defaults = {"operator": "ties"}
    if "fixed" in written:
        defaults["experts"] = {"weight": [0, 1], "density": [0, 1]}
    spec = ParameterSpaceSpec.model_validate(defaults | written)
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


def test_layers_per_group_need_layers():
    spec = ParameterSpaceSpec(operator=("linear",), layers_per_group=4)
    assert check_parameter_space(spec, source_models(layers=0), SIGNATURES) == []
    with pytest.raises(ConfigError, match="layers_per_group: the models have no number"):
        space_of(spec, source_models(layers=0))


def test_every_problem_of_a_specification_is_named_at_once():
    wrong = {"operator": ["ties", "ties"], "rest_from": "base", "components": ["mlp", "mlp"]}
    with pytest.raises(ValidationError) as caught:
        ParameterSpaceSpec.model_validate(wrong)
    for reason in ("names one twice", "'rest_from: base' is for", "never be reached"):
        assert reason in str(caught.value)


def test_parts_that_no_tensor_has_are_named_with_their_key():
    names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"]
    for key in ("components", "only"):
        spec = ParameterSpaceSpec.model_validate({"operator": "linear", key: ["mlp", "atn"]})
        (found,) = unmatched_parts(spec, names)
        assert found.startswith(f"space.{key}: no tensor's name contains 'atn'")


def test_every_problem_of_a_space_is_named_at_once():
    spec = ParameterSpaceSpec.model_validate(
        {"operator": ["tise", "ties"], "layer_groups": 9, "experts": {"wieght": 1}}
    )
    models = replace(source_models(), base=None)
    assert len(check_parameter_space(spec, models, SIGNATURES)) == 4
