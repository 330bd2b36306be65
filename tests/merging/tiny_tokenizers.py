"""Tiny trained BPE tokenizers of different words, and Llamas that use them."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = {
    "base": ["the cat sat on the mat", "a cat and a mat", "the other cat thinks"],
    "code": ["def add(a, b): return a + b", "return the other def", "add add return"],
    "maths": ["sum of the terms", "the sum is the sum of sums", "terms and sums"],
}


def make_tokenizer(
    folder: Path, texts: list[str], size: int = 290, added: tuple = (), bos: str = "<s>"
):
    """A byte-level BPE tokenizer trained on a few sentences, saved as transformers does."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[bos, "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_tokens([token for token in added if isinstance(token, str)])
    raw.add_special_tokens([token for token in added if isinstance(token, AddedToken)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token="</s>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_speaker(
    folder: Path, name: str, *, seed: int, rows: int | None = None, tied=True, **tokens
) -> Path:
    """A tiny Llama with a tokenizer of its own."""
    tokenizer = make_tokenizer(folder, TEXTS[name], **tokens)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer.get_vocab()),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
