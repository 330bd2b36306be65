"""A merged model as a Hugging Face folder that appears whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

from evomerge.core.atomic_write import new_folder
from evomerge.core.errors import StoreError
from evomerge.core.recipe import Recipe
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.engine import MergeEngine
from evomerge.merging.merge_plan import MergedTensor
from evomerge.merging.safetensors_header import TORCH_NAMES
from evomerge.merging.shard_writer import plan_shards, size_of, write_shards
from evomerge.merging.stacked_config import stacked_config
from evomerge.merging.tied_embeddings import embedding_name

SHARD_SIZE = 5_000_000_000
"""Bytes a shard, as transformers writes them."""

_SPARE = 16_000_000
"""Bytes beside the weights: tokenizer, configuration, card."""

_COPIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "chat_template.*",
)
_TEMPLATES = "additional_chat_templates"
"""The folder of a tokenizer's chat templates beside the default one."""

_SIDE_FILES = ("generation_config.json", "preprocessor_config.json", "processor_config.json")


def export(
    engine: MergeEngine,
    recipe: Recipe,
    out: Path,
    *,
    card: str,
    recipe_text: str,
    shard_size: int = SHARD_SIZE,
) -> None:
    """Write the merged model with all that loads and explains it.

    Weights, config.json, tokenizer, generation_config.json and chat template of the
    reference, recipe.yaml, and README.md. At most one tensor's merge is in memory.

    Args:
        engine: With the recipe's sources open.
        recipe: What to merge.
        out: The new folder; must not exist, or be empty.
        card: Text of README.md.
        recipe_text: Text of recipe.yaml.
        shard_size: Largest file in bytes.

    Raises:
        ConfigError, CheckpointError, TrialError: As ``MergeEngine.tensors`` does.
        StoreError: ``out`` is in use, or the disk is full or refuses the write; nothing is
            left behind.
    """
    planned = engine.plan(recipe)
    reference = engine.sources[recipe.reference]
    needed = sum(size_of(tensor) for tensor in planned) + _SPARE
    _check_space(out, needed)
    shards = plan_shards(planned, shard_size)
    config = _with_dtype(stacked_config(recipe, engine.sources), planned)
    if embedding_name(reference.tensors) is not None:
        config["tie_word_embeddings"] = engine.is_tied(recipe)
    try:
        with new_folder(out) as partial:
            _copy_side_files(reference, partial)
            if reference.config:  # a plain state dict has none
                text = json.dumps(config, indent=2) + "\n"
                (partial / "config.json").write_text(text, "utf-8")
            (partial / "recipe.yaml").write_text(recipe_text, "utf-8")
            (partial / "README.md").write_text(card, "utf-8")
            write_shards(partial, shards, engine.tensors(recipe, reuse=True))
    except FileExistsError as error:
        raise StoreError(f"{out}: exists already; give a new folder.") from error
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written ({error.strerror or error}); nothing was left behind. "
            f"The model needs {_gigabytes(needed)}."
        ) from error


def _check_space(out: Path, needed: int) -> None:
    place = next(folder for folder in [out, *out.absolute().parents] if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"{out}: the model needs {_gigabytes(needed)}, "
            f"the disk has {_gigabytes(free)} free; nothing was written."
        )


def _with_dtype(config: dict[str, Any], planned: list[MergedTensor]) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    for tensor in planned:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + size_of(tensor)
    dtype = TORCH_NAMES[max(sizes, key=lambda name: sizes[name])]
    for key in [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]:
        config[key] = dtype
    return config


def _copy_side_files(reference: SourceModel, out: Path) -> None:
    folder = reference.tokenizer_folder
    found = {file for pattern in _COPIED for file in folder.glob(pattern)}
    found |= {file for name in _SIDE_FILES if (file := reference.side_file(name)) is not None}
    for file in sorted(found):
        if file.is_file():
            shutil.copyfile(file, out / file.name)
    if (folder / _TEMPLATES).is_dir():
        shutil.copytree(folder / _TEMPLATES, out / _TEMPLATES)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
