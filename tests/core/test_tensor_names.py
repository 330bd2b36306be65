"""Layer numbers in tensor names."""

import pytest

from evomerge.core.tensor_names import count_layers, layer_of


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.up_proj.weight", 3),
        ("transformer.h.0.ln_1.bias", 0),
        ("gpt_neox.layers.11.attention.dense.weight", 11),
        ("model.layers.2.experts.7.w1.weight", 2),
        ("0.weight", 0),
        ("encoder.12", 12),
        ("model.embed_tokens.weight", None),
        ("lm_head.weight", None),
        ("transformer.ln_1.bias", None),
        ("model.layers.a3.weight", None),
    ],
)
def test_the_first_part_of_digits_alone_is_the_layer(name, layer):
    assert layer_of(name) == layer


def test_layers_are_counted_up_to_the_highest_number():
    assert count_layers(["embed", "layers.0.a", "layers.4.b", "layers.2.c"]) == 5


def test_names_without_numbers_have_no_layers():
    assert count_layers(["embed", "lm_head"]) == 0
    assert count_layers([]) == 0
