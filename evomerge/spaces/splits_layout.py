"""FlatLayout: the order in which a model's tensors are laid end to end, row by row.

The order is fixed, since it decides which weights lie on the same side of a cut: the input
embedding, the layers by number with the tensors of each by name, then what else is outside of
layers (final norm, head) by name. The unit is the row: an index of a tensor's first dimension.
A tensor of one dimension is one row.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from evomerge.core.tensor_names import layer_of


@dataclass(frozen=True)
class FlatTensor:
    """A tensor as so many rows of equal length."""

    name: str
    rows: int
    width: int
    """Entries a row."""

    @classmethod
    def of(cls, name: str, shape: Sequence[int]) -> "FlatTensor":
        """The tensor of a name and a shape."""
        if len(shape) > 1:
            return cls(name, shape[0], math.prod(shape[1:]))
        return cls(name, 1, math.prod(shape))


@dataclass(frozen=True)
class FlatLayout:
    """Tensors end to end; rows and coordinates are counted over all of them."""

    tensors: tuple[FlatTensor, ...]

    @classmethod
    def ordered(cls, tensors: Sequence[FlatTensor], embedding: str | None) -> "FlatLayout":
        """The layout of a model's tensors, given in any order.

        Args:
            tensors: All of them; those without entries are left out.
            embedding: The name of the input embedding, if there is one.
        """

        def place(tensor: FlatTensor) -> tuple[int, int, str]:
            if tensor.name == embedding:
                return 0, 0, tensor.name
            layer = layer_of(tensor.name)
            return (2, 0, tensor.name) if layer is None else (1, layer, tensor.name)

        filled = [tensor for tensor in tensors if tensor.rows * tensor.width]
        return cls(tuple(sorted(filled, key=place)))

    @property
    def rows(self) -> int:
        """Rows of all tensors."""
        return self.first_rows[-1]

    @property
    def entries(self) -> int:
        """Coordinates of the flat vector."""
        return self._first_entries[-1]

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """The row at which each tensor begins, and at last the number of rows."""
        return (0, *accumulate(tensor.rows for tensor in self.tensors))

    @cached_property
    def _first_entries(self) -> tuple[int, ...]:
        return (0, *accumulate(tensor.rows * tensor.width for tensor in self.tensors))

    def row_of(self, coordinate: int) -> int:
        """The row that holds a coordinate of the flat vector."""
        number = bisect_right(self._first_entries, coordinate) - 1
        within = coordinate - self._first_entries[number]
        return self.first_rows[number] + within // self.tensors[number].width

    def entries_before(self, row: int) -> int:
        """Coordinates in the rows before a row; for the number of rows, all of them."""
        number = min(bisect_right(self.first_rows, row) - 1, len(self.tensors) - 1)
        within = row - self.first_rows[number]
        return self._first_entries[number] + within * self.tensors[number].width
