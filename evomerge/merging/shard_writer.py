"""Safetensors shards written tensor by tensor, so that no shard is ever in memory."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from evomerge.core.errors import CheckpointError
from evomerge.merging.merge_plan import MergedTensor
from evomerge.merging.safetensors_header import FLOAT_BYTES, read_header

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """One output file and where each of its tensors goes."""

    file: str
    tensors: tuple[MergedTensor, ...]

    def offsets(self) -> dict[str, tuple[int, int]]:
        """First and one past the last byte by name; widest dtypes first keeps all aligned."""
        places, end = {}, 0
        for tensor in sorted(self.tensors, key=lambda t: -FLOAT_BYTES[t.dtype]):
            places[tensor.name] = (end, end + size_of(tensor))
            end += size_of(tensor)
        return places

    def header(self) -> bytes:
        """The file's opening: length, then JSON padded to a multiple of eight bytes."""
        dtypes = {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in self.tensors}
        content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        for name, place in self.offsets().items():
            dtype, shape = dtypes[name]
            content[name] = {"dtype": dtype, "shape": shape, "data_offsets": list(place)}
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def size_of(tensor: MergedTensor) -> int:
    """Bytes of a tensor."""
    return FLOAT_BYTES[tensor.dtype] * math.prod(tensor.shape)


def plan_shards(planned: Sequence[MergedTensor], shard_size: int) -> list[Shard]:
    """Tensors in order, cut into files of up to ``shard_size`` bytes.

    A tensor that is larger has a file of its own. One file is named as one.
    """
    groups: list[list[MergedTensor]] = []
    filled = 0
    for tensor in planned:
        if not groups or filled + size_of(tensor) > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += size_of(tensor)
    if len(groups) == 1:
        return [Shard("model.safetensors", tuple(groups[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", tuple(group))
        for number, group in enumerate(groups, 1)
    ]


def write_shards(
    folder: Path, shards: Sequence[Shard], tensors: Iterable[tuple[str, "Tensor"]]
) -> None:
    """Write the tensors, in the order of the shards, and the index if there are several.

    Raises:
        CheckpointError: What was written does not read back as planned.
        OSError: The disk is full, or another reason of the file system.
    """
    stream = iter(tensors)
    for shard in shards:
        header, offsets = shard.header(), shard.offsets()
        with (folder / shard.file).open("wb") as file:
            file.write(header)
            for _ in shard.tensors:
                name, tensor = next(stream)
                file.seek(len(header) + offsets[name][0])
                _write(file, tensor)
        _verify(folder, shard)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(size_of(t) for s in shards for t in s.tensors)},
            "weight_map": {t.name: shard.file for shard in shards for t in shard.tensors},
        }
        (folder / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=2) + "\n", encoding="utf-8"
        )


def _write(file: BinaryIO, tensor: "Tensor") -> None:
    import torch  # noqa: PLC0415 - see operators.contract

    entries = tensor.detach().cpu().contiguous().reshape(-1)
    file.write(entries.view(torch.uint8).numpy().data)


def _verify(folder: Path, shard: Shard) -> None:
    found = read_header(folder / shard.file)
    for tensor in shard.tensors:
        info = found.get(tensor.name)
        if info is None or (info.dtype, info.shape) != (tensor.dtype, tuple(tensor.shape)):
            raise CheckpointError(
                f"{shard.file}: {tensor.name} was not written as planned; export again."
            )
