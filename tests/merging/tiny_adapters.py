"""Adapters made by peft over tiny models, with weights that are not zero."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

peft = __import__("pytest").importorskip("peft", reason="peft is not installed")


def make_adapter(
    base: Path, folder: Path, *, seed: int = 0, model_class=AutoModelForCausalLM, **options
):
    """Save an adapter over a base; gives the peft model, still unmerged."""
    dtype = getattr(AutoConfig.from_pretrained(base), "dtype", None) or torch.float32
    model = model_class.from_pretrained(base, dtype=dtype)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(model, peft.LoraConfig(**options))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = (parameter + 0.1 * torch.randn_like(parameter)).data
    adapted.save_pretrained(folder)
    return adapted.eval()


def merged_weights(adapted) -> dict[str, torch.Tensor]:
    """peft's own merge of an adapted model, by tensor name."""
    return {n: t.detach().clone() for n, t in adapted.merge_and_unload().state_dict().items()}
