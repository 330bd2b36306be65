"""A small model run to see whether scales of hidden states fold into output projections."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from evomerge.core.tensor_names import layer_of
from evomerge.merging.resident_depth import layer_list
from evomerge.merging.resident_model import as_on_disk, build_resident_model
from evomerge.merging.source_model import SourceModel

_SCALE = 1.7
"""By which hidden states are multiplied; anything but 1 or a power of 2."""

_MAGNITUDE = 100.0
"""Of hidden states, beside whose square a norm's epsilon is nothing."""

_TOLERANCE = 1e-3
"""Relative; norms round to float32, and a false claim is off by a tenth or more."""

_TOKENS = 6


class ScaledLayers:
    """What the layers of an architecture make of hidden states and of their multiples.

    Args:
        source: A model of the architecture.
        config: Its config.json, for few layers and small sizes.
        dtype: To compute in.
        parts: Of the names of its output projections.

    Raises:
        CheckpointError: transformers cannot build it, or it has not one list of layers.
    """

    def __init__(
        self,
        source: SourceModel,
        config: Mapping[str, Any],
        dtype: torch.dtype,
        parts: Sequence[str],
    ) -> None:
        self._model: Any = build_resident_model(
            source, config, tied=source.tied, dtype=dtype, device="cpu"
        )
        self._layers = layer_list(self._model)
        self._parts = parts
        self._generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in dict.fromkeys(self._model.parameters()):
                self._fill(tensor)
        self._projections = self._find_projections()
        self._tokens = torch.arange(_TOKENS)[None]
        shape = (1, _TOKENS, _width(self._model))
        state = torch.randn(shape, generator=self._generator)
        self._hidden = _MAGNITUDE * state.to(dtype)

    def problems(self) -> list[str]:
        """Why scales cannot be folded, in plain words; empty if they can."""
        kind, parts = type(self._model).__name__, ", ".join(self._parts)
        with torch.no_grad():
            for number in range(len(self._layers)):
                if problem := self._layer_problem(number):
                    return [f"layers of {kind} {problem} (output projections: {parts})."]
            one, other = (self._logits(factor) for factor in (1.0, _SCALE))
        if _differ(one, other):
            return [
                f"{kind} does not normalise what its last layer gives, so that the scale of "
                "the residual stream reaches the output head."
            ]
        return []

    def _layer_problem(self, number: int) -> str | None:
        state = self._hidden
        with self._projections_times(number, 0.0):
            if _differ(self._through(number, state), state):
                return (
                    "change the hidden state otherwise than by adding what their output "
                    "projections write, as by a norm after the sum"
                )
        branch = self._through(number, state) - state
        scaled = self._through(number, _SCALE * state) - _SCALE * state
        with self._projections_times(number, 1 / _SCALE):
            divided = self._through(number, state) - state
        if not _differ(divided, branch):
            return (
                "normalise what their output projections write before they add it, so that "
                "dividing the projections changes nothing"
            )
        if _differ(_SCALE * divided, scaled):
            return (
                "do not ignore the scale of the hidden state that they read, or write into it "
                "by more than their output projections"
            )
        return None

    def _fill(self, tensor: torch.Tensor) -> None:
        values = torch.randn(tensor.shape, generator=self._generator)
        if tensor.dim() > 1:
            tensor.copy_(values / tensor.shape[-1] ** 0.5)
        else:
            tensor.copy_(1 + 0.1 * values)

    def _find_projections(self) -> list[list[torch.Tensor]]:
        """Parameters, or parts of them, by the names that checkpoints have for them."""
        state = dict(self._model.state_dict(keep_vars=True))
        found: list[list[torch.Tensor]] = [[] for _ in self._layers]
        for name, tensor in (as_on_disk(self._model, state) or state).items():
            layer = layer_of(name)
            if layer is not None and any(part in name for part in self._parts):
                found[layer].append(tensor.detach())
        return found

    @contextmanager
    def _projections_times(self, number: int, factor: float) -> Iterator[None]:
        kept = [tensor.clone() for tensor in self._projections[number]]
        for tensor in self._projections[number]:
            tensor.mul_(factor)
        try:
            yield
        finally:
            for tensor, before in zip(self._projections[number], kept, strict=True):
                tensor.copy_(before)

    def _through(self, number: int, state: torch.Tensor) -> torch.Tensor:
        """What a layer makes of a hidden state."""
        seen: list[torch.Tensor] = []

        def see(_module: object, _inputs: object, output: Any) -> None:  # noqa: ANN401
            seen.append(_state_of(output))

        layer = self._layers[number]
        with ExitStack() as hooks:
            hooks.enter_context(_entering(layer, state))
            hooks.callback(layer.register_forward_hook(see).remove)
            self._run()
        return seen[0]

    def _logits(self, factor: float) -> torch.Tensor:
        """What the head makes of a multiple of the last layer's output."""

        def replace(_module: object, _inputs: object, output: Any) -> Any:  # noqa: ANN401
            state = factor * self._hidden
            if isinstance(output, tuple | list):
                return type(output)([state, *output[1:]])
            return state

        hook = self._layers[-1].register_forward_hook(replace)
        try:
            return self._run()
        finally:
            hook.remove()

    def _run(self) -> torch.Tensor:
        found = self._model(input_ids=self._tokens, use_cache=False)
        logits: torch.Tensor = found[0]
        return logits


@contextmanager
def _entering(layer: torch.nn.Module, state: torch.Tensor) -> Iterator[None]:
    """Give a layer a hidden state in place of the one that it is called with."""

    def swap(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": state}
        return (state, *args[1:]), kwargs

    hook = layer.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _width(model: Any) -> int:  # noqa: ANN401 - untyped library
    return int(model.get_input_embeddings().weight.shape[-1])


def _state_of(output: Any) -> torch.Tensor:  # noqa: ANN401 - whatever the layer gives
    state: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return state


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Beyond rounding; not finite counts as different."""
    apart = float((one - other).norm())
    return not apart <= _TOLERANCE * float(other.norm())
