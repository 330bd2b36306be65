"""Layer numbers read from tensor names by pattern, for any architecture.

A model may have several stacks of layers: encoder and decoder, vision tower and language
model. Each counts its layers from 0, and a range of layers is meant in every stack; the
stack's name (``decoder.``) tells them apart where that matters.
"""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def layer_of(tensor_name: str) -> int | None:
    """The layer a tensor belongs to, or None for embeddings, final norm and head.

    The first all-digit part of the dotted name is the layer number:
    ``model.layers.3.mlp.up_proj.weight`` gives 3, ``transformer.h.0.ln_1.bias`` gives 0.
    Numbers after it are those of experts or of parts of the layer.
    """
    found = _NUMBER.search(tensor_name)
    return int(found.group(1)) if found else None


def stack_of(tensor_name: str) -> str | None:
    """What the tensor's layer is one of: the name before the layer number, or None.

    ``encoder.block.3.layer.0.SelfAttention.q.weight`` gives ``encoder.block``.
    """
    found = _NUMBER.search(tensor_name)
    return tensor_name[: found.start()] if found else None


def layer_stacks(tensor_names: Iterable[str]) -> dict[str, int]:
    """How many layers each stack has, by its name, in the order of the tensors."""
    stacks: dict[str, int] = {}
    for name in tensor_names:
        stack, layer = stack_of(name), layer_of(name)
        if stack is not None and layer is not None:
            stacks[stack] = max(stacks.get(stack, 0), layer + 1)
    return stacks


def count_layers(tensor_names: list[str]) -> int:
    """One more than the highest layer number among the names; 0 where none is numbered."""
    return max(layer_stacks(tensor_names).values(), default=0)


def with_layer(tensor_name: str, layer: int) -> str:
    """The name of the same tensor in another layer.

    Raises:
        ValueError: The tensor is in no layer.
    """
    found = _NUMBER.search(tensor_name)
    if found is None:
        raise ValueError(f"{tensor_name} is in no layer")
    return f"{tensor_name[: found.start(1)]}{layer}{tensor_name[found.end(1) :]}"
