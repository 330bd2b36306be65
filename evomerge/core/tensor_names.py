"""Layer numbers read from tensor names by pattern, for any architecture."""

import re

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def layer_of(tensor_name: str) -> int | None:
    """The layer a tensor belongs to, or None for embeddings, final norm and head.

    The first all-digit part of the dotted name is the layer number:
    ``model.layers.3.mlp.up_proj.weight`` gives 3, ``transformer.h.0.ln_1.bias`` gives 0.
    """
    found = _NUMBER.search(tensor_name)
    return int(found.group(1)) if found else None


def count_layers(tensor_names: list[str]) -> int:
    """One more than the highest layer number among the names; 0 where none is numbered."""
    return 1 + max(
        (n for name in tensor_names if (n := layer_of(name)) is not None), default=-1
    )
