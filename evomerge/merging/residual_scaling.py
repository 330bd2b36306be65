"""Scales of the residual stream: which tensors they fold into, and where that is exact.

A pre-norm layer reads a normalised hidden state, whose scale it ignores, and adds to the state
what its output projections write. So multiplying the state by w before a layer equals dividing
the output projections of that and all later layers, weights and biases, by the running product
of the w: with P the product, ``f(P · h) = P · f_P(h)`` for the layer f and the layer f_P whose
projections are divided by P, and the norm before the output head drops the last P. It is exact
up to the norms' epsilon. Scales before layers are those of Akiba et al., Evolutionary
Optimization of Model Merging Recipes, 2024, arXiv:2403.13187, section 3.2.
"""

from collections.abc import Mapping
from typing import Any

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.tensor_names import count_layers, layer_of
from evomerge.merging.source_model import SourceModel

_PARTS = (
    "o_proj",
    "out_proj",
    "c_proj",
    "attention.dense",
    "self_attn.dense",
    "down_proj",
    "dense_4h_to_h",
    "fc2",
    "fc_out",
    ".w2",
    "output_linear",
)
"""Of names of output projections, as transformers' models call them on disk."""

_ATTENTION = ("attn", "attention")

_LAYERS, _VOCABULARY, _HEADS, _INNER = 2, 32, 2, 64
"""Of the small model that is run: layers, tokens known, attention heads, feed-forward width."""

_HEAD_KEYS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_GROUP_KEYS = ("num_key_value_heads", "num_kv_heads")
_WIDTH_KEYS = ("hidden_size", "n_embd", "n_embed", "d_model", "word_embed_proj_dim")
_INNER_KEYS = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
)


def output_projections(source: SourceModel) -> tuple[str, ...]:
    """Parts of the names of the tensors inside layers that write into the residual stream.

    Every layer must have one of its attention and one beside it, else none are told: the
    architecture is not known. Read from names; nothing is said of whether scales fold.
    """
    by_layer: dict[int, list[str]] = {}
    for name in source.tensors:
        layer = layer_of(name)
        if layer is not None:
            by_layer.setdefault(layer, []).append(name)
    found: set[str] = set()
    for names in by_layer.values():
        writing = [name for name in names if _matching(name, _PARTS)]
        of_attention = [any(word in name for word in _ATTENTION) for name in writing]
        if not any(of_attention) or all(of_attention):
            return ()
        found.update(part for name in writing for part in _matching(name, _PARTS))
    return tuple(part for part in _PARTS if part in found)


def scaling_problems(sources: Mapping[str, SourceModel], reference: str) -> list[str]:
    """Why scales of the residual stream cannot be folded into weights; empty if they can.

    Decided by computing: two layers of the reference's architecture with random weights, few
    heads and a small vocabulary where the configuration allows it, are given hidden states and
    their multiples. Takes about a second; random generators stay as they were.

    Args:
        sources: Opened source models by the names that recipes use.
        reference: The one whose config.json the merged models have.
    """
    parts = output_projections(sources[reference])
    if not parts:
        return [
            f"{reference}: its layers have no tensors whose names are known to be output "
            f"projections of both attention and feed-forward network (known: "
            f"{', '.join(_PARTS)})."
        ]
    import torch  # noqa: PLC0415 - names are told without it

    from evomerge.merging.scaled_layers import ScaledLayers  # noqa: PLC0415 - loads torch

    config = _shallow(sources, reference)
    tried = (
        (_narrowed(config), torch.float64),
        (_narrowed(config), torch.float32),  # some kernels know no other
        (_few_tokens(config), torch.float32),
    )
    problem = ""
    for plain, dtype in tried:
        try:
            return ScaledLayers(sources[reference], plain, dtype, parts).problems()
        except (
            AttributeError,
            CheckpointError,
            IndexError,
            KeyError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # whatever model code raises for sizes that do not go together
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    return [f"{reference}: two of its layers cannot be run to check it: {problem}"]


def _matching(name: str, parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if part in name]


def _shallow(sources: Mapping[str, SourceModel], reference: str) -> dict[str, Any]:
    """config.json of the reference's first layers."""
    from evomerge.merging.resident_depth import recipe_of_depth  # noqa: PLC0415 - torch
    from evomerge.merging.stacked_config import stacked_config  # noqa: PLC0415 - see above

    own = count_layers(list(sources[reference].tensors))
    plain = Recipe((Source(reference, reference),), (Rule("passthrough", {reference: {}}),))
    return stacked_config(recipe_of_depth(plain, own, min(own, _LAYERS)), sources)


def _few_tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with a small vocabulary."""
    made = dict(config)
    for key, value in config.items():
        if isinstance(value, Mapping):
            made[key] = _few_tokens(value) if key == "text_config" else value
        elif key == "vocab_size":
            made[key] = _VOCABULARY
        elif key.endswith("_token_id") and value is not None:
            made[key] = 0
    return made


def _narrowed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with a small vocabulary and few heads of the size that they have."""
    made = _few_tokens(config)
    if isinstance(made.get("text_config"), Mapping):
        return {**made, "text_config": _narrowed(made["text_config"])}
    heads = next((made[key] for key in _HEAD_KEYS if isinstance(made.get(key), int)), 0)
    width = next((made[key] for key in _WIDTH_KEYS if isinstance(made.get(key), int)), 0)
    if heads < _HEADS or width % heads:
        return made
    sizes = dict.fromkeys(_HEAD_KEYS, _HEADS) | dict.fromkeys(_INNER_KEYS, _INNER)
    sizes |= dict.fromkeys(_WIDTH_KEYS, width // heads * _HEADS)
    for key in _GROUP_KEYS:
        sizes[key] = _HEADS if made.get(key) == heads else 1
    return {
        key: sizes[key] if key in sizes and isinstance(value, int) else value
        for key, value in made.items()
    }
