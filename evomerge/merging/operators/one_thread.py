"""Matrix routines on one thread, so that a merge gives the same bits on any machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def one_thread(like: "Tensor") -> Iterator[None]:
    """The CPU's matrix routines on one thread in the block; nothing changes elsewhere."""
    import torch  # noqa: PLC0415 - see operators.contract

    threads = torch.get_num_threads()
    if like.device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
