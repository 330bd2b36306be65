"""Safetensors headers read and checked without reading any weights.

The format (https://github.com/huggingface/safetensors): eight little-endian bytes give the
length of a JSON header, the header gives every tensor's dtype, shape and place in the bytes
that follow it. So a truncated file shows in its size alone.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes an entry of the dtypes that can be merged."""

TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What torch calls them."""

_OTHER_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
_OTHER_BYTES |= {"U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "C64": 8}
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it looks like."""

    name: str
    dtype: str
    """As safetensors spells it: F32, BF16 …"""

    shape: tuple[int, ...]
    file: Path | None
    """The safetensors file; None where the tensor is computed or lies in another format."""

    start: int = 0
    """First byte in the file."""

    end: int = 0
    """One past the last byte in the file."""

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size; of a dtype that no safetensors file has, 0."""
        return self.entries * (FLOAT_BYTES | _OTHER_BYTES).get(self.dtype, 0)


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file by name, in the order of their bytes.

    Raises:
        CheckpointError: The file cannot be read, is not safetensors, or is truncated.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                raise CheckpointError(_not_a_header(file, size, length))
            header = json.loads(handle.read(length))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CheckpointError(
            f"{file}: the safetensors header is damaged ({error}); fetch the file again."
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: the safetensors header is no JSON object.")
    header.pop("__metadata__", None)
    tensors = [_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
    promised = max((tensor.end for tensor in tensors), default=8 + length)
    if promised != size:
        raise CheckpointError(
            f"{file}: the header promises {promised} bytes, the file has {size}; "
            f"{'it is truncated' if size < promised else 'it is damaged'}, fetch it again."
        )
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda t: (t.start, t.name))}


def _not_a_header(file: Path, size: int, length: int) -> str:
    with file.open("rb") as handle:
        opening = handle.read(64)
    if opening.startswith(b"version https://git-lfs"):
        return f"{file}: is a git-lfs pointer, not the weights; run 'git lfs pull' beside it."
    return (
        f"{file}: is not a safetensors file or is truncated (header of {length} bytes "
        f"announced, file of {size} bytes); fetch it again."
    )


def _tensor(file: Path, name: str, entry: Any, origin: int) -> TensorInfo:  # noqa: ANN401 - JSON
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        start, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: the header's entry for {name!r} is damaged.") from error
    width = (FLOAT_BYTES | _OTHER_BYTES).get(dtype)
    wrong_size = width is not None and end - start != width * math.prod(shape)
    if start < 0 or end < start or min(shape, default=0) < 0 or wrong_size:
        raise CheckpointError(
            f"{file}: {name!r} has shape {list(shape)} in {dtype}, "
            f"but its bytes go from {start} to {end}."
        )
    return TensorInfo(name, dtype, shape, file, origin + start, origin + end)
