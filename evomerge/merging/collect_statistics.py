"""Statistics of a model's weights on data: by forward passes, for Fisher by gradients too."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from evomerge.core.errors import TrialError


@dataclass(frozen=True)
class Example:
    """One tokenized example."""

    tokens: tuple[int, ...]
    target: int
    """Place of the first token that the model is to predict; at least 1."""


class Collector(ABC):
    """Takes in examples one by one and gives a statistic for every weight that has it.

    Args:
        model: In evaluation mode; its weights stay as they are.
        names: The checkpoint's name of each weight, by the id of the parameter.
    """

    def __init__(self, model: torch.nn.Module, names: Mapping[int, str]) -> None:
        self._model = model
        self._names = names

    @abstractmethod
    def take(self, example: Example) -> None:
        """Run the model on an example."""

    @abstractmethod
    def statistics(self) -> dict[str, torch.Tensor]:
        """By name of the weight, float32 on the CPU, in the order of the model; asked once."""

    @abstractmethod
    def size(self) -> int:
        """Bytes that the statistics take."""

    def _run(self, example: Example) -> torch.Tensor:
        device = next(self._model.parameters()).device
        ids = torch.tensor([example.tokens], device=device)
        logits: torch.Tensor = self._model(input_ids=ids, use_cache=False).logits[0]
        return logits


class FisherCollector(Collector):
    """The diagonal of the empirical Fisher information (Matena & Raffel, 2022, eq. 4).

    For every weight the mean over examples of the squared gradient of the log-likelihood of
    the example's target. The labels are the data's, not drawn from the model. Divided by its
    mean over all weights, so that models of different confidence count alike.
    """

    def __init__(self, model: torch.nn.Module, names: Mapping[int, str]) -> None:
        super().__init__(model, names)
        self._weights = {names[id(p)]: p for p in model.parameters() if id(p) in names}
        self._sums: dict[str, torch.Tensor] = {}

    @override
    def take(self, example: Example) -> None:
        weights = list(self._weights.values())
        for weight in weights:
            weight.requires_grad_()
        with torch.enable_grad():
            logits = self._run(example)[example.target - 1 : -1].float()
            wanted = torch.tensor(example.tokens[example.target :], device=logits.device)
            likelihood = -torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
            gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
                likelihood, weights, allow_unused=True
            )
        for name, gradient in zip(self._weights, gradients, strict=True):
            if gradient is None:
                continue  # a part of the model that this example does not reach
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(gradient, dtype=torch.float32)
            self._sums[name].addcmul_(gradient.float(), gradient.float())

    @override
    def statistics(self) -> dict[str, torch.Tensor]:
        entries = sum(weight.numel() for weight in self._weights.values())
        mean = sum(float(s.double().sum()) for s in self._sums.values()) / max(1, entries)
        if mean <= 0:
            raise TrialError("every gradient is zero, so there is no Fisher information.")
        return {
            name: self._sums.pop(name).div_(mean).cpu()
            for name in self._weights
            if name in self._sums
        }

    @override
    def size(self) -> int:
        return 4 * sum(weight.numel() for weight in self._weights.values())


class _InputCollector(Collector):
    """Sums something over the inputs of layers."""

    def __init__(self, model: torch.nn.Module, names: Mapping[int, str]) -> None:
        super().__init__(model, names)
        embedded = {
            id(module.weight)
            for module in model.modules()
            if isinstance(module, torch.nn.Embedding)
        }
        self._layers: dict[str, Any] = {
            name: module
            for module in model.modules()
            if (name := names.get(id(getattr(module, "weight", None))))
            and id(module.weight) not in embedded
            and self._measures(module)
        }
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] | None = None

    @abstractmethod
    def _measures(self, layer: Any) -> bool: ...  # noqa: ANN401 - torch's modules

    @abstractmethod
    def _summed(self, inputs: torch.Tensor) -> torch.Tensor:
        """The sum over rows of ``(tokens, features)`` in float32."""

    @override
    @torch.no_grad()
    def take(self, example: Example) -> None:
        hooks = [
            layer.register_forward_pre_hook(self._hook(name))
            for name, layer in self._layers.items()
        ]
        try:
            self._run(example)
        finally:
            for hook in hooks:
                hook.remove()
            self._last = None

    def _hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def take(_: Any, given: tuple[Any, ...]) -> None:  # noqa: ANN401 - as torch calls it
            inputs = given[0]
            rows = inputs.shape[:-1].numel()
            summed = self._sum_of(inputs, rows)
            if name in self._sums:
                self._sums[name] += summed
            else:
                self._sums[name] = summed.clone()
            self._counts[name] = self._counts.get(name, 0) + rows

        return take

    def _sum_of(self, inputs: torch.Tensor, rows: int) -> torch.Tensor:
        """Computed once where layers follow one another on one input, as q, k and v do."""
        version = inputs._version
        if self._last is None or self._last[0] is not inputs or self._last[1] != version:
            flat = inputs.detach().reshape(rows, inputs.shape[-1]).float()
            self._last = inputs, version, self._summed(flat)
        return self._last[2]

    @override
    def statistics(self) -> dict[str, torch.Tensor]:
        return {
            name: self._shaped(layer, self._sums.pop(name).div_(self._counts[name])).cpu()
            for name, layer in self._layers.items()
            if self._counts.get(name)
        }

    def _shaped(self, layer: Any, mean: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a module
        del layer
        return mean


class GramCollector(_InputCollector):
    """Mean of ``x xᵀ`` over the inputs of every linear layer (Jin et al., 2023): ``(in, in)``.

    ``4 · in²`` bytes a layer: 1.3 MB for 576 inputs, 9.4 MB for 1536, 67 MB for 4096, 485 MB
    for 11008. In the file, layers that share an input share the matrix.
    """

    @override
    def _measures(self, layer: Any) -> bool:
        return isinstance(layer, torch.nn.Linear)

    @override
    def _summed(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.T @ inputs

    @override
    def size(self) -> int:
        return sum(4 * layer.weight.shape[1] ** 2 for layer in self._layers.values())


class ActivationCollector(_InputCollector):
    """Mean magnitude of each input feature of linear layers and norms.

    Shaped so that it broadcasts over the weight: ``(in,)``, and ``(in, 1)`` for layers that
    store their weight transposed, as GPT-2 does.
    """

    @override
    def _measures(self, layer: Any) -> bool:
        return isinstance(layer, torch.nn.Linear | Conv1D) or layer.weight.ndim == 1

    @override
    def _summed(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.abs().sum(0)

    @override
    def _shaped(self, layer: Any, mean: torch.Tensor) -> torch.Tensor:
        return mean.unsqueeze(1) if isinstance(layer, Conv1D) else mean

    @override
    def size(self) -> int:
        return sum(4 * max(layer.weight.shape) for layer in self._layers.values())


COLLECTORS: Mapping[str, type[Collector]] = {
    "fisher": FisherCollector,
    "gram": GramCollector,
    "activations": ActivationCollector,
}


def collect(
    collector: Collector,
    examples: Sequence[Example],
    passed: Callable[[Sequence[Example]], Iterable[Example]] = iter,
) -> dict[str, torch.Tensor]:
    """A statistic of every weight that has it.

    Args:
        collector: Of the kind wanted.
        examples: One after the other, so that no padding counts.
        passed: Wraps the examples, e.g. to show progress.

    Raises:
        TrialError: A statistic is not finite, or there is none.
    """
    for example in passed(examples):
        collector.take(example)
    found = collector.statistics()
    bad = [name for name, tensor in found.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise TrialError(
            f"the statistic of {bad[0]} ({len(bad)} in all) is not finite; collect it in "
            "float32 (--dtype float32)."
        )
    return found
