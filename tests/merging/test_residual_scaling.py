"""Scales of the residual stream fold into output projections where layers normalise first."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from merging.tiny_decoders import SCALABLE, UNSCALABLE, save_decoder
from merging.tiny_llamas import make_llama
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.residual_scaling import output_projections, scaling_problems
from evomerge.merging.safetensors_header import TensorInfo
from evomerge.merging.source_model import SourceModel

ZOO = Path(__file__).parents[2] / "experiments" / "quickstart" / "zoo"
PATH = (("a", 0), ("b", 1), ("b", 1), ("a", 1), ("b", 0), ("a", 1))


@pytest.mark.parametrize("name", SCALABLE)
def test_architectures_that_normalise_first_are_accepted(tmp_path, name):
    make, parts = SCALABLE[name]
    source = open_source(str(save_decoder(make, tmp_path)))
    assert output_projections(source) == parts
    assert scaling_problems({"m": source}, "m") == []


@pytest.mark.parametrize("name", UNSCALABLE)
def test_architectures_that_normalise_afterwards_are_refused_with_the_reason(tmp_path, name):
    make, reason = UNSCALABLE[name]
    source = open_source(str(save_decoder(make, tmp_path)))
    (problem,) = scaling_problems({"m": source}, "m")
    assert reason in problem
    assert problem.startswith(f"layers of {type(make()).__name__} ")


def test_a_projection_whose_name_is_not_known_is_noticed(tmp_path, monkeypatch):
    source = open_source(str(save_decoder(SCALABLE["llama"][0], tmp_path)))
    parts = ("o_proj", "out_proj", "gate_proj")
    monkeypatch.setattr("evomerge.merging.residual_scaling._PARTS", parts)
    (problem,) = scaling_problems({"m": source}, "m")
    assert problem.startswith("layers of LlamaForCausalLM do not ignore the scale")
    assert "by more than their output projections (output projections: o_proj, " in problem


def test_layers_of_unknown_names_have_no_output_projections():
    names = ["embed.weight", "blocks.0.mix.out.weight", "blocks.0.ffn.out.weight"]
    infos = {name: TensorInfo(name, "F32", (4, 4), None) for name in names}
    source = SourceModel(Path("x"), {}, infos)
    assert output_projections(source) == ()
    (problem,) = scaling_problems({"m": source}, "m")
    assert problem.startswith("m: its layers have no tensors whose names are known")


def test_an_architecture_that_cannot_be_built_is_refused_in_words(tmp_path):
    good = open_source(str(save_decoder(SCALABLE["llama"][0], tmp_path)))
    strange = SourceModel(tmp_path, {"model_type": "no_such"}, good.tensors)
    (problem,) = scaling_problems({"m": strange}, "m")
    assert "unknown model_type 'no_such'" in problem


def test_a_large_model_is_judged_by_a_small_one_and_no_generator_is_touched():
    config = LlamaConfig(tie_word_embeddings=False, architectures=["LlamaForCausalLM"])
    with torch.device("meta"):
        state = LlamaForCausalLM(config).state_dict()
    infos = {n: TensorInfo(n, "F32", tuple(t.shape), None) for n, t in state.items()}
    source = SourceModel(Path("x"), config.to_dict(), infos)
    before = torch.random.get_rng_state()
    assert scaling_problems({"m": source}, "m") == []
    assert torch.equal(torch.random.get_rng_state(), before)


def recipe_of(factors, folders) -> Recipe:
    """The path, each layer's projections divided by the product of the factors so far."""
    rules, running = [], 1.0
    for place, ((model, _), factor) in enumerate(zip(PATH, factors, strict=True)):
        running *= factor
        own = Rule("passthrough", {model: {}}, {}, (place, place + 1))
        rules += [
            replace(own, contains=(part,), scale=1 / running)
            for part in ("o_proj", "down_proj")
        ]
        rules.append(own)
    return Recipe(
        tuple(Source(name, str(folder)) for name, folder in folders.items()),
        (*rules, Rule("passthrough", {"a": {}})),
        slices=tuple(Slice({model: (own, own + 1)}) for model, own in PATH),
    )


def difference(folders, eps=None, *, rounded=False) -> float:
    """Of the logits, relative: hidden states really multiplied against folded projections.

    Args:
        folders: Of the sources a and b.
        eps: Of the norms, in place of the sources'.
        rounded: Projections are folded by the recipe, rounded to float32 as it is exported,
            and norms round to float32 as transformers' do; else everything is in float64.
    """
    factors = torch.empty(len(PATH)).uniform_(
        0.5, 2, generator=torch.Generator().manual_seed(3)
    )
    sources = {name: open_source(str(folder)) for name, folder in folders.items()}
    if eps is not None:
        for source in sources.values():
            source.config["rms_norm_eps"] = eps
    engine = MergeEngine(sources)

    def model_of(given):
        recipe = recipe_of(given, folders)
        model = engine.resident_model(recipe, dtype=torch.float64)
        engine.apply(recipe, model)
        for module in model.modules() if not rounded else ():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = partial(exact_norm, module)
        return model

    tokens = torch.arange(3, 23)[None]
    ones, given = [1.0] * len(PATH), factors.tolist()
    folded = model_of(given if rounded else ones)
    running = 1.0
    for layer, factor in zip(folded.model.layers if not rounded else (), given, strict=False):
        running *= factor
        layer.self_attn.o_proj.weight /= running
        layer.mlp.down_proj.weight /= running
    scaled = model_of(ones)
    with torch.no_grad():
        plain = scaled(tokens).logits
        for layer, factor in zip(scaled.model.layers, given, strict=True):
            layer.register_forward_pre_hook(
                lambda _, args, factor=factor: (factor * args[0], *args[1:])
            )
        ours, theirs = folded(tokens).logits, scaled(tokens).logits
    assert float((plain - theirs).norm() / theirs.norm()) > 0.01
    return float((ours - theirs).norm() / theirs.norm())


def exact_norm(norm, state):
    """What LlamaRMSNorm computes, in the state's own dtype."""
    variance = state.square().mean(-1, keepdim=True)
    return norm.weight * state * torch.rsqrt(variance + norm.variance_epsilon)


@pytest.fixture
def llamas(tmp_path):
    return {name: make_llama(tmp_path / name, seed=seed) for seed, name in enumerate("ab", 1)}


def test_folded_scales_give_the_logits_of_scaled_hidden_states(llamas):
    assert difference(llamas, eps=1e-12) <= 1e-5
    assert difference(llamas, eps=1e-12, rounded=True) <= 1e-5


def test_what_is_left_is_the_epsilon_of_the_norms(llamas):
    first, *others = (difference(llamas, eps) for eps in (1e-6, 1e-8, 1e-10))
    assert others == pytest.approx([1e-2 * first, 1e-4 * first], rel=0.05)


def test_folded_scales_of_trained_models_give_their_logits():
    folders = {"a": ZOO / "sort", "b": ZOO / "town"}
    assert difference(folders, eps=1e-8) <= 1e-5
    assert difference(folders) == pytest.approx(100 * difference(folders, eps=1e-8), rel=0.05)
    assert difference(folders, rounded=True) <= 1e-3
