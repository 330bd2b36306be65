"""The identity of a tokenizer: a digest of everything that turns text into tokens."""

import json

from transformers import PreTrainedTokenizerBase

from evomerge.core.digest import digest


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """32 hex digits that change with vocabulary, splitting rules and chat template."""
    if tokenizer.is_fast:
        # Padding and truncation are left over from the last call, not part of the tokenizer.
        plain = json.loads(tokenizer.backend_tokenizer.to_str())
        plain = {k: v for k, v in plain.items() if k not in ("padding", "truncation")}
    else:
        plain = tokenizer.get_vocab()
    return digest([type(tokenizer).__name__, plain, tokenizer.chat_template])
