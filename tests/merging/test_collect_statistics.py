"""Statistics of models against what they are defined as, and their files."""

import pytest
import torch
from merging.tiny_llamas import make_llama
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from evomerge.core.errors import CheckpointError, TrialError
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.collect_statistics import (
    COLLECTORS,
    ActivationCollector,
    Example,
    FisherCollector,
    GramCollector,
    collect,
)
from evomerge.merging.statistics_files import (
    Collected,
    SourceStatistics,
    StatisticsFile,
    needed_statistics,
    write_statistics,
)

EXAMPLES = [
    Example((0, 5, 9, 9, 30, 12), 1),
    Example((0, 44, 3, 17), 3),
    Example((0, 7, 8, 9, 10, 11, 12, 13), 5),
]
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def llama(llamas) -> LlamaForCausalLM:
    """Stored tied, so that its embedding is its head."""
    return LlamaForCausalLM.from_pretrained(llamas["a"]).eval()


def names(model) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def collected(kind, model, examples=EXAMPLES):
    return collect(COLLECTORS[kind](model, names(model)), examples)


# ---- what is collected


def test_fisher_is_the_mean_squared_gradient_of_the_targets_likelihood(llama):
    found = collected("fisher", llama)
    parameters = dict(llama.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_()
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for example in EXAMPLES:
        llama.zero_grad()
        logits = llama(torch.tensor([example.tokens])).logits[0]
        chances = logits.log_softmax(-1)
        picked = [chances[t - 1, example.tokens[t]] for t in range(example.target, len(logits))]
        sum(picked).backward()
        for name, parameter in parameters.items():
            expected[name] += parameter.grad.square() / len(EXAMPLES)
    entries = sum(tensor.numel() for tensor in expected.values())
    scale = sum(float(tensor.sum()) for tensor in expected.values()) / entries
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor, expected[name] / scale, atol=1e-6, rtol=1e-3, msg=name
        )
    assert sum(float(t.sum()) for t in found.values()) / entries == pytest.approx(1, rel=1e-4)


def inputs_of_first_layer(llama, norm=True) -> torch.Tensor:
    layer = llama.model.layers[0]
    rows = [llama.model.embed_tokens(torch.tensor(e.tokens)) for e in EXAMPLES]
    hidden = torch.cat(rows).detach()
    return layer.input_layernorm(hidden).detach() if norm else hidden


def test_gram_is_the_mean_outer_product_of_a_linear_layers_inputs(llama):
    found = collected("gram", llama)
    x = inputs_of_first_layer(llama)
    torch.testing.assert_close(found[Q], x.T @ x / len(x), atol=1e-5, rtol=1e-4)
    linear = {n for n, p in llama.named_parameters() if p.ndim == 2 and "embed" not in n}
    assert set(found) == linear
    assert found["model.layers.1.mlp.down_proj.weight"].shape == (48, 48)


def test_activations_are_the_mean_magnitudes_of_the_inputs_of_layers_and_norms(llama):
    found = collected("activations", llama)
    x = inputs_of_first_layer(llama)
    torch.testing.assert_close(found[Q], x.abs().mean(0), atol=1e-6, rtol=1e-5)
    before = inputs_of_first_layer(llama, norm=False)
    norm = found["model.layers.0.input_layernorm.weight"]
    torch.testing.assert_close(norm, before.abs().mean(0), atol=1e-6, rtol=1e-5)
    assert "model.norm.weight" in found
    assert not any("embed" in name for name in found)


def test_a_head_of_its_own_is_measured_a_tied_one_is_not(llamas):
    untied = LlamaForCausalLM.from_pretrained(llamas["untied"]).eval()
    assert collected("gram", untied)["lm_head.weight"].shape == (32, 32)
    assert "lm_head.weight" in collected("activations", untied)


def test_weights_stored_transposed_have_activations_that_broadcast_over_them():
    with torch.random.fork_rng():
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2)
        ).eval()
    found = collected("activations", model)
    weight = model.transformer.h[0].attn.c_attn.weight
    name = "transformer.h.0.attn.c_attn.weight"
    assert found[name].shape == (32, 1)
    assert torch.broadcast_shapes(found[name].shape, weight.shape) == weight.shape
    assert collected("gram", model) == {}


@pytest.mark.parametrize("kind", COLLECTORS)
def test_collecting_is_repeatable_and_leaves_no_trace(llama, kind):
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    state = torch.random.get_rng_state()
    first = collected(kind, llama)
    second = collected(kind, llama)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in llama.state_dict().items())
    assert not any(module._forward_pre_hooks for module in llama.modules())


@pytest.mark.parametrize("collector", [FisherCollector, GramCollector, ActivationCollector])
def test_the_size_announced_is_that_of_the_tensors(llama, collector):
    made = collector(llama, names(llama))
    tensors = collect(made, EXAMPLES)
    taken = sum(4 * tensor.numel() for tensor in tensors.values())
    assert taken <= made.size() <= 1.2 * taken


def test_a_model_that_computes_nan_is_refused(llama):
    llama.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(TrialError, match="not finite"):
        collected("gram", llama)


# ---- files


def written(path, kind, model, tensors) -> StatisticsFile:
    write_statistics(path, Collected(kind, model, "d" * 32, 3, 18), tensors)
    return StatisticsFile(path)


def test_a_file_gives_back_what_was_written_and_stores_equal_tensors_once(llama, tmp_path):
    tensors = collected("gram", llama)
    file = written(tmp_path / "gram.safetensors", "gram", "m", tensors)
    for name, tensor in tensors.items():
        assert torch.equal(file.read(name), tensor)
    assert file.read("model.norm.weight") is None
    assert file.collected == Collected("gram", "m", "d" * 32, 3, 18)
    # Of seven layers in a block, q, k and v share their input, and so do gate and up.
    assert file.path.stat().st_size < 0.7 * sum(4 * t.numel() for t in tensors.values())


def test_the_fingerprint_is_that_of_the_content_wherever_it_lies(llama, tmp_path):
    tensors = collected("activations", llama)
    one = written(tmp_path / "a.safetensors", "activations", "m", tensors)
    other = written(tmp_path / "sub" / "b.safetensors", "activations", "m", tensors)
    assert one.fingerprint == other.fingerprint
    tensors[Q] = tensors[Q] * 2
    changed = written(tmp_path / "c.safetensors", "activations", "m", tensors)
    assert changed.fingerprint != one.fingerprint


def test_what_is_no_statistics_file_is_refused_by_name(llamas, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is no statistics file"):
        StatisticsFile(llamas["a"] / "model.safetensors")
    with pytest.raises(CheckpointError, match="no such statistics file; make it with"):
        StatisticsFile(tmp_path / "none.safetensors")
    (tmp_path / "odd.safetensors").write_bytes(b"no header")
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        StatisticsFile(tmp_path / "odd.safetensors")


# ---- statistics of the sources of a recipe


@pytest.fixture
def sources(tmp_path):
    return {
        name: open_source(str(make_llama(tmp_path / name, seed=seed)))
        for seed, name in enumerate(("base", "a", "b"), 21)
    }


def recipe_of(operator: str, **statistics: str) -> Recipe:
    return Recipe(
        tuple(Source(n, n, statistics=statistics.get(n)) for n in ("base", "a", "b")),
        (Rule(operator, {"a": {}, "b": {}}),),
        base="base",
    )


def keep(source, kind, value: float, path=None):
    tensors = {Q: torch.full((2, 2), value), "model.layers.1.x.weight": torch.full((1,), value)}
    place = path or source.folder / "statistics" / f"{kind}.safetensors"
    write_statistics(place, Collected(kind, source.fingerprint, "", 1, 1), tensors)


def test_every_model_has_its_statistic_and_aim_has_the_bases(sources):
    assert needed_statistics(recipe_of("fisher")) == {"a": ("fisher",), "b": ("fisher",)}
    assert needed_statistics(recipe_of("aim")) == {"base": ("activations",)}
    assert needed_statistics(recipe_of("ties")) == {}


def test_statistics_are_found_in_the_models_folders_and_where_the_recipe_says(
    sources, tmp_path
):
    keep(sources["a"], "fisher", 1.0)
    keep(sources["b"], "fisher", 2.0, tmp_path / "elsewhere.safetensors")
    recipe = recipe_of("fisher", b=str(tmp_path / "elsewhere.safetensors"))
    files = SourceStatistics(sources)
    assert files.problems(recipe) == []
    found = files.of_rule("fisher", ("a", "b"), recipe, Q)
    assert [float(tensor[0, 0]) for tensor in found] == [1.0, 2.0]
    assert files.of_rule("fisher", ("b",), recipe, "model.norm.weight") == (None,)
    assert files.of_rule("ties", ("a", "b"), recipe, Q) == ()


def test_the_statistic_is_that_of_the_layer_that_the_recipe_takes(sources):
    from dataclasses import replace

    from evomerge.core.recipe import Slice

    keep(sources["a"], "fisher", 3.0)
    shifted = replace(
        recipe_of("fisher"),
        rules=(Rule("fisher", {"a": {}}),),
        slices=(Slice({"a": (1, 2)}), Slice({"a": (0, 1)})),
    )
    files = SourceStatistics(sources)
    (found,) = files.of_rule("fisher", ("a",), shifted, "model.layers.0.x.weight")
    assert float(found) == 3.0
    assert files.of_rule("fisher", ("a",), shifted, "model.layers.1.x.weight") == (None,)


def test_every_file_that_is_missing_or_does_not_fit_is_named_at_once(sources, tmp_path):
    keep(sources["a"], "gram", 1.0, tmp_path / "gram.safetensors")
    recipe = recipe_of("fisher", a=str(tmp_path / "gram.safetensors"))
    kind, missing = SourceStatistics(sources).problems(recipe)
    assert "holds 'gram', the recipe needs 'fisher'" in kind
    assert kind.startswith("source a: ")
    assert "fisher.safetensors: no such statistics file" in missing
    keep(sources["a"], "fisher", 1.0, tmp_path / "a.safetensors")
    keep(sources["b"], "fisher", 1.0)
    swapped = recipe_of("fisher", b=str(tmp_path / "a.safetensors"))
    problems = SourceStatistics(sources).problems(swapped)
    assert any("was collected from other weights" in problem for problem in problems)


def test_a_recipe_that_knows_its_statistics_refuses_others(sources):
    from dataclasses import replace

    keep(sources["base"], "activations", 1.0)
    recipe = recipe_of("aim")
    first = SourceStatistics(sources).fingerprint(recipe.sources[0], ["activations"])
    known = recipe.with_sources(
        {"base": replace(recipe.sources[0], statistics_fingerprint=first)}
    )
    assert SourceStatistics(sources).problems(known) == []
    keep(sources["base"], "activations", 2.0)
    (problem,) = SourceStatistics(sources).problems(known)
    assert problem.startswith("source base: its statistics are others than")
    assert known.digest != recipe.digest
