"""Operators that merge task vectors where the recipe has a base, and else the models."""

import pytest
import torch
from merging.applied import applied
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file

from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.recipe_check import validate_recipe

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("operator", ["nuslerp", "multislerp"])
@pytest.mark.parametrize("base", [None, "base"])
def test_the_engine_hands_over_the_base_that_the_recipe_names(llamas, operator, base):
    engine = MergeEngine({n: open_source(str(llamas[n])) for n in ("base", "a", "b")})
    own = {"a": {"weight": 0.25}, "b": {"weight": 0.75}}
    merged = dict(engine.tensors(recipe_of(own, operator, base)))[NAME]
    saved = {n: load_file(llamas[n] / "model.safetensors")[NAME] for n in ("base", "a", "b")}
    want = applied(operator, [saved["a"], saved["b"]], base and saved[base], list(own.values()))
    assert torch.equal(merged, want)
    other = None if base else saved["base"]
    wrong = applied(operator, [saved["a"], saved["b"]], other, list(own.values()))
    assert not torch.allclose(merged, wrong, atol=1e-4)


def test_the_base_is_no_model_of_the_merge():
    recipe = recipe_of({"base": {}, "a": {}}, "nuslerp", "base")
    assert validate_recipe(recipe) == [
        "rule 1: nuslerp merges 2 models besides the base, got 1."
    ]
    assert not validate_recipe(recipe_of({"base": {}, "a": {}, "b": {}}, "nuslerp", "base"))
    assert not validate_recipe(recipe_of({"a": {}, "b": {}}, "nuslerp"))


@pytest.mark.parametrize("operator", ["nearswap", "arcee_fusion"])
def test_a_base_and_one_model_are_wanted_where_one_is_fused_into_the_other(operator):
    assert not validate_recipe(recipe_of({"a": {}}, operator, "base"))
    assert any("base" in p for p in validate_recipe(recipe_of({"a": {}}, operator)))
    assert validate_recipe(recipe_of({"a": {}, "b": {}}, operator, "base"))
