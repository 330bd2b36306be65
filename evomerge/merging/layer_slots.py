"""Places for layers in a resident model, which show tensors of sources instead of copies."""

from collections.abc import Hashable, Sequence
from weakref import WeakValueDictionary

import torch


class LayerSlots:
    """The parameters of a resident model's layers, each of which has storage only if need be.

    A layer that a recipe takes whole shows the source's own tensor: the mapped file on the CPU,
    on an accelerator what is kept there. Where dtypes differ, or where the source computes what
    it reads, it shows a copy, made once however many slots show it and given up with the last
    of them. What is merged or scaled is written into storage of the slot's own, made when it is
    first needed and then kept. So the layers of a model need no more memory than the sources
    have and the slots that were ever written; slots never merged into need none.

    What a slot shows may be part of a file, and of other slots: nobody may write into it.
    Each parameter stays the same object, and so does its module with its layer's number.
    """

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        self._held: WeakValueDictionary[Hashable, torch.Tensor] = WeakValueDictionary()

    def add(self, like: torch.Tensor, device: torch.device) -> torch.nn.Parameter:
        """A parameter of this shape and dtype without storage; it reads as NaN."""
        unset = torch.full((), float("nan"), dtype=like.dtype, device=device)
        parameter = torch.nn.Parameter(unset.expand(like.shape), requires_grad=False)
        self._slots[id(parameter)] = _Slot(parameter)
        return parameter

    def __contains__(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor is one of the parameters."""
        return id(tensor) in self._slots

    def held(self, key: Hashable) -> torch.Tensor | None:
        """What was shown under a key, if it is still in use."""
        return self._held.get(key)

    def show(
        self, targets: Sequence[torch.Tensor], tensor: torch.Tensor, key: Hashable
    ) -> None:
        """Let slots show a tensor of their shape, dtype and device from now on."""
        self._held[key] = tensor
        for target in targets:
            slot = self._slots[id(target)]
            slot.parameter.data = tensor
            slot.shown = tensor

    def take_back(self, targets: Sequence[torch.Tensor]) -> None:
        """Give those that are slots storage of their own, good to be overwritten."""
        for target in targets:
            slot = self._slots.get(id(target))
            if slot is None:
                continue
            if slot.own is None:
                slot.own = torch.empty(target.shape, dtype=target.dtype, device=target.device)
            slot.parameter.data = slot.own
            slot.shown = None

    def own_bytes(self) -> int:
        """Of the storage that slots have of their own."""
        own = [slot.own for slot in self._slots.values() if slot.own is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in own)


class _Slot:
    """A parameter with what it shows, or may be written to."""

    def __init__(self, parameter: torch.nn.Parameter) -> None:
        self.parameter = parameter
        self.own: torch.Tensor | None = None
        self.shown: torch.Tensor | None = None
        """Held, since a parameter refers to the storage alone."""
