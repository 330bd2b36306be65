"""Factors: a low-rank matrix B A, in float64, and what can be done without forming it."""

from dataclasses import dataclass

import torch

_NEGLIGIBLE = 1e-7
"""Singular values below this share of the largest are rounding: factors are of float32."""


@dataclass(frozen=True)
class Factors:
    """The matrix B A."""

    b: torch.Tensor
    """(outputs, rank)"""

    a: torch.Tensor
    """(rank, inputs)"""

    @property
    def rank(self) -> int:
        """The inner dimension; the matrix may be of a lower rank."""
        return int(self.a.shape[0])

    def truncated(self, rank: int) -> "Factors":
        """The nearest matrix of at most this rank (Eckart-Young), in balanced factors."""
        if rank >= self.rank:
            return self
        q_b, r_b = torch.linalg.qr(self.b)
        q_a, r_a = torch.linalg.qr(self.a.T)
        u, sizes, v = torch.linalg.svd(r_b @ r_a.T)
        root = sizes[:rank].sqrt()
        return Factors(q_b @ u[:, :rank] * root, root[:, None] * (v[:rank] @ q_a.T))


def kept(sizes: torch.Tensor) -> int:
    """How many singular values, given in falling order, are more than rounding; at least 1."""
    return max(1, int((sizes > _NEGLIGIBLE * sizes[0]).sum())) if len(sizes) else 0
