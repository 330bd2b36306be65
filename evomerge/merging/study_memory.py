"""StudyMemory: what merges of one study share is computed once, and kept within bounds."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import torch

MEMORY_BYTES = 1 << 29
"""Kept in main memory by default; the rest goes to disk."""

DISK_BYTES = 1 << 36
"""Kept on disk by default; what goes beyond is computed again whenever it is needed."""

_FREE_SHARE = 0.5
"""Of the disk's free bytes, never taken more than this."""

_VARIANTS = 2
"""Kept of one quantity under different facts, since a gene that varies gives ever new ones."""


class StudyMemory:
    """Tensors that do not change from candidate to candidate, up to two limits.

    The first come stay in memory, later ones go to files that are mapped, and none gives way
    to another: a merge asks for everything once, in the same order for each candidate, so that
    giving up the longest unused would leave nothing. Files vanish with the process, however it
    ends, where the system lets open files be deleted.

    Args:
        memory_bytes: Limit in main memory, or on the accelerator where tensors lie there.
        disk_bytes: Limit on disk; tensors of accelerators do not go there.
        folder: Where files are made; by default the system's folder for temporary files.
    """

    def __init__(
        self,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
        folder: Path | None = None,
    ) -> None:
        self._memory_left, self._disk_left = memory_bytes, disk_bytes
        self._folder = folder
        self._held: dict[Hashable, dict[Hashable, _Held]] = {}
        self._lock = threading.Lock()

    def get(
        self,
        quantity: Hashable,
        facts: Hashable,
        make: Callable[[], Sequence[torch.Tensor]],
    ) -> Sequence[torch.Tensor]:
        """What ``make`` gives for a quantity under these facts, made unless it is held."""
        with self._lock:
            found = self._held.get(quantity, {}).get(facts)
        if found is not None:
            return found.tensors
        made = list(make())
        with self._lock:
            variants = self._held.setdefault(quantity, {})
            if facts in variants:  # another thread was quicker
                return variants[facts].tensors
            kept = self._kept(made)
            if kept is None and variants:
                self._give_back(variants.pop(next(iter(variants))))
                kept = self._kept(made)
            if kept is None:
                return made
            variants[facts] = kept
            if len(variants) > _VARIANTS:
                self._give_back(variants.pop(next(iter(variants))))
            return kept.tensors

    @property
    def memory_left(self) -> int:
        """Bytes of main memory that may still be taken."""
        return self._memory_left

    def _kept(self, made: "Sequence[torch.Tensor]") -> "_Held | None":
        size = sum(tensor.numel() * tensor.element_size() for tensor in made)
        if size <= self._memory_left:
            self._memory_left -= size
            return _Held(made, size, on_disk=False)
        on_cpu = all(tensor.device.type == "cpu" for tensor in made)
        if not on_cpu or size > self._disk_left:
            return None
        try:
            if size > self._free_bytes():
                return None
            mapped = [_mapped(tensor, self._folder) for tensor in made]
        except OSError:  # a full disk, no folder, a limit on files: it is made anew instead
            self._disk_left = 0
            return None
        self._disk_left -= size
        return _Held(mapped, size, on_disk=True)

    def _free_bytes(self) -> int:
        place = self._folder or Path(tempfile.gettempdir())
        return int(_FREE_SHARE * shutil.disk_usage(place).free)

    def _give_back(self, held: "_Held") -> None:
        if held.on_disk:
            self._disk_left += held.size
        else:
            self._memory_left += held.size


class _Held:
    """Tensors with the room that they take."""

    def __init__(self, tensors: Sequence[torch.Tensor], size: int, *, on_disk: bool) -> None:
        self.tensors, self.size, self.on_disk = tensors, size, on_disk


def _mapped(tensor: torch.Tensor, folder: Path | None) -> torch.Tensor:
    """The same tensor in a mapped file without a name."""
    if not tensor.numel():
        return tensor
    # Bytes, since numpy does not know every dtype of torch.
    content = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    with tempfile.TemporaryFile(dir=folder, prefix="evomerge-") as file:
        file.write(content.data)
        file.flush()
        mapped = np.memmap(file, np.uint8, mode="r+", shape=content.shape)
    return torch.from_numpy(mapped).view(tensor.dtype).view(tensor.shape)
