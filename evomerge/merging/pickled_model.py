"""PyTorch's own weight files, read only where the user allows it.

``torch.load(weights_only=True)`` runs no code of the file's, but its unpickler has had holes,
so nobody meets it unasked. Files are mapped where their format permits it.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.core.errors import CheckpointError
from evomerge.merging.safetensors_header import TensorInfo
from evomerge.merging.source_model import SourceModel

if TYPE_CHECKING:
    import torch

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Names of files that may be PyTorch's."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training scripts put the weights beside other things."""


class PickledModel(SourceModel):
    """Weights from PyTorch files, which have no header that could be read without them.

    Args:
        folder: As of a source model.
        config: As of a source model.
        weights: The tensors by name.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], weights: "Mapping[str, torch.Tensor]"
    ) -> None:
        infos = {
            name: TensorInfo(name, _dtype_name(tensor), tuple(tensor.shape), None)
            for name, tensor in weights.items()
        }
        super().__init__(folder, config, infos)
        self._weights = weights

    def read(self, name: str, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """A tensor in its stored dtype, not to be changed.

        Raises:
            CheckpointError: There is no such tensor.
        """
        self._info(name)
        return self._weights[name].detach().contiguous().to(device)


def open_pickles(folder: Path, config: dict[str, Any], files: Sequence[Path]) -> PickledModel:
    """The weights of one or several PyTorch files, mapped into memory.

    Raises:
        CheckpointError: A file is damaged, or holds something else than tensors by name.
    """
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        weights |= _state_dict(file, _load(file))
    return PickledModel(folder, config, weights)


def _load(file: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    import torch  # noqa: PLC0415 - takes a second, and most sources are safetensors

    try:
        with file.open("rb") as handle:
            mapped = handle.read(4) == b"PK\x03\x04"  # files of before PyTorch 1.6 are no zip
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: holds more than weights, and so is not loaded: {_first_line(error)}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read: {_first_line(error)}") from error


def _state_dict(file: Path, content: Any) -> "dict[str, torch.Tensor]":  # noqa: ANN401
    import torch  # noqa: PLC0415 - as above

    inner = content
    if isinstance(content, Mapping):
        wrapped = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        inner = content[wrapped[0]] if wrapped else content
    tensors = isinstance(inner, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in inner.items()
    )
    if not tensors:
        raise CheckpointError(
            f"{file}: expected tensors by name, alone or under {' / '.join(_WRAPPERS)}; "
            f"found {_described(inner)}."
        )
    return dict(inner)


def _described(content: Any) -> str:  # noqa: ANN401 - whatever the file holds
    if not isinstance(content, Mapping):
        return type(content).__name__
    kinds = {str(key)[:40]: type(value).__name__ for key, value in content.items()}
    shown = ", ".join(f"{key}: {kind}" for key, kind in list(kinds.items())[:4])
    return f"a mapping with {shown}"


def _dtype_name(tensor: "torch.Tensor") -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _DTYPES.get(name, name.upper())


_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""As safetensors spells them."""


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".") + "."
