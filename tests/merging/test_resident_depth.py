"""A resident model whose depth follows the recipes that are merged into it."""

import json
from dataclasses import replace

import pytest
import torch
import transformers as hf
from merging.tiny_architectures import ARCHITECTURES, inputs_of, make_model
from merging.tiny_llamas import make_llama

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.recipe_check import validate_recipe
from evomerge.merging.resident_depth import ResidentDepth, depth_problems, recipe_of_depth

DEPTHS = (5, 3, 7, 5, 1, 7, 3)
OF_ONE_KIND = ("llama", "qwen2", "qwen3", "gpt2", "mixtral")


def alone(*names: str) -> Recipe:
    """The first source as it is, the others open besides."""
    sources = tuple(Source(name, name) for name in names)
    return Recipe(sources, (Rule("passthrough", {names[0]: {}}),))


def stacked(depth: int, own: int) -> Recipe:
    """So many layers: of the second source, merged and of the first, from ever other places."""
    made = []
    for layer in range(depth):
        taken = [["b"], ["a", "b"], ["a"]][layer % 3]
        place = (2 * layer + depth) % own
        made.append((taken, place))
    rules = tuple(
        Rule("linear", {name: {"weight": 0.5} for name in taken}, {}, (layer, layer + 1))
        for layer, (taken, _) in enumerate(made)
    )
    mean = Rule("linear", {"a": {"weight": 1.0}, "b": {"weight": 1.0}})
    slices = tuple(Slice(dict.fromkeys(taken, (at, at + 1))) for taken, at in made)
    return replace(alone("a", "b"), rules=(*rules, mean), slices=slices)


def opened(folder, make) -> dict:
    return {
        name: open_source(str(make(folder / name, seed)))
        for seed, name in enumerate(("a", "b"), 1)
    }


def resident(sources, most):
    """An engine, a model of most layers, and what sets its depth."""
    engine, plain = MergeEngine(sources), alone(*sources)
    deepest = recipe_of_depth(plain, 2, most)
    model = engine.resident_model(deepest)
    return engine, model, ResidentDepth(model, plain, sources)


@pytest.mark.parametrize("name", OF_ONE_KIND)
def test_at_every_depth_it_computes_what_the_exported_model_does(tmp_path, name):
    sources = opened(tmp_path, lambda folder, seed: make_model(name, folder, seed))
    assert depth_problems(sources, alone("a", "b"), max(DEPTHS)) == []
    engine, model, depth = resident(sources, max(DEPTHS))
    tokens = inputs_of(name)["input_ids"]
    greedy = {"max_new_tokens": 4, "do_sample": False, "use_cache": True}
    exported = {}
    for layers in DEPTHS:
        recipe = stacked(layers, 2)
        depth.fit(recipe)
        engine.apply(recipe, model)
        if layers not in exported:
            folder = tmp_path / str(layers)
            export(engine, recipe, folder, card="", recipe_text="")
            exported[layers] = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
        theirs = exported[layers]
        with torch.no_grad():
            assert torch.equal(model(tokens).logits, theirs(tokens).logits)
            assert torch.equal(
                model.generate(tokens, **greedy), theirs.generate(tokens, **greedy)
            )
        assert model.num_parameters() == theirs.num_parameters()
        kept = model(tokens, use_cache=True).past_key_values
        assert len(kept.layers) == layers
        told, read = (m.config.to_dict() for m in (model, theirs))
        assert {k: told[k] for k in told if "layer" in k} == {
            k: read[k] for k in read if "layer" in k
        }


def test_a_recipe_without_slices_has_the_depth_of_its_sources(tmp_path):
    sources = opened(tmp_path, lambda folder, seed: make_llama(folder, seed=seed))
    engine, model, depth = resident(sources, 4)
    for recipe in (stacked(4, 2), alone("a", "b")):
        depth.fit(recipe)
        engine.apply(recipe, model)
    assert model.config.num_hidden_layers == 2
    own = dict(engine.tensors(alone("a", "b")))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, own.get(name, own["model.embed_tokens.weight"])), name


def test_layers_out_of_use_keep_what_was_merged_into_them(tmp_path):
    sources = opened(tmp_path, lambda folder, seed: make_llama(folder, seed=seed))
    engine, model, depth = resident(sources, 4)
    recipe = stacked(4, 2)
    depth.fit(recipe)
    engine.apply(recipe, model)
    last = model.model.layers[3]
    depth.set(2)
    depth.set(4)
    assert model.model.layers[3] is last
    versions = [parameter._version for parameter in model.parameters()]
    engine.apply(recipe, model)
    assert [parameter._version for parameter in model.parameters()] == versions


def test_a_recipe_deeper_than_the_model_is_refused(tmp_path):
    sources = opened(tmp_path, lambda folder, seed: make_llama(folder, seed=seed))
    _, _, depth = resident(sources, 3)
    with pytest.raises(CheckpointError, match=r"makes 4 layers.*has room for 3"):
        depth.fit(stacked(4, 2))


@pytest.mark.parametrize("name", ["t5", "llava"])
def test_models_of_several_stacks_are_refused(tmp_path, name):
    sources = opened(tmp_path, lambda folder, seed: make_model(name, folder, seed))
    (problem,) = depth_problems(sources, alone("a", "b"), 4)
    assert "2 stacks of layers" in problem


def save(config, build, folder, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        build(config).save_pretrained(folder)
    return folder


def test_layers_of_several_kinds_in_config_json_are_refused(tmp_path):
    config = ARCHITECTURES["gemma3"]().config
    config.layer_types = ["sliding_attention", "full_attention"]
    sources = opened(tmp_path, lambda *at: save(config, hf.Gemma3ForCausalLM, *at))
    (problem,) = depth_problems(sources, alone("a", "b"), 4)
    assert "layers are of several kinds (layer_types: 'sliding_attention', 'full_at" in problem


def test_layers_of_several_kinds_that_only_the_model_code_knows_are_refused(tmp_path):
    # Which of its layers are dense is told by a number, and needs no list.
    config = hf.Qwen2MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        decoder_sparse_step=2,
    )
    sources = opened(tmp_path, lambda *at: save(config, hf.Qwen2MoeForCausalLM, *at))
    (problem,) = depth_problems(sources, alone("a", "b"), 4)
    assert "layers of Qwen2MoeForCausalLM differ: mlp" in problem


def test_sources_whose_layers_are_of_other_kinds_are_refused(tmp_path):
    sources = opened(tmp_path, lambda folder, seed: make_model("qwen2", folder, seed))
    path = tmp_path / "b" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"layer_types": ["sliding_attention"] * 2}))
    sources = {name: open_source(str(tmp_path / name)) for name in sources}
    (problem,) = depth_problems(sources, alone("a", "b"), 4)
    assert "config.json of b: layers are of several kinds (layer_types" in problem
    del config["layer_types"]
    path.write_text(json.dumps(config))
    sources = {name: open_source(str(tmp_path / name)) for name in sources}
    (problem,) = depth_problems(sources, alone("a", "b"), 4)
    assert problem.startswith("config.json of b does not list layer_types")


def test_only_slices_in_which_differences_are_merged_need_the_base():
    rules = (
        Rule("passthrough", {"a": {}}, {}, (0, 1)),
        Rule("ties", {"a": {}, "b": {}}, {}, (1, 2)),
        Rule("linear", {"a": {}, "b": {}}),
    )
    sources = tuple(Source(name, name) for name in ("base", "a", "b"))
    members = {"a": (0, 1), "b": (0, 1)}
    slices = (Slice({"a": (0, 1)}), Slice({"base": (0, 1)} | members), Slice(members))
    recipe = Recipe(sources, rules, base="base", slices=slices)
    assert validate_recipe(recipe) == []
    (problem,) = validate_recipe(replace(recipe, slices=(slices[0], *[Slice(members)] * 2)))
    assert problem.startswith("slice 2: give the layers of the base 'base' too")
