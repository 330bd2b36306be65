"""Tensors that the compiled loops leave to tensor operations, as they do those of devices."""

import torch


def not_contiguous(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with gaps in memory; flattened it keeps them."""
    doubled = torch.zeros((*tensor.reshape(-1).shape, 2), dtype=tensor.dtype)
    doubled[:, 0] = tensor.reshape(-1)
    return doubled[:, 0]
