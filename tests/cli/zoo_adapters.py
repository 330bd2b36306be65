"""LoRA adapters over the embedded base model, written without peft."""

import json
from pathlib import Path

import torch
from quickstart import ZOO
from safetensors.torch import load_file, save_file

from evomerge.merging.checkpoint import open_source

CHANGED = ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj")


def write_adapter(folder: Path, seed: int, rank: int = 2) -> Path:
    """An adapter of a rank for two matrices of the base."""
    generator = torch.Generator().manual_seed(seed)
    base = open_source(str(ZOO / "base"))
    tensors = {}
    for module in (f"model.{name}" for name in CHANGED):
        outputs, inputs = base.tensors[f"{module}.weight"].shape
        for letter, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            name = f"base_model.model.{module}.lora_{letter}.weight"
            tensors[name] = 0.1 * torch.randn(shape, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [name.rpartition(".")[2] for name in CHANGED],
        "base_model_name_or_path": str(ZOO / "base"),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def change(folder: Path, module: str) -> torch.Tensor:
    """What an adapter adds to a matrix of the base, in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.model.{module}.lora_{x}.weight"].double() for x in "AB")
    rank = config.get("rank_pattern", {}).get(f"model.{module}", config["r"])
    alpha = config.get("alpha_pattern", {}).get(f"model.{module}", config["lora_alpha"])
    return alpha / rank * b @ a
