"""Tensor names of a small Llama."""

LAYERS = 6
_OF_A_LAYER = (
    "self_attn.q_proj",
    "self_attn.o_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "input_layernorm",
)


def llama_names(layers: int = LAYERS) -> list[str]:
    inside = [
        f"model.layers.{layer}.{tensor}.weight"
        for layer in range(layers)
        for tensor in _OF_A_LAYER
    ]
    return ["model.embed_tokens.weight", *inside, "model.norm.weight", "lm_head.weight"]
