"""Layer numbers in tensor names."""

import pytest

from evomerge.core.tensor_names import count_layers, layer_of, layer_stacks, stack_of


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


@pytest.mark.parametrize(
    ("name", "stack", "layer"),
    [
        ("encoder.block.3.layer.0.SelfAttention.q.weight", "encoder.block", 3),
        ("decoder.block.5.layer.2.DenseReluDense.wi.weight", "decoder.block", 5),
        ("bert.encoder.layer.2.attention.self.query.weight", "bert.encoder.layer", 2),
        ("vision_tower.encoder.layers.2.mlp.fc1.weight", "vision_tower.encoder.layers", 2),
        ("language_model.model.layers.4.mlp.up_proj.weight", "language_model.model.layers", 4),
        ("model.layers.1.mlp.experts.7.w1.weight", "model.layers", 1),
        ("3.weight", "", 3),
        ("shared.weight", None, None),
    ],
)
def test_each_stack_counts_its_layers(name, stack, layer):
    assert (stack_of(name), layer_of(name)) == (stack, layer)


def test_stacks_are_told_with_their_depths():
    names = ["encoder.block.0.a", "encoder.block.2.a", "decoder.block.0.a.9.b", "shared"]
    assert layer_stacks(names) == {"encoder.block": 3, "decoder.block": 1}
