"""What a merged model costs to run: forward FLOPs a token, from shapes and config.json."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe
from evomerge.core.tensor_names import layer_of
from evomerge.merging.engine import MergeEngine
from evomerge.merging.merge_plan import MergedTensor
from evomerge.merging.tied_embeddings import embedding_name, head_name

DEFAULT_CONTEXT = 2048
"""Tokens of context at which FLOPs are told where nothing else is asked."""

_POSITIONS = ("wpe", "embed_positions", "position_embeddings", "position_embedding")
_ROUTED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def flops_per_token(engine: MergeEngine, recipe: Recipe, context: int = DEFAULT_CONTEXT) -> int:
    """FLOPs of the forward pass of one token that attends to ``context`` tokens, itself one.

    ``2 · (entries of all matrices) + 2 · context · heads · (key size + value size)`` a layer
    with attention (Kaplan et al., Scaling laws for neural language models, 2020, table 1,
    which counts the embedding apart and has no output head). Counted are the output head, of
    a mixture of experts the experts that one token is sent to, of windowed attention the
    window; not counted are embedding look-ups, biases, norms and activations.

    Only headers and the reference's config.json are read.

    Raises:
        ConfigError: The recipe is not valid, or config.json does not tell the attention's
            heads or the number of active experts.
        CheckpointError: As ``MergeEngine.plan`` does.
    """
    config = _text_config(engine.sources[recipe.reference].config)
    planned = engine.plan(recipe)
    matrices = math.fsum(_active_entries(planned, config))
    attended = sum(_attended(planned, config, context))
    per_token = _attention_size(config) if attended else 0
    return round(2 * matrices) + 2 * attended * per_token


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, Mapping) else config


def _active_entries(
    planned: Sequence[MergedTensor], config: Mapping[str, Any]
) -> Iterable[float]:
    """Entries by matrix that multiply a token's vector, experts by their chance to do so."""
    names = [tensor.name for tensor in planned]
    embedding = embedding_name(names)
    tied = head_name(names) is None
    for tensor in planned:
        parts = tensor.name.split(".")
        looked_up = tensor.name == embedding and not tied
        if len(tensor.shape) < 2 or looked_up or not {*_POSITIONS}.isdisjoint(parts):
            continue
        share = _active_share(config) if "experts" in parts else 1.0
        yield math.prod(tensor.shape) * share


def _active_share(config: Mapping[str, Any]) -> float:
    active, every = _whole(config, _ROUTED), _whole(config, _EXPERTS)
    if active is None or every is None:
        raise ConfigError(
            "flops: the model has experts, but config.json tells neither under "
            f"{' / '.join(_ROUTED)} how many one token is sent to, nor under "
            f"{' / '.join(_EXPERTS)} how many there are."
        )
    return active / every


def _attended(
    planned: Sequence[MergedTensor], config: Mapping[str, Any], context: int
) -> list[int]:
    """Tokens attended to, one number a layer with attention."""
    numbers = {layer_of(t.name) for t in planned if "attn" in t.name or "attention" in t.name}
    layers = sorted(number for number in numbers if number is not None)
    window = _whole(config, ("sliding_window",))
    if window is None or config.get("use_sliding_window") is False:
        window = context
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        return [min(context, window)] * len(layers)
    spans = {"full_attention": context, "sliding_attention": min(context, window)}
    return [spans.get(kinds[n], 0) if n < len(kinds) else context for n in layers]


def _attention_size(config: Mapping[str, Any]) -> int:
    """Entries of all heads' queries and values together."""
    heads = _whole(config, ("num_attention_heads", "n_head", "n_heads"))
    width = _whole(config, ("hidden_size", "n_embd", "d_model"))
    head = _whole(config, ("head_dim",))
    if head is None and heads and width:
        head = width // heads
    if not heads or not head:
        raise ConfigError(
            "flops: config.json tells neither num_attention_heads nor n_head, or no head_dim, "
            "hidden_size or n_embd, from which the cost of attention follows."
        )
    plain, rotary = (_whole(config, (f"qk_{k}_head_dim",)) for k in ("nope", "rope"))
    query = plain + rotary if plain and rotary else head
    return heads * (query + (_whole(config, ("v_head_dim",)) or head))


def _whole(config: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    """The first whole number above 0 under these keys."""
    found = (config.get(key) for key in keys)
    return next((n for n in found if isinstance(n, int) and n > 0), None)
