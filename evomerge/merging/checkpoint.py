"""Source models: folders of safetensors, opened by their headers and read tensor by tensor."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from evomerge.core.errors import CheckpointError
from evomerge.merging.json_object import read_json_object
from evomerge.merging.safetensors_header import TensorInfo, read_header
from evomerge.merging.tied_embeddings import embedding_name, head_name

if TYPE_CHECKING:
    import torch

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt"]
_SAMPLED_BLOCKS, _BLOCK_BYTES = 8, 4096

_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|attn\.masked_bias)$")
"""Constants that old checkpoints store beside the weights; the model code computes them."""


class SourceModel:
    """A checkpoint that may take part in a merge; nothing is read before it is asked for.

    Attributes:
        folder: The local folder.
        config: ``config.json``.
        tensors: The weights by name, in the order of the file or of the index.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], tensors: Mapping[str, TensorInfo]
    ) -> None:
        self.folder = folder
        self.config = config
        self.tensors = tensors
        self._handles: dict[Path, Any] = {}

    def read(self, name: str, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """A tensor in its stored dtype; on the CPU it is a view of the mapped file.

        Raises:
            CheckpointError: There is no such tensor, or the file changed under us.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder}: has no tensor {name!r}.")
        file = self.tensors[name].file
        try:
            if file not in self._handles:
                self._handles[file] = safe_open(file, framework="pt", device="cpu")
            tensor: torch.Tensor = self._handles[file].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: {name!r} cannot be read: {error}.") from error
        return tensor.to(device)

    @property
    def size(self) -> int:
        """Bytes of all weights as stored."""
        return sum(info.end - info.start for info in self.tensors.values())

    @cached_property
    def tied(self) -> bool:
        """Whether the output head is the input embedding.

        A missing head is tied whatever the config says. Where both are stored and the config
        calls them tied, they are tied only if they are equal; that reads the two tensors.
        """
        head, embedding = head_name(self.tensors), embedding_name(self.tensors)
        if head is None or embedding is None:
            return True
        if not self.config.get("tie_word_embeddings", False):
            return False
        if self.tensors[head].shape != self.tensors[embedding].shape:
            return False
        return self.read(head).equal(self.read(embedding))

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights, 32 hex digits: wherever they lie and however sharded.

        Covers every tensor's name, dtype, shape and up to eight evenly spread blocks of its
        bytes, so it takes milliseconds; an edit of a few single entries may go unseen.
        """
        seen = hashlib.sha256()
        for name in sorted(self.tensors):
            info = self.tensors[name]
            seen.update(f"{name}\0{info.dtype}\0{info.shape}\0".encode())
            with info.file.open("rb") as handle:
                for start, length in _sampled_blocks(info.start, info.end):
                    handle.seek(start)
                    seen.update(handle.read(length))
        return seen.hexdigest()[:32]


def open_source(model: str, *, offline: bool = False) -> SourceModel:
    """Open a local folder or a hub id (``org/name``, ``org/name@revision``).

    Reads config.json and safetensors headers only. What looks like a path is never asked of
    the hub: it exists, lies in an existing folder, or starts with ``.``, ``/`` or ``~``.

    Args:
        model: Folder or hub id.
        offline: Take a hub id only from the local cache.

    Raises:
        CheckpointError: Not found, no safetensors, an adapter, or damaged files.
    """
    folder = Path(model).expanduser() if _is_path(model) else _fetched(model, offline=offline)
    if not folder.is_dir():
        raise CheckpointError(f"{model}: no such folder; give a model folder or a hub id.")
    return SourceModel(folder, _read_config(folder), _read_tensors(folder))


def _is_path(model: str) -> bool:
    path = Path(model).expanduser()
    in_a_folder = len(path.parts) > 1 and path.parent.is_dir()
    return model[:1] in {".", "~", ""} or path.is_absolute() or path.exists() or in_a_folder


def _fetched(model: str, *, offline: bool) -> Path:
    name, _, revision = model.partition("@")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=_HUB_FILES,
                local_files_only=offline,
            )
        )
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = f"it cannot be fetched: {str(error).splitlines()[0].rstrip('.')}"
        if offline:
            reason = "it is not in the local cache and --offline forbids fetching it"
        raise CheckpointError(f"{model}: no such folder, and as a hub id {reason}.") from error


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if (folder / "adapter_config.json").exists() and not _has_weights(folder):
        raise CheckpointError(
            f"{folder}: is an adapter (adapter_config.json), not a model; merge it into full "
            "weights first, e.g. with peft's merge_and_unload() and save_pretrained()."
        )
    if not file.exists():
        raise CheckpointError(f"{folder}: has no config.json, so it is not a model folder.")
    return read_json_object(file)


def _has_weights(folder: Path) -> bool:
    return (folder / _SINGLE).exists() or (folder / _INDEX).exists()


def _read_tensors(folder: Path) -> dict[str, TensorInfo]:
    if not (folder / _SINGLE).exists() and (folder / _INDEX).exists():
        tensors = _read_sharded(folder)
    else:
        tensors = read_header(_single_file(folder))
    weights = {name: info for name, info in tensors.items() if not _is_buffer(info)}
    if not weights:
        raise CheckpointError(f"{folder}: the safetensors files hold no tensors.")
    return weights


def _single_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if folder / _SINGLE in found:
        return folder / _SINGLE
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"{folder}: {len(found)} safetensors files, but no {_INDEX} that joins them."
        )
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder}: only pickle files ({pickles[0]} …), which can run code when loaded; "
            "convert them once: AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)."
        )
    raise CheckpointError(f"{folder}: no safetensors file; expected {_SINGLE} or {_INDEX}.")


def _read_sharded(folder: Path) -> dict[str, TensorInfo]:
    index = folder / _INDEX
    try:
        where: dict[str, str] = dict(
            json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: cannot be read: {error!r}.") from error
    shards: dict[str, dict[str, TensorInfo]] = {}
    for shard in dict.fromkeys(where.values()):
        path = Path(shard)
        if path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{index}: shard {shard!r} lies outside of the folder.")
        if not (folder / path).is_file():
            raise CheckpointError(f"{index}: names shard {shard!r}, which is missing.")
        shards[shard] = read_header(folder / path)
    lost = [name for name, shard in where.items() if name not in shards[shard]]
    if lost:
        raise CheckpointError(f"{index}: {lost[0]!r} is not in shard {where[lost[0]]!r}.")
    return {name: shards[shard][name] for name, shard in where.items()}


def _is_buffer(info: TensorInfo) -> bool:
    causal_mask = info.name.endswith("attn.bias") and len(info.shape) == 4  # GPT-2's
    return causal_mask or _BUFFERS.search(info.name) is not None


def _sampled_blocks(start: int, end: int) -> list[tuple[int, int]]:
    length = end - start
    if length <= _SAMPLED_BLOCKS * _BLOCK_BYTES:
        return [(start, length)]
    last = length - _BLOCK_BYTES
    offsets = [last * k // (_SAMPLED_BLOCKS - 1) for k in range(_SAMPLED_BLOCKS)]
    return [(start + offset, _BLOCK_BYTES) for offset in offsets]
