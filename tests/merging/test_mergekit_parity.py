"""The same recipe gives the same tensors here and in mergekit."""

from dataclasses import replace

import pytest
import torch
from merging.mergekit_oracle import require_mergekit, their_model
from merging.parity_cases import (
    EXACT,
    SHAPES,
    STOCHASTIC,
    decided,
    difference,
    drawn,
    oracle,
    our_tensor,
    sampled,
)
from merging.tiny_llamas import recipe_of

from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.recipe_check import spelled_out
from evomerge.recipes.from_mergekit import recipe_from_mergekit
from evomerge.recipes.mergekit_methods import METHODS
from evomerge.recipes.to_mergekit import recipe_to_mergekit

require_mergekit()

ROUNDINGS = 4
"""By how many float32 roundings of the largest entry a sum of a few products may be off."""

WITHOUT_EFFECT = {"task_arithmetic": {"density", "rescale"}}
"""What mergekit's methods accept and do not use; ``int8_mask`` saves memory only."""


def test_every_operator_that_mergekit_has_is_compared():
    from mergekit.merge_methods import registered_methods

    theirs = {method.spec.name for method in registered_methods()}
    compared = {case.operator for case in (*EXACT, *STOCHASTIC)}
    assert theirs <= set(OPERATORS)
    assert theirs == compared


def test_every_parameter_of_mergekit_is_known_by_its_name():
    from mergekit.merge_methods import registered_methods

    for method in registered_methods():
        own = {parameter.name for parameter in OPERATORS[method.spec.name].parameters}
        theirs = {parameter.name for parameter in method.spec.parameters}
        assert theirs - WITHOUT_EFFECT.get(method.spec.name, set()) - {"int8_mask"} <= own


@pytest.mark.parametrize("case", EXACT, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_sources_give_the_same_tensor_within_rounding(case, shape):
    found = difference(case, shape, torch.float32)
    assert found.float32 <= ROUNDINGS
    assert found.compared > 0.5


@pytest.mark.parametrize("case", EXACT, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_sources_give_the_same_tensor_within_one_rounding(case, shape):
    found = difference(case, shape, torch.bfloat16)
    assert found.bfloat16 <= 1
    assert found.compared > 0.5


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_mergekit_in_float32_gives_the_same_tensor_too(case):
    tensors, base = drawn(case, (40, 30), torch.float32)
    sure = decided(case, tensors, base)
    theirs = oracle(case, tensors, base, torch.float32) * sure
    ours = our_tensor(case, tensors, base) * sure
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=4e-6)


@pytest.fixture(scope="module", params=STOCHASTIC, ids=str)
def samples(request):
    """evomerge's and mergekit's."""
    return sampled(request.param)


def agree(ours, theirs):
    """Within 5 standard errors, which chance leaves once in a million."""
    return abs(ours.mean - theirs.mean) <= 5 * (ours.error**2 + theirs.error**2) ** 0.5 + 1e-6


def test_random_masks_keep_as_many_entries_of_every_rank(samples):
    ours, theirs = samples
    assert agree(ours.kept, theirs.kept)
    assert all(map(agree, ours.kept_by_rank, theirs.kept_by_rank))


def test_what_random_masks_keep_is_rescaled_by_as_much(samples):
    ours, theirs = samples
    assert agree(ours.factor, theirs.factor)


def test_random_merges_have_the_same_mean_and_spread_in_every_entry(samples):
    ours, theirs = samples
    errors = (ours.errors.square() + theirs.errors.square()).sqrt()
    assert ((ours.means - theirs.means).abs() <= 5.5 * errors + 1e-6).all()
    spread = ours.errors.square().sum() / theirs.errors.square().sum()
    assert float(spread) == pytest.approx(1, abs=0.05)


MODELS = {
    "nuslerp": ("ab", "base"),
    "multislerp": ("abc", "base"),
    "karcher": ("abc", None),
    "model_stock": ("abc", "base"),
    "nearswap": ("a", "base"),
    "arcee_fusion": ("a", "base"),
    "sce": ("abc", "base"),
    "ram": ("abc", "base"),
    "ramplus_tl": ("abc", "base"),
}
OWN = {
    "nuslerp": {"a": {"weight": 0.3}, "b": {"weight": 0.9}},
    "multislerp": {"a": {"weight": 0.3}},
}


WHOLE = {
    "nearswap": {"t": 0.01},
    "ram": {"epsilon": 0.01},
    "ramplus_tl": {"epsilon": 0.01, "r": 0.3, "alpha": 0.8},
}


@pytest.mark.parametrize("method", [*MODELS, "nuslerp without base", "multislerp without base"])
def test_whole_models_are_the_same(method, llamas, tmp_path):
    name = method.split()[0]
    names, base = MODELS[name]
    base = None if "without" in method else base
    own = {n: {"weight": 1.0} | OWN[name].get(n, {}) if name in OWN else {} for n in names}
    whole = WHOLE.get(name, {})
    config = {
        "merge_method": name,
        "models": [{"model": str(llamas[n]), "parameters": p} for n, p in own.items()],
        "parameters": whole,
        "dtype": "float64",
    }
    if base:
        config["base_model"] = str(llamas[base])
    theirs = their_model(config, tmp_path / "theirs")
    engine = MergeEngine({n: open_source(str(llamas[n])) for n in [*names, "base"]})
    recipe = recipe_of(own, name, base, parameters=whole)
    ours = dict(engine.tensors(recipe))
    assert set(ours) <= set(theirs)
    for tensor, merged in ours.items():
        want = theirs[tensor].float()
        torch.testing.assert_close(merged, want, rtol=1e-6, atol=5e-7, msg=tensor)


def test_every_method_that_mergekit_has_can_be_named_in_a_mergekit_file():
    from mergekit.merge_methods import registered_methods

    assert {method.spec.name for method in registered_methods()} == set(METHODS)


@pytest.mark.parametrize("method", ["ram", "ramplus_tl"])
def test_a_file_written_for_mergekit_and_one_read_from_it_merge_alike(method, llamas, tmp_path):
    """From mergekit's file to a recipe, and back from that to what mergekit then merges."""
    config = {
        "merge_method": method,
        "base_model": str(llamas["base"]),
        "models": [{"model": str(llamas[name])} for name in "ab"],
        "parameters": WHOLE[method],
        "dtype": "float64",
    }

    def names(place):
        return list(open_source(place).tensors)

    recipe = recipe_from_mergekit(config, names)
    engine = MergeEngine({source.name: open_source(source.model) for source in recipe.sources})
    ours = dict(engine.tensors(replace(recipe, dtype="float32")))
    theirs = their_model(config, tmp_path / "theirs")
    written = recipe_to_mergekit(spelled_out(recipe), names)
    again = their_model(written | {"dtype": "float64"}, tmp_path / "again")
    for tensor, merged in ours.items():
        torch.testing.assert_close(merged, theirs[tensor].float(), rtol=1e-6, atol=5e-7)
        assert torch.equal(again[tensor], theirs[tensor])
