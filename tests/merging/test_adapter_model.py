import json
from pathlib import Path

import pytest
import torch
from merging.tiny_adapters import make_adapter, merged_weights, peft
from merging.tiny_architectures import ARCHITECTURES, inputs_of, make_model
from merging.tiny_llamas import make_llama, recipe_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from evomerge.core.errors import CheckpointError
from evomerge.merging.adapter_model import AdaptedModel
from evomerge.merging.adapter_weights import read_adapter
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export

ATTENTION = ["q_proj", "v_proj"]


def adapted_source(base: Path, adapter: Path):
    return open_source(f"{base}+{adapter}")


def largest_difference(source, merged) -> float:
    """Between every tensor of a source and what peft merged."""
    return max(
        float((source.read(name).double() - merged[name].double()).abs().max())
        for name in source.tensors
    )


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION},
        {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION, "use_rslora": True},
        {"r": 3, "target_modules": r".*layers\.1\.mlp\.(up|down)_proj"},
        {"r": 2, "target_modules": ["o_proj", "up_proj"], "layers_to_transform": [1]},
        {
            "r": 4,
            "target_modules": [*ATTENTION, "up_proj"],
            "rank_pattern": {"v_proj": 2, r"layers\.1\.mlp\.up_proj": 5},
            "alpha_pattern": {"layers.0.self_attn.q_proj": 32, "up_proj": 3},
        },
        {"r": 4, "target_modules": ["embed_tokens", "q_proj"]},
        {"r": 4, "target_modules": ATTENTION, "modules_to_save": ["norm", "up_proj"]},
    ],
    ids=["lora", "rslora", "pattern", "one_layer", "patterns", "embedding", "saved"],
)
def test_base_and_adapter_are_what_peft_merges(llamas, tmp_path, options):
    adapted = make_adapter(llamas["base"], tmp_path / "adapter", **options)
    source = adapted_source(llamas["base"], tmp_path / "adapter")
    base = open_source(str(llamas["base"]))
    assert any(not torch.equal(source.read(n), base.read(n)) for n in base.tensors)
    assert largest_difference(source, merged_weights(adapted)) < 1e-6


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_matrices_of_gpt2_are_transposed_and_biases_taken(tmp_path, bias):
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, bos_token_id=0)
    config.eos_token_id = 0
    base = tmp_path / "gpt2"
    GPT2LMHeadModel(config).save_pretrained(base)
    adapted = make_adapter(
        base, tmp_path / "adapter", r=4, target_modules=["c_attn", "c_proj"], bias=bias
    )
    if bias == "lora_only":  # peft saves the biases of adapted layers only
        assert any(
            "bias" in n for n in load_file(tmp_path / "adapter/adapter_model.safetensors")
        )
    source = adapted_source(base, tmp_path / "adapter")
    # c_proj of attention is square: only the configuration tells which way it lies
    assert largest_difference(source, merged_weights(adapted)) < 1e-6


def test_a_bias_of_the_factors_own_is_added(tmp_path, llamas):
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=4, bos_token_id=0)
    config.eos_token_id = 0
    base = tmp_path / "gpt2"
    GPT2LMHeadModel(config).save_pretrained(base)
    adapted = make_adapter(
        base, tmp_path / "adapter", r=4, target_modules=["c_attn"], lora_bias=True
    )
    source = adapted_source(base, tmp_path / "adapter")
    assert largest_difference(source, merged_weights(adapted)) < 1e-6


def test_half_precision_is_computed_in_float32_and_rounded_once(llamas, tmp_path):
    make_adapter(llamas["half_base"], tmp_path / "adapter", r=4, target_modules=["q_proj"])
    source = adapted_source(llamas["half_base"], tmp_path / "adapter")
    base = open_source(str(llamas["half_base"]))
    factors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    a, b = (
        factors[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{f}.weight"].float()
        for f in "AB"
    )
    expected = (base.read(name).float() + 8 / 4 * b @ a).bfloat16()
    assert source.tensors[name].dtype == "BF16"
    assert torch.equal(source.read(name), expected)


def test_a_head_trained_over_a_tied_base_is_a_head_of_its_own(llamas, tmp_path):
    adapted = make_adapter(
        llamas["base"], tmp_path / "adapter", r=4, target_modules=["lm_head"]
    )
    source = adapted_source(llamas["base"], tmp_path / "adapter")
    assert not source.tied
    engine = MergeEngine({"x": source})
    recipe = recipe_of({"x": {}}, "passthrough")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, adapted(tokens).logits)


def test_adapters_stack(llamas, tmp_path):
    for number in (1, 2):
        make_adapter(
            llamas["base"], tmp_path / f"{number}", seed=number, r=2, target_modules=["q_proj"]
        )
    both = open_source(f"{llamas['base']}+{tmp_path / '1'}+{tmp_path / '2'}")
    base = open_source(str(llamas["base"]))
    first, second = (adapted_source(llamas["base"], tmp_path / n) for n in "12")
    name = "model.layers.1.self_attn.q_proj.weight"
    expected = first.read(name) + second.read(name) - base.read(name)
    torch.testing.assert_close(both.read(name), expected)


def test_a_merge_of_adapters_exports_a_model_that_loads(llamas, tmp_path):
    for number in (1, 2):
        make_adapter(
            llamas["base"],
            tmp_path / f"{number}",
            seed=number,
            r=number,
            target_modules=ATTENTION,
        )
    sources = {"one": adapted_source(llamas["base"], tmp_path / "1")}
    sources["two"] = adapted_source(llamas["base"], tmp_path / "2")
    recipe = recipe_of({"one": {"weight": 0.5}, "two": {"weight": 0.5}}, "linear")
    export(MergeEngine(sources), recipe, tmp_path / "out", card="", recipe_text="")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name in sources["one"].tensors:
        mean = (sources["one"].read(name) + sources["two"].read(name)) / 2
        torch.testing.assert_close(loaded[name], mean)


def test_the_fingerprint_covers_base_adapter_and_scale(llamas, tmp_path):
    for base in ("base", "a"):
        make_adapter(llamas[base], tmp_path / base, r=4, target_modules=ATTENTION)
    found = {
        adapted_source(llamas["base"], tmp_path / "base").fingerprint,
        adapted_source(llamas["a"], tmp_path / "base").fingerprint,
        open_source(str(llamas["base"])).fingerprint,
    }
    again = adapted_source(llamas["base"], tmp_path / "base").fingerprint
    config = tmp_path / "base/adapter_config.json"
    plain = json.loads(config.read_text())
    config.write_text(json.dumps(plain | {"lora_alpha": 9}))
    found.add(adapted_source(llamas["base"], tmp_path / "base").fingerprint)
    assert len(found) == 4
    assert again in found


def test_products_are_kept_up_to_the_limit(llamas, tmp_path):
    make_adapter(llamas["base"], tmp_path / "adapter", r=4, target_modules=ATTENTION)
    base, adapter = open_source(str(llamas["base"])), read_adapter(tmp_path / "adapter")
    first = "model.layers.0.self_attn.q_proj.weight"  # 32 × 32 in float32
    second = "model.layers.1.self_attn.q_proj.weight"
    source = AdaptedModel(base, adapter, cache_bytes=5000)
    kept = source.read(first)
    source.read(second)
    assert source.read(first) is kept
    assert source.read(second) is not source.read(second)
    assert torch.equal(source.read(second), AdaptedModel(base, adapter).read(second))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "IA3"}, "type IA3"),
        ({"init_lora_weights": "pissa"}, "pissa.*changed the base"),
        ({"layer_replication": [[0, 2]]}, "stacked anew"),
        ({"r": 9}, "has rank 4.*it is 9"),
        ({"rank_pattern": {"(": 3}}, "a value is wrong"),
        ({"alpha_pattern": {"q_proj": "high"}}, "must be a number"),
    ],
    ids=["dora", "ia3", "pissa", "replication", "rank", "regex", "alpha"],
)
def test_what_is_no_plain_lora_is_refused_with_its_reason(llamas, tmp_path, change, message):
    make_adapter(llamas["base"], tmp_path / "adapter", r=4, target_modules=ATTENTION)
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        adapted_source(llamas["base"], tmp_path / "adapter")


def test_a_real_dora_adapter_is_refused(llamas, tmp_path):
    make_adapter(llamas["base"], tmp_path / "adapter", target_modules=ATTENTION, use_dora=True)
    with pytest.raises(CheckpointError, match="DoRA"):
        adapted_source(llamas["base"], tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused_by_every_tensor(llamas, tmp_path):
    wider = make_llama(tmp_path / "wider", seed=1, layers=3)
    make_adapter(wider, tmp_path / "deep", r=2, target_modules=["q_proj", "o_proj"])
    with pytest.raises(CheckpointError, match=r"layers\.2\.self_attn") as refused:
        adapted_source(llamas["base"], tmp_path / "deep")
    assert len(str(refused.value).splitlines()) == 2


def test_factors_of_other_sizes_are_refused(llamas, tmp_path):
    make_adapter(llamas["base"], tmp_path / "adapter", r=4, target_modules=["q_proj"])
    file = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(file)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    save_file(weights | {name: torch.ones(16, 4)}, file)
    with pytest.raises(CheckpointError, match=r"B A is \[16, 32\].*is \[32, 32\]"):
        adapted_source(llamas["base"], tmp_path / "adapter")


def test_adapters_in_pickles_are_refused(llamas, tmp_path):
    make_adapter(llamas["base"], tmp_path / "adapter", r=4, target_modules=["q_proj"])
    file = tmp_path / "adapter/adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(CheckpointError, match="from safetensors only"):
        open_source(f"{llamas['base']}+{tmp_path / 'adapter'}", allow_pickle=True)


def test_a_plus_in_a_folders_name_parts_nothing(tmp_path, llamas):
    (tmp_path / "c++").mkdir()
    base = make_llama(tmp_path / "c++/a+b", seed=3)
    assert not isinstance(open_source(str(base)), AdaptedModel)
    make_adapter(base, tmp_path / "x+y", r=2, target_modules=["q_proj"])
    assert isinstance(open_source(f"{base}+{tmp_path / 'x+y'}"), AdaptedModel)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["trained", "resized_only", "low_rank"],
)
def test_a_resized_vocabulary_comes_with_the_adapter(llamas, tmp_path, options):
    model = AutoModelForCausalLM.from_pretrained(llamas["base"])
    with torch.random.fork_rng():
        model.resize_token_embeddings(70)
        adapted = peft.get_peft_model(
            model, peft.LoraConfig(r=2, init_lora_weights=False, **options)
        )
    adapted.save_pretrained(tmp_path / "adapter")
    source = adapted_source(llamas["base"], tmp_path / "adapter")
    merged = merged_weights(adapted)
    assert set(source.tensors) <= set(merged)
    torch.testing.assert_close(
        source.read("model.embed_tokens.weight"), merged["model.embed_tokens.weight"]
    )
    assert source.tensors["model.embed_tokens.weight"].shape == (70, 32)
    assert source.config["vocab_size"] == 70
    assert source.tokenizer_folder == llamas["base"]
    (tmp_path / "adapter/tokenizer.json").write_text("{}")
    assert source.tokenizer_folder == tmp_path / "adapter"


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("vit", ["q_proj"]),
        ("llava", r".*language_model.*\.v_proj"),
        ("t5", ["q", "wo"]),
        ("bert", ["query", "decoder"]),
    ],
)
def test_adapters_fit_where_transformers_names_modules_otherwise(tmp_path, name, modules):
    base = make_model(name, tmp_path / "base", 3)
    model_class = type(ARCHITECTURES[name]())
    adapted = make_adapter(
        base, tmp_path / "adapter", model_class=model_class, r=2, target_modules=modules
    )
    source = adapted_source(base, tmp_path / "adapter")
    engine = MergeEngine({"x": source})
    recipe = recipe_of({"x": {}}, "passthrough")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    with torch.no_grad():
        ours, theirs, before = (
            m(**inputs_of(name)).logits
            for m in (model, adapted, model_class.from_pretrained(base).eval())
        )
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, before, atol=1e-3)
