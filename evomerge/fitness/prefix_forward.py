"""PrefixForward: forward passes that begin behind layers which were computed before.

The layers of the pass that need not run are replaced by stand-ins, the last of which hands on
the stored hidden state; embeddings, masks and positions are computed as always. Batches and
kernels are those of the whole pass, so that results are equal bit for bit. Whether that holds
for a model is tried out on its first real batches.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.core.tensor_names import layer_stacks
from evomerge.fitness.prefix_states import PrefixStates, SharingStatistics

_UNABLE = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What a model raises whose layers cannot be left out."""

_LOOKS = 8
"""One candidate in so many is looked at while none has layers in common with others."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Handed:
    """What one layer hands to the next."""

    state: torch.Tensor
    length: int | None
    """Of the tuple that the layer returns, whose other entries are None; None: no tuple."""

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return self.state.numel() * self.state.element_size()

    def copied(self) -> "_Handed":
        """With a state of its own, since model code may write into what it is given."""
        return _Handed(self.state.clone(), self.length)

    def output(self) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
        """As the layer returns it."""
        if self.length is None:
            return self.state
        return self.state, *[None] * (self.length - 1)


class PrefixForward:
    """Computes a resident model's logits, sharing first layers with candidates before it.

    Whoever changes the model's weights says so: ``unknown`` before, and ``holds`` afterwards
    where it is known what they are. Nothing is shared while that is unknown.

    Args:
        model: In evaluation mode, on the device where it is to run. Its layers may be added,
            taken out and overwritten between passes.
        limit: Most bytes of states held; 0 shares nothing.
    """

    def __init__(self, model: torch.nn.Module, limit: int) -> None:
        self._model: Any = model
        self._states = PrefixStates[_Handed](limit)
        self._depth: int | None = None
        self._changes = 0
        self._tried: set[frozenset[str]] = set()  # names of a pass's inputs
        self._depths: set[int] = set()  # whose passes give the states that other depths give
        self._stack = _stack_name(model) if limit else None
        self._gives_up = self._stack is None

    @property
    def statistics(self) -> SharingStatistics:
        """What sharing has saved and holds."""
        return self._states.statistics

    @property
    def shares(self) -> bool:
        """Whether states are shared, as far as that has been tried."""
        return not self._gives_up

    @property
    def asks(self) -> bool:
        """Whether it is worth saying what the model holds now.

        Where candidates have had no layer in common for long, only some of them are looked at.
        """
        return self.shares and (self._states.promising or self._changes % _LOOKS == 0)

    def holds(self, before: str, layers: Sequence[str]) -> None:
        """Say what weights the model has now.

        Args:
            before: Identity of everything that is computed before the first layer.
            layers: Identity of each layer's weights, from the first on.
        """
        if not self._gives_up:
            self._states.begin(before, layers)
            self._depth = len(layers)

    def unknown(self) -> None:
        """Say that the model's weights change, or are not known."""
        self._depth = None
        self._changes += 1

    @contextmanager
    def unshared(self) -> Iterator[None]:
        """Passes within the block share nothing and leave nothing."""
        depth, self._depth = self._depth, None
        try:
            yield
        finally:
            self._depth = depth

    def logits(self, **inputs: Any) -> torch.Tensor:  # noqa: ANN401 - whatever the model takes
        """The model's logits, without gradients.

        Args:
            inputs: As the model takes them; tensors on any device.
        """
        device = self._model.device
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        with torch.no_grad():
            if self._depth is None or self._gives_up or len(self._layers()) != self._depth:
                return self._counted(moved)
            try:
                return self._shared(_digest(inputs), moved)
            except torch.OutOfMemoryError:
                self._refuse("their memory is needed otherwise")
            except _UNABLE as error:
                self._refuse(f"{type(error).__name__}: {error}")
            self._states.count(asked=0, run=self._depth)
            return self._whole(moved)

    def _counted(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        if self._stack is not None:
            layers = len(self._layers())
            self._states.count(asked=layers, run=layers)
        return self._whole(inputs)

    def _whole(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        logits: torch.Tensor = self._model(**inputs).logits
        return logits

    def _shared(self, batch: str, inputs: Mapping[str, Any]) -> torch.Tensor:
        names, layers = frozenset(inputs), len(self._layers())
        depth, handed = self._states.longest(batch)
        self._states.count(asked=layers, run=0)
        if names in self._tried and layers in self._depths:
            return self._from(depth, handed, batch, inputs)
        # A whole pass compares what it computes with the states that another depth left.
        logits = self._from(0, None, batch, inputs)
        if depth and not self._gives_up:
            self._depths.add(layers)
        if names not in self._tried and not self._gives_up and _is_finite(logits):
            self._try(names, batch, inputs, logits)
        return logits

    def _try(
        self, names: frozenset[str], batch: str, inputs: Mapping[str, Any], whole: torch.Tensor
    ) -> None:
        """Compare a whole pass with passes from its middle and last states on."""
        known = self._states.depths(batch)
        for depth in sorted({known[len(known) // 2], known[-1]}) if known else ():
            shared = self._from(depth, self._states.state(batch, depth), batch, inputs)
            if not self._gives_up and not torch.equal(shared, whole):
                self._refuse(f"passes from layer {depth} on give other logits than whole ones")
            if self._gives_up:
                return
            self._tried.add(names)
            self._depths.add(len(self._layers()))

    def _from(
        self, first: int, handed: _Handed | None, batch: str, inputs: Mapping[str, Any]
    ) -> torch.Tensor:
        """A pass from a layer on; keeps the states after those that run."""
        layers, path = self._layers(), self._states
        differing, last, kept = [], [], 0

        def passed(depth: int, output: object) -> None:
            nonlocal kept
            found = _handed(output)
            if depth == len(layers):
                last.append(found.state)
            if path.wants(batch, depth, found.size):
                path.keep(batch, depth, found.copied(), found.size)
                kept += 1
            elif path.has(batch, depth):
                known = path.state(batch, depth)
                if not torch.equal(known.state, found.state):
                    differing.append(depth)

        with _standing_in(layers, first, handed), _watched(layers, first, passed) as calls:
            logits = self._whole(inputs)
        if calls != [len(layers)]:
            raise RuntimeError(f"{calls[0]} calls reached the model's {len(layers)} layers")
        if kept and not all(map(_is_finite, last)):
            path.drop(batch)
        elif differing:
            self._refuse(
                f"what layer {differing[0]} gives depends on more than the layers before"
            )
        path.count(asked=0, run=len(layers) - first)
        path.touch(batch)
        return logits

    def _layers(self) -> torch.nn.ModuleList:
        found: torch.nn.ModuleList = self._model.get_submodule(self._stack)
        return found

    def _refuse(self, reason: str) -> None:
        self._gives_up = True
        self._states.clear()
        log.warning(
            "%s: layers that candidates have in common are computed for each, which is "
            "slower: %s.",
            type(self._model).__name__,
            reason,
        )


class _StandIn(torch.nn.Module):
    """Takes a layer's place for a pass; all but its computation is the layer's."""

    def __init__(self, layer: torch.nn.Module, handed: _Handed) -> None:
        super().__init__()
        self.__dict__["_layer"] = layer  # not as a part, whose parameters would be this one's
        self.__dict__["_handed"] = handed

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the layer has
        return getattr(self.__dict__["_layer"], name)

    def forward(self, *_args: object, **_inputs: object) -> object:
        """What the layer gave, whatever its inputs are."""
        return self.__dict__["_handed"].output()


@contextmanager
def _standing_in(
    layers: torch.nn.ModuleList, count: int, handed: _Handed | None
) -> Iterator[None]:
    """Replace the first layers, so that what follows gets what the last of them handed on."""
    if not count or handed is None:
        yield
        return
    replaced = list(layers)[:count]
    on_the_way, arriving = handed.copied(), handed.copied()
    try:
        for k, layer in enumerate(replaced):
            layers[k] = _StandIn(layer, arriving if k == count - 1 else on_the_way)
        yield
    finally:
        for k, layer in enumerate(replaced):
            layers[k] = layer


@contextmanager
def _watched(
    layers: torch.nn.ModuleList, first: int, passed: Callable[[int, object], None]
) -> Iterator[list[int]]:
    """Tell of each layer's output, by how many layers lie behind; yields how many do so far.

    Calls are counted, since one module may stand in several places.
    """
    behind = [first]

    def hook(_layer: torch.nn.Module, _inputs: object, output: object) -> None:
        behind[0] += 1
        passed(behind[0], output)

    modules = {id(layer): layer for layer in list(layers)[first:]}.values()
    handles = [layer.register_forward_hook(hook) for layer in modules]
    try:
        yield behind
    finally:
        for handle in handles:
            handle.remove()


def _handed(output: object) -> _Handed:
    """What a layer returned, told apart from what cannot be handed on by a state alone."""
    if isinstance(output, torch.Tensor):
        return _Handed(output, None)
    if isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor):
        if all(part is None for part in output[1:]):
            return _Handed(output[0], len(output))
        raise TypeError("layers hand on more than a hidden state")
    raise TypeError(f"layers return {type(output).__name__}, no hidden state")


def _stack_name(model: torch.nn.Module) -> str | None:
    """Where the one list of the model's layers is; None where there is no such list."""
    stacks = layer_stacks(model.state_dict())
    if len(stacks) != 1:
        return None
    (name,) = stacks
    try:
        found = model.get_submodule(name)
    except AttributeError:
        return None
    return name if isinstance(found, torch.nn.ModuleList) else None


def _is_finite(tensor: torch.Tensor) -> bool:
    low, high = tensor.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _digest(inputs: Mapping[str, Any]) -> str:
    """Identity of a batch, without what only tells which of its logits are wanted."""
    found = hashlib.sha256()
    for name in sorted(set(inputs) - {"logits_to_keep"}):
        value = inputs[name]
        if isinstance(value, torch.Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(content.numpy().data)
        else:
            found.update(f"{name} {value!r} ".encode())
    return found.hexdigest()
