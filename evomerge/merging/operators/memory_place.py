"""Where a tensor lies in main memory, as the compiled loops take it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merging.operators.cpu_codes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Place = tuple[int, int]
"""Address and dtype code."""

NOWHERE: Place = (0, 0)
"""The place of a tensor that is not there."""

_CODES = {
    "torch.float32": FLOAT32,
    "torch.bfloat16": BFLOAT16,
    "torch.float16": FLOAT16,
    "torch.float64": FLOAT64,
}


def dtype_code(dtype: object) -> int | None:
    """The code of a torch dtype, None for others than floating ones of 16 to 64 bits."""
    return _CODES.get(str(dtype))


def place(tensor: "Tensor") -> Place | None:
    """The tensor's place; None where the loops cannot read it: on a device, or with gaps.

    The address is good while the tensor lives.
    """
    code = dtype_code(tensor.dtype)
    if code is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return None
    return tensor.data_ptr(), code


def places(*tensors: "Tensor") -> list[Place] | None:
    """The places of all, or None if one has none."""
    found = [place(tensor) for tensor in tensors]
    return None if any(one is None for one in found) else [one for one in found if one]


def addresses_and_codes(
    where: Sequence[Place],
) -> tuple["NDArray[np.uint64]", "NDArray[np.int64]"]:
    """Places as the loops take several of them."""
    addresses = np.array([address for address, _ in where], np.uint64)
    return addresses, np.array([code for _, code in where], np.int64)
