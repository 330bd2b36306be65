"""Computed tensors kept up to a limit, so that a search does not compute them again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CACHE_BYTES = 1 << 30
"""Kept of one source's computed tensors; what does not fit is computed at each reading."""


class TensorCache:
    """The tensors computed first, until the limit is reached; none is given up for another.

    A merge reads every tensor once, in the same order for each candidate. With the usual
    rule, that the longest unused gives way, nothing would be left when it is asked for.

    Args:
        limit: In bytes.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._left = limit
        self._held: dict[str, Tensor] = {}

    def get(self, name: str, compute: "Callable[[], Tensor]") -> "Tensor":
        """The tensor of that name, computed unless it is held."""
        if name in self._held:
            return self._held[name]
        tensor = compute()
        size = tensor.numel() * tensor.element_size()
        if size <= self._left:
            self._left -= size
            self._held[name] = tensor
        return tensor
