"""DeviceTensors: source tensors on the device that merges them, kept or passed through."""

from collections.abc import Collection, Mapping

import torch

from evomerge.merging.checkpoint import SourceModel


class DeviceTensors:
    """Reads tensors of source models onto a device.

    Args:
        sources: Opened source models by name.
        kept: Those whose tensors stay on the device once they were read.
    """

    def __init__(self, sources: Mapping[str, SourceModel], kept: Collection[str] = ()) -> None:
        self._sources = sources
        self._kept = frozenset(kept)
        self._held: dict[tuple[str, str], torch.Tensor] = {}
        self._staging: torch.Tensor | None = None

    def read(
        self, model: str, name: str, device: str | torch.device, *, often: bool = False
    ) -> torch.Tensor:
        """A tensor in its stored dtype, not to be changed.

        Args:
            model: Name of the source.
            name: Of the tensor.
            device: Where it is wanted.
            often: It will be read again, so views of mapped files are worth keeping. Between
                large tensors that come and go, small ones that stay would part the memory.

        Raises:
            CheckpointError: There is no such tensor, or the file changed under us.
        """
        device = torch.device(device)
        held = self._held.get((model, name))
        if held is not None and held.device.type == device.type:
            return held
        source = self._sources[model]
        tensor = source.read(name)
        if model in self._kept:
            kept = tensor.to(device, copy=True)
            self._held[model, name] = kept
            return kept
        if device.type != "cpu":
            return self._passed(tensor, device)
        if often and type(source) is SourceModel:  # others compute what they read
            self._held[model, name] = tensor
        return tensor

    def lasts(self, model: str, device: str | torch.device) -> bool:
        """Whether a source's tensors, read often, stay where they are for this object's life.

        Those that are computed, or pass through to an accelerator, are made anew each time.
        """
        on_cpu = torch.device(device).type == "cpu"
        return model in self._kept or (on_cpu and type(self._sources[model]) is SourceModel)

    def _passed(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Through one pinned buffer: from mapped pages the copy would be made twice."""
        if device.type != "cuda":
            return tensor.to(device)
        size = tensor.numel() * tensor.element_size()
        if self._staging is None or self._staging.numel() < size:
            self._staging = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        staged = self._staging[:size].view(tensor.dtype).view(tensor.shape)
        staged.copy_(tensor)
        # The copy is waited for, since the next tensor comes through the same buffer.
        return staged.to(device)
