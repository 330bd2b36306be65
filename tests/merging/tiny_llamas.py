"""Tiny random Llamas with safetensors and a tokenizer, and one-rule recipes."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evomerge.core.recipe import Recipe, Rule, Source

VOCABULARY = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f"w{n}": n for n in range(3, 64)}


def make_llama(
    folder: Path, *, seed: int, tied: bool = True, dtype=torch.float32, layers=2, vocab=64
) -> Path:
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    model.to(dtype).save_pretrained(folder)
    raw = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(
    models: dict[str, dict], operator: str, base: str | None = None, **more
) -> Recipe:
    """One rule over everything; sources are named as the models are."""
    whole = more.pop("parameters", {})
    names = dict.fromkeys(([base] if base else []) + list(models))
    return Recipe(
        sources=tuple(Source(name, name) for name in names),
        rules=(Rule(operator, models, whole),),
        base=base,
        **more,
    )
