"""Tiny random decoders of many architectures, by whether scales fold into their projections."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers as hf

_ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
_TEXT = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **_ENDS,
}
_NO_GROUPS = {k: v for k, v in _TEXT.items() if k != "num_key_value_heads"}
_GPT = {"vocab_size": 64, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, **_ENDS}
_OPT = {
    "vocab_size": 64,
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 64,
    **_ENDS,
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_MOE = {
    **_TEXT,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}

Decoder = Callable[[], torch.nn.Module]

SCALABLE: dict[str, tuple[Decoder, tuple[str, ...]]] = {
    "llama": (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_TEXT)), ("o_proj", "down_proj")),
    "llama with biases": (
        lambda: hf.LlamaForCausalLM(
            hf.LlamaConfig(**_TEXT, attention_bias=True, mlp_bias=True)
        ),
        ("o_proj", "down_proj"),
    ),
    "mistral": (
        lambda: hf.MistralForCausalLM(hf.MistralConfig(**_TEXT)),
        ("o_proj", "down_proj"),
    ),
    "qwen2": (lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_TEXT)), ("o_proj", "down_proj")),
    "qwen3": (
        lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_TEXT, head_dim=24)),
        ("o_proj", "down_proj"),
    ),
    "gpt2": (lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**_GPT)), ("c_proj",)),
    "gpt_neox": (
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_NO_GROUPS)),
        ("attention.dense", "dense_4h_to_h"),
    ),
    "gpt_neox one after the other": (
        lambda: hf.GPTNeoXForCausalLM(
            hf.GPTNeoXConfig(**_NO_GROUPS, use_parallel_residual=False)
        ),
        ("attention.dense", "dense_4h_to_h"),
    ),
    "gptj": (
        lambda: hf.GPTJForCausalLM(hf.GPTJConfig(**_GPT, rotary_dim=8)),
        ("out_proj", "fc_out"),
    ),
    "phi": (
        lambda: hf.PhiForCausalLM(hf.PhiConfig(**_TEXT)),
        ("self_attn.dense", "fc2"),
    ),
    "phi3": (lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**_TEXT)), ("o_proj", "down_proj")),
    "opt": (lambda: hf.OPTForCausalLM(hf.OPTConfig(**_OPT)), ("out_proj", "fc2")),
    "falcon": (
        lambda: hf.FalconForCausalLM(
            hf.FalconConfig(
                vocab_size=64,
                hidden_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                **_ENDS,
            )
        ),
        ("attention.dense", "dense_4h_to_h"),
    ),
    "bloom": (
        lambda: hf.BloomForCausalLM(
            hf.BloomConfig(vocab_size=64, hidden_size=64, n_layer=3, n_head=4, **_ENDS)
        ),
        ("attention.dense", "dense_4h_to_h"),
    ),
    "stablelm": (
        lambda: hf.StableLmForCausalLM(hf.StableLmConfig(**_TEXT)),
        ("o_proj", "down_proj"),
    ),
    "starcoder2": (
        lambda: hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**_TEXT)),
        ("o_proj", "c_proj"),
    ),
    "gemma": (
        lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**_TEXT, head_dim=16)),
        ("o_proj", "down_proj"),
    ),
    "cohere": (
        lambda: hf.CohereForCausalLM(hf.CohereConfig(**_TEXT)),
        ("o_proj", "down_proj"),
    ),
    "granite": (
        lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**_TEXT, residual_multiplier=0.22)),
        ("o_proj", "down_proj"),
    ),
    "mixtral": (
        lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_TEXT, **_EXPERTS)),
        ("o_proj", ".w2"),
    ),
    "qwen2_moe": (
        lambda: hf.Qwen2MoeForCausalLM(
            hf.Qwen2MoeConfig(**_MOE, shared_expert_intermediate_size=48)
        ),
        ("o_proj", "down_proj"),
    ),
    "qwen3_moe": (
        lambda: hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**_MOE, head_dim=16)),
        ("o_proj", "down_proj"),
    ),
}
"""Each with parts of the names of its output projections."""

_FIXED = "dividing the projections changes nothing"
_SUM = "by a norm after the sum"

UNSCALABLE: dict[str, tuple[Decoder, str]] = {
    "olmo2": (lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**_TEXT)), _FIXED),
    "gemma2": (
        lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**_TEXT, head_dim=16)),
        _FIXED,
    ),
    "gemma3": (
        lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**_TEXT, head_dim=16)),
        _FIXED,
    ),
    "opt after the sum": (
        lambda: hf.OPTForCausalLM(hf.OPTConfig(**_OPT, do_layer_norm_before=False)),
        _SUM,
    ),
    "openai-gpt": (lambda: hf.OpenAIGPTLMHeadModel(hf.OpenAIGPTConfig(**_GPT)), _SUM),
}
"""Each with words of the reason."""


def save_decoder(make: Decoder, folder: Path, seed: int = 0) -> Path:
    """A decoder with random weights as transformers saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    return folder
