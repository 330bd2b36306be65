"""Directions: what is kept of them, how exactly, and for which tensors."""

import pytest
import torch
from merging.operator_calls import Keeper, fine_tunes, inputs

from evomerge.core.errors import TrialError
from evomerge.merging.operators.directions import (
    averaged,
    is_embedding,
    is_matrix,
    kept_directions,
    recombined,
    task_vectors,
)

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def written(blocks, like):
    out = torch.full((like.numel(),), torch.nan)
    for block, row in blocks:
        out[block] = row
    return out.view(like.shape)


def packed(call):
    return kept_directions(call, "task vectors", (), lambda: task_vectors(call))


def test_task_vectors_as_directions_recombine_to_task_arithmetic():
    base, models = fine_tunes((30, 50))
    call = inputs("tsv_m", models, base, whole={"lambda": 0.5})
    got = written(recombined(call, packed(call), [2.0, -1.0, 0.5]), base)
    a, b, c = (model - base for model in models)
    torch.testing.assert_close(got, base + 0.5 * (2 * a - b + 0.5 * c))


@HALVES
@pytest.mark.parametrize("size", [1e-6, 1e-2, 3e3])
def test_directions_of_half_precision_sources_take_16_bits_and_lose_next_to_nothing(
    dtype, size
):
    base, models = fine_tunes((64, 64), size=size, dtype=dtype)
    base = torch.zeros_like(base)
    call = inputs("tsv_m", models, base)
    for direction, model in zip(packed(call), models, strict=True):
        assert direction.row.dtype == torch.float16
        back = direction.row.double() * direction.unit
        exact = model.double().flatten()
        allowed = exact.abs() * 2.0**-11.9 + exact.abs().max() * 2.0**-40
        assert ((back - exact).abs() <= allowed).all()


@HALVES
def test_one_source_in_float32_keeps_the_directions_in_float32(dtype):
    base, models = fine_tunes((8, 8))
    call = inputs("tsv_m", [models[0].to(dtype), models[1]], base.to(dtype))
    assert {direction.row.dtype for direction in packed(call)} == {torch.float32}


def test_what_is_kept_is_not_more_than_the_sources():
    base, models = fine_tunes((100, 80), dtype=torch.bfloat16)
    keeper = Keeper()
    packed(inputs("tsv_m", models, base, once=keeper))
    (kept,) = keeper.kept.values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    assert size <= sum(model.numel() * 2 for model in models) + 64


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_as_before_even_after_an_error(threads):
    base, models = fine_tunes((8, 8))
    call = inputs("tsv_m", models, base)

    def broken():
        assert torch.get_num_threads() == 1
        raise TrialError("no")
        yield

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with pytest.raises(TrialError):
            kept_directions(call, "broken", (), broken)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_task_vector_that_is_not_finite_names_tensor_and_model(broken):
    base, models = fine_tunes((4, 4))
    models[1][2, 3] = broken
    with pytest.raises(TrialError, match=r"up_proj.*: b minus the base"):
        task_vectors(inputs("tsv_m", models, base))


def test_the_average_divides_by_the_number_of_models_not_by_the_weights():
    base, models = fine_tunes((5,))
    call = inputs("tsv_m", models, base, whole={"lambda": 2.0})
    got = written(averaged(call, [3.0, 0.0, 0.0]), base)
    torch.testing.assert_close(got, base + 2 * (models[0] - base))
    plain = written(averaged(inputs("iso_c", models, base)), base)
    torch.testing.assert_close(plain, sum(models) / 3)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "shared.weight",
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "gpt_neox.embed_in.weight",
        "bert.embeddings.word_embeddings.weight",
        "vit.embeddings.position_embeddings",
        "model.decoder.embed_positions.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "tok_embeddings.weight",
    ],
)
def test_embeddings_are_known_by_name_and_averaged(name):
    base, models = fine_tunes((6, 4))
    assert is_embedding(name)
    assert not is_matrix(inputs("tsv_m", models, base, tensor=name))
    assert is_matrix(inputs("tsv_m", models, base, tensor=name, whole={"embeddings": True}))


@pytest.mark.parametrize("name", ["lm_head.weight", "embed_out.weight"])
def test_output_heads_are_averaged_but_are_no_embeddings(name):
    base, models = fine_tunes((6, 4))
    assert not is_embedding(name)
    assert not is_matrix(inputs("tsv_m", models, base, tensor=name))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.weight",
        "transformer.h.1.mlp.c_fc.weight",
        "model.layers.0.mlp.shared_expert.up_proj.weight",
        "classifier.weight",
    ],
)
def test_linear_layers_are_matrices(name):
    base, models = fine_tunes((6, 4))
    assert is_matrix(inputs("tsv_m", models, base, tensor=name))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4), (2, 3, 1, 1), (0, 4), (4, 0)])
def test_what_is_not_two_dimensional_or_is_empty_is_no_matrix(shape):
    base, models = fine_tunes(shape)
    assert not is_matrix(inputs("tsv_m", models, base))
