"""A rule's scale multiplies what its operator gives, in memory, on disk and as in mergekit."""

from dataclasses import replace

import pytest
import torch
from merging.mergekit_oracle import WANTED, their_model
from merging.tiny_llamas import recipe_of

from evomerge.core.errors import TrialError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.recipes.to_mergekit import recipe_to_mergekit

MERGES = {
    "passthrough": ({"half_a": {}}, None),
    "linear": ({"half_a": {"weight": 0.3}, "half_b": {"weight": 0.7}}, None),
    "ties": ({"half_a": {"density": 0.5}, "half_b": {}}, "half_base"),
    "dare_ties": ({"half_a": {"density": 0.5}, "half_b": {}}, "half_base"),
    "slerp": ({"half_a": {}, "half_b": {}}, None),
    "tsv_m": ({"half_a": {}, "half_b": {}}, "half_base"),
}


def engine_of(llamas, *names):
    return MergeEngine({name: open_source(str(llamas[name])) for name in names})


def merge_of(operator):
    models, base = MERGES[operator]
    return recipe_of(models, operator, base)


def scaled(recipe: Recipe, scale: float, **more) -> Recipe:
    rules = tuple(replace(rule, scale=scale) for rule in recipe.rules)
    return replace(recipe, rules=rules, **more)


@pytest.fixture
def halves(llamas):
    return engine_of(llamas, "half_base", "half_a", "half_b")


@pytest.mark.parametrize("operator", MERGES)
@pytest.mark.parametrize("dtype", ["float32", None])
def test_the_float32_result_is_multiplied_and_rounded_once(halves, operator, dtype):
    recipe = merge_of(operator)
    exact = dict(halves.tensors(replace(recipe, dtype="float32")))
    for name, tensor in halves.tensors(scaled(recipe, 0.7, dtype=dtype)):
        wanted = (exact[name] * 0.7).to(tensor.dtype)
        if operator == "linear" or tensor.dtype == torch.float32:
            torch.testing.assert_close(tensor, wanted, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("operator", MERGES)
def test_a_resident_model_has_the_bits_of_an_export(halves, operator):
    recipe = scaled(merge_of(operator), 1.3)
    model = halves.resident_model(recipe)
    halves.apply(recipe, model)
    state = model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in halves.tensors(recipe))


@pytest.mark.parametrize("operator", MERGES)
def test_another_scale_is_another_merge_and_scale_1_is_none(halves, operator):
    recipe = merge_of(operator)
    plain = dict(halves.tensors(recipe))
    model = halves.resident_model(recipe)
    for scale in (1.0, 2.0, 0.5, 1.0):
        halves.apply(scaled(recipe, scale), model)
        for name, tensor in model.state_dict().items():
            if name in plain:
                assert torch.equal(tensor, plain[name] * scale), (name, scale)


def test_passthroughs_own_factor_and_the_rules_are_one(llamas):
    engine = engine_of(llamas, "half_a")
    by_both = scaled(recipe_of({"half_a": {"scale": 0.6}}, "passthrough"), 0.5)
    by_one = recipe_of({"half_a": {"scale": 0.3}}, "passthrough")
    model = engine.resident_model(by_one)
    engine.apply(by_one, model)
    versions = [parameter._version for parameter in model.parameters()]
    engine.apply(by_both, model)
    assert [parameter._version for parameter in model.parameters()] == versions
    wanted = dict(engine.tensors(by_one))
    assert all(torch.equal(t, wanted[name]) for name, t in engine.tensors(by_both))


@pytest.mark.parametrize("operator", ["passthrough", "linear", "tsv_m"])
def test_what_a_scale_makes_too_large_fails_the_trial(halves, operator):
    recipe = scaled(merge_of(operator), 1e38, dtype="float16")
    with pytest.raises(TrialError, match=f"{operator} of half_a"):
        dict(halves.tensors(recipe))


@pytest.mark.parametrize(("names", "dtype"), [("ab", "float32"), (("half_a", "half_b"), None)])
def test_a_stack_with_scaled_projections_is_what_mergekit_makes(llamas, tmp_path, names, dtype):
    pytest.importorskip("mergekit", reason=WANTED)
    one, other = names
    own = Rule("passthrough", {one: {}}, {}, (0, 2))
    rules = (
        replace(own, contains=("o_proj",), scale=0.7),
        replace(own, layers=(1, 2), contains=("down_proj",), scale=1.9),
        own,
        Rule("passthrough", {other: {}}, {}, (2, 3), ("down_proj",), scale=1 / 3),
        Rule("passthrough", {other: {}}, {}, (2, 3)),
        Rule("passthrough", {one: {}}, {}, None, ("embed_tokens",)),
        Rule("passthrough", {other: {}}),
    )
    recipe = Recipe(
        tuple(Source(name, str(llamas[name])) for name in names),
        rules,
        slices=(Slice({one: (0, 2)}), Slice({other: (0, 1)})),
        dtype=dtype,
    )
    engine = engine_of(llamas, *names)
    config = recipe_to_mergekit(recipe, lambda place: list(open_source(place).tensors))
    theirs = their_model(config, tmp_path / "theirs")
    for name, tensor in engine.tensors(recipe):
        assert torch.equal(tensor, theirs[name]), name
