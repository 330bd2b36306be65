"""FLOPs a token, against torch's own counter and by hand for other architectures."""

import shutil

import pytest
import torch
from merging.tiny_llamas import make_llama, recipe_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evomerge.core.errors import ConfigError
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.model_size import flops_per_token

CONTEXT = 24


def told(folder, context: int = CONTEXT) -> int:
    engine = MergeEngine({"a": open_source(str(folder))})
    return flops_per_token(engine, recipe_of({"a": {}}, "passthrough"), context)


def counted(folder, context: int = CONTEXT) -> float:
    """Per token of a pass in which each token attends to all, as torch counts attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, context, dtype=torch.long))
    return counter.get_total_flops() / context


def saved(make, config, folder):
    with torch.random.fork_rng():
        make(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["a", "untied", "deep", "half_a"])
def test_a_llama_costs_what_torch_counts(llamas, name):
    assert told(llamas[name]) == pytest.approx(counted(llamas[name]), rel=1e-3)


@pytest.mark.parametrize("context", [1, 8, 48])
def test_the_cost_grows_with_the_context_as_torch_counts(llamas, context):
    assert told(llamas["a"], context) == pytest.approx(counted(llamas["a"], context), rel=1e-3)


def test_a_gpt2_costs_what_torch_counts(tmp_path):
    config = GPT2Config(vocab_size=60, n_positions=64, n_embd=32, n_layer=3, n_head=4)
    folder = saved(GPT2LMHeadModel, config, tmp_path / "gpt2")
    assert told(folder) == pytest.approx(counted(folder), rel=1e-3)


def test_heads_wider_than_the_model_are_counted(tmp_path):
    config = Qwen3Config(
        vocab_size=60, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24, max_position_embeddings=64,
    )  # fmt: skip
    folder = saved(Qwen3ForCausalLM, config, tmp_path / "qwen")
    assert told(folder) == pytest.approx(counted(folder), rel=1e-3)


def test_of_experts_only_the_active_ones_count(tmp_path):
    def mixture(experts: int, active: int) -> int:
        config = MixtralConfig(
            vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
            num_local_experts=experts, num_experts_per_tok=active, sliding_window=None,
        )  # fmt: skip
        return told(saved(MixtralForCausalLM, config, tmp_path / f"mixture{experts}{active}"))

    one_expert = 2 * 3 * 16 * 24
    assert mixture(4, 2) - mixture(4, 1) == one_expert
    gate_rows = 2 * 4 * 16
    assert mixture(8, 2) - mixture(4, 2) == gate_rows


def edited(folder, tmp_path, **changes):
    """A copy whose config.json has other values; None removes a key."""
    import json

    copy = shutil.copytree(folder, tmp_path / "edited")
    config = json.loads((copy / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


PER_ATTENDED = 2 * 2 * 32
"""FLOPs a layer and attended token of the tiny Llama: 4 heads of 8, keys and values."""


def test_a_window_limits_what_is_attended_to(llamas, tmp_path):
    whole = told(llamas["a"])
    windowed = told(edited(llamas["a"], tmp_path, sliding_window=10))
    assert whole - windowed == 2 * (CONTEXT - 10) * PER_ATTENDED


def test_a_window_that_is_not_used_limits_nothing(llamas, tmp_path):
    folder = edited(llamas["a"], tmp_path, sliding_window=10, use_sliding_window=False)
    assert told(folder) == told(llamas["a"])


def test_layers_may_attend_each_in_their_own_way(llamas, tmp_path):
    kinds = ["sliding_attention", "linear_attention"]
    folder = edited(llamas["a"], tmp_path, sliding_window=10, layer_types=kinds)
    assert told(llamas["a"]) - told(folder) == (CONTEXT - 10 + CONTEXT) * PER_ATTENDED


def test_a_layer_less_costs_less(llamas):
    two, three = told(llamas["a"]), told(llamas["deep"])
    matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)
    assert three - two == matrices + CONTEXT * PER_ATTENDED


def test_tied_and_untied_heads_cost_the_same_and_differ_in_parameters(llamas, tmp_path):
    untied, tied = llamas["untied"], make_llama(tmp_path / "tied", seed=5)
    assert told(untied) == told(tied)
    engine = MergeEngine({"u": open_source(str(untied)), "t": open_source(str(tied))})
    counts = [
        engine.parameter_count(recipe_of({name: {}}, "passthrough")) for name in ("u", "t")
    ]
    assert counts[0] - counts[1] == 64 * 32


def test_a_nested_text_configuration_is_used(llamas, tmp_path):
    import json

    config = json.loads((llamas["a"] / "config.json").read_text())
    gone = {"num_attention_heads": None, "hidden_size": None, "head_dim": None}
    folder = edited(llamas["a"], tmp_path, text_config=config, **gone)
    assert told(folder) == told(llamas["a"])


def test_a_configuration_without_heads_is_named(llamas, tmp_path):
    folder = edited(llamas["a"], tmp_path, num_attention_heads=None)
    with pytest.raises(ConfigError, match="tells neither num_attention_heads nor n_head"):
        told(folder)


def test_nothing_but_headers_is_read(llamas, monkeypatch):
    engine = MergeEngine({name: open_source(str(llamas[name])) for name in ("a", "b")})
    monkeypatch.delattr(type(engine.sources["a"]), "read")
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {"weight": 0.5}}, "linear")
    assert flops_per_token(engine, recipe, 8) == told(llamas["a"], 8)
