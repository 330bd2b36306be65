"""Model folders and files of safetensors or PyTorch weights, opened by their headers."""

import json
import re
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError
from evomerge.merging.json_object import read_json_object
from evomerge.merging.pickled_model import PICKLES, open_pickles
from evomerge.merging.safetensors_header import TensorInfo, read_header
from evomerge.merging.source_model import SourceModel

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"

_BUFFERS = re.compile(
    r"(rotary_emb\.inv_freq|attn\.masked_bias|embeddings\.position_ids|num_batches_tracked)$"
)
"""Constants and counters stored beside the weights; the model code computes them."""


def open_place(place: Path, *, allow_pickle: bool = False) -> SourceModel:
    """Open a model folder, or a single file of weights; only headers are read.

    Args:
        place: A folder with config.json, or a safetensors or PyTorch file.
        allow_pickle: Whether PyTorch files may be read, by ``torch.load(weights_only=True)``.

    Raises:
        CheckpointError: No weights, an adapter, damaged files, or pickles not allowed.
    """
    if place.is_file():
        return _open_file(place, allow_pickle=allow_pickle)
    config = _read_config(place)
    found = _safetensors(place)
    if found is not None:
        return _without_buffers(SourceModel(place, config, found))
    return _without_buffers(_open_pickles(place, config, allow_pickle=allow_pickle))


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and no weights of a model."""
    weights = (folder / _SINGLE).exists() or (folder / _INDEX).exists()
    return (folder / _ADAPTER).exists() and not weights


def _open_file(file: Path, *, allow_pickle: bool) -> SourceModel:
    """A state dict: weights without a configuration, though one beside it is taken along."""
    beside = file.with_name("config.json")
    config = read_json_object(beside) if beside.is_file() else {}
    place = file.parent if config else file
    if file.suffix == ".safetensors":
        return _without_buffers(SourceModel(place, config, read_header(file)))
    if not any(file.match(pattern) for pattern in PICKLES):
        raise CheckpointError(
            f"{file}: is neither safetensors nor PyTorch ({', '.join(PICKLES)}); "
            "give a model folder, or a file of one of these kinds."
        )
    if not allow_pickle:
        raise CheckpointError(_pickles_refused(f"{file}: a pickle file"))
    return _without_buffers(open_pickles(place, config, [file]))


def _read_config(folder: Path) -> dict[str, Any]:
    if is_adapter(folder):
        raise CheckpointError(
            f"{folder}: is an adapter ({_ADAPTER}), not a model; name it over its base, as "
            f"BASE+{folder.name}."
        )
    file = folder / "config.json"
    if not file.exists():
        raise CheckpointError(f"{folder}: has no config.json, so it is not a model folder.")
    return read_json_object(file)


def _safetensors(folder: Path) -> dict[str, TensorInfo] | None:
    """The tensors of the folder's safetensors files; None where it has none."""
    if (folder / _SINGLE).exists():
        return read_header(folder / _SINGLE)
    if (folder / _INDEX).exists():
        return _read_sharded(folder)
    found = sorted(f for f in folder.glob("*.safetensors") if not f.match("adapter_*"))
    if len(found) > 1:
        raise CheckpointError(
            f"{folder}: {len(found)} safetensors files, but no {_INDEX} that joins them."
        )
    return read_header(found[0]) if found else None


def _open_pickles(folder: Path, config: dict[str, Any], *, allow_pickle: bool) -> SourceModel:
    index = folder / "pytorch_model.bin.index.json"
    if index.exists():
        files = [folder / shard for shard in dict.fromkeys(_weight_map(index).values())]
    else:
        files = sorted({file for pattern in PICKLES for file in folder.glob(pattern)})
        files = [file for file in files if file.name not in _NO_WEIGHTS]
    if not files:
        raise CheckpointError(f"{folder}: no safetensors file; expected {_SINGLE} or {_INDEX}.")
    if not allow_pickle:
        raise CheckpointError(
            _pickles_refused(f"{folder}: only pickle files ({files[0].name} …)")
        )
    if len(files) > 1 and not index.exists():
        names = ", ".join(file.name for file in files[:3])
        raise CheckpointError(
            f"{folder}: {len(files)} PyTorch files ({names} …), but no {index.name} that joins "
            "them; name the file that you mean."
        )
    return open_pickles(folder, config, files)


_NO_WEIGHTS = frozenset(
    {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin"}
    | {"rng_state.pth", "scaler.pt"}
)


def _pickles_refused(what: str) -> str:
    return (
        f"{what}, which can run code when loaded; allow it with --allow-pickle (in an "
        "experiment file: 'models.allow_pickle: true'), which loads nothing but weights, or "
        "convert it once: AutoModel….from_pretrained(…).save_pretrained(…)."
    )


def _read_sharded(folder: Path) -> dict[str, TensorInfo]:
    index = folder / _INDEX
    where = _weight_map(index)
    shards = {shard: read_header(folder / shard) for shard in dict.fromkeys(where.values())}
    lost = [name for name, shard in where.items() if name not in shards[shard]]
    if lost:
        raise CheckpointError(f"{index}: {lost[0]!r} is not in shard {where[lost[0]]!r}.")
    return {name: shards[shard][name] for name, shard in where.items()}


def _weight_map(index: Path) -> dict[str, str]:
    """Shard by tensor; every shard exists and lies in the folder."""
    try:
        where: dict[str, str] = dict(
            json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: cannot be read: {error!r}.") from error
    for shard in dict.fromkeys(where.values()):
        path = Path(shard)
        if path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{index}: shard {shard!r} lies outside of the folder.")
        if not (index.parent / path).is_file():
            raise CheckpointError(f"{index}: names shard {shard!r}, which is missing.")
    return where


def _without_buffers(source: SourceModel) -> SourceModel:
    weights = {name: info for name, info in source.tensors.items() if not _is_buffer(info)}
    if not weights:
        raise CheckpointError(f"{source.folder}: the files hold no tensors.")
    source.tensors = weights
    return source.without_copies()


def _is_buffer(info: TensorInfo) -> bool:
    causal_mask = info.name.endswith("attn.bias") and len(info.shape) == 4  # GPT-2's
    return causal_mask or _BUFFERS.search(info.name) is not None
