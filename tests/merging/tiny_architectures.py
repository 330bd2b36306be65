"""Tiny random models of many architectures, as transformers saves them."""

from pathlib import Path

import torch
import transformers as hf

_TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_PLAIN = {k: v for k, v in _TEXT.items() if k != "num_key_value_heads"}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
_ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
_T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, **_ENDS}


def _llava() -> torch.nn.Module:
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**_TEXT),
        vision_config=hf.CLIPVisionConfig(**_VISION, projection_dim=16),
    )
    return hf.LlavaForConditionalGeneration(config)


def _untied_t5() -> torch.nn.Module:
    config = hf.T5Config(**_T5, num_layers=2)
    config.tie_word_embeddings = False  # as of checkpoints from before transformers 5
    return hf.T5ForConditionalGeneration(config)


ARCHITECTURES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_TEXT, tie_word_embeddings=False)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_TEXT, tie_word_embeddings=True)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_TEXT, head_dim=8)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**_TEXT, head_dim=8)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32, **_ENDS)
    ),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(**_T5, num_layers=3, num_decoder_layers=2)
    ),
    "t5_untied": _untied_t5,
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**_PLAIN)),
    "bert_classifier": lambda: hf.BertForSequenceClassification(
        hf.BertConfig(**_PLAIN, num_labels=3)
    ),
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**_VISION, num_labels=5)),
    "llava": _llava,
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_TEXT, num_local_experts=3)),
}


def make_model(name: str, folder: Path, seed: int) -> Path:
    """A model of an architecture with random weights, norms and biases included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ARCHITECTURES[name]()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    """What the model is run on."""
    tokens = torch.arange(2, 14)[None]
    if name == "vit":
        return {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)}
    if name.startswith("t5"):
        return {"input_ids": tokens, "decoder_input_ids": tokens[:, :5]}
    return {"input_ids": tokens}
