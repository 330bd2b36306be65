"""Peak memory of exporting a merge of models that are larger than it.

    python benchmarks/export_memory.py [--gigabytes 4] [--operator ties] [--folder FOLDER]

A synthetic base and two experts of so many gigabytes each in bfloat16, in shards, are merged by
``evomerge merge`` in a process of its own. Printed are the most memory that the process held to
itself (anonymous pages; what it maps of the sources' files the system takes back when it needs
room), what it held before the merge began, and the sizes that the bar is made of: one output
shard and one tensor a source.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

SHARD_BYTES = 1_000_000_000
_HIDDEN, _INNER, _VOCABULARY = 2048, 5632, 32000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--operator", default="ties")
    parser.add_argument("--folder", type=Path, help="where models are made; a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        layers = round(arguments.gigabytes * 1e9 / 2 / _layer_entries())
        for seed, name in enumerate(("base", "a", "b")):
            largest = make_model(folder / name, layers, seed)
        size = sum(file.stat().st_size for file in (folder / "a").glob("*.safetensors"))
        said = f"{layers} layers; largest tensor {mib(largest)}"
        print(f"three models of {size / 1e9:.2f} GB, {said}")
        own = "{}" if arguments.operator == "linear" else "{density: 0.5}"
        (folder / "recipe.yaml").write_text(
            "recipe: 1\nbase: base\n"
            "sources: {base: {model: base}, a: {model: a}, b: {model: b}}\n"
            f"rules: [{{operator: {arguments.operator}, models: {{a: {own}, b: {own}}}}}]\n"
        )
        started, peak, seconds = watched(folder)
        print("| operator | held before, MiB | peak, MiB | merge holds, MiB | seconds |")
        print("|---|--:|--:|--:|--:|")
        print(
            f"| {arguments.operator} | {started / 2**20:.0f} | {peak / 2**20:.0f} | "
            f"{(peak - started) / 2**20:.0f} | {seconds:.0f} |"
        )
        print(
            f"bar: one shard of {mib(SHARD_BYTES)} and one tensor a source ({mib(3 * largest)})"
        )


def watched(folder: Path) -> tuple[int, int, float]:
    """Anonymous bytes as the output folder appears, most of all, and seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "evomerge", "merge", "recipe.yaml", "out", "--offline"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    before = peak = 0
    while process.poll() is None:
        held = anonymous_bytes(process.pid)
        peak = max(peak, held)
        if not any(folder.glob("*out*")) and not any(folder.glob(".*out*")):
            before = max(before, held)
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(process.returncode)
    return before, peak, time.perf_counter() - start


def anonymous_bytes(process: int) -> int:
    """Of a process, as Linux tells it; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def make_model(folder: Path, layers: int, seed: int) -> int:
    """A Llama of random weights, written shard by shard; the bytes of its largest tensor."""
    folder.mkdir()
    LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=_HIDDEN,
        intermediate_size=_INNER,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    ).save_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    where: dict[str, str] = {}
    outside = {
        "model.embed_tokens.weight": (_VOCABULARY, _HIDDEN),
        "model.norm.weight": (_HIDDEN,),
    }
    groups = [outside] + [layer_shapes(number) for number in range(layers)]
    for number, group in enumerate(groups):
        file = f"model-{number:05d}.safetensors"
        tensors = {
            name: torch.randn(shape, generator=generator).mul_(0.02).bfloat16()
            for name, shape in group.items()
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(group, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return 2 * _VOCABULARY * _HIDDEN


def layer_shapes(number: int) -> dict[str, tuple[int, ...]]:
    """Of one Llama layer."""
    own = {
        "input_layernorm": (_HIDDEN,),
        "post_attention_layernorm": (_HIDDEN,),
        "mlp.gate_proj": (_INNER, _HIDDEN),
        "mlp.up_proj": (_INNER, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INNER),
    } | {f"self_attn.{part}_proj": (_HIDDEN, _HIDDEN) for part in "qkvo"}
    return {f"model.layers.{number}.{name}.weight": shape for name, shape in own.items()}


def mib(size: int) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.0f} MiB"


def _layer_entries() -> int:
    return 4 * _HIDDEN**2 + 3 * _HIDDEN * _INNER + 2 * _HIDDEN


if __name__ == "__main__":
    main()
