"""What the data-free operators beyond mergekit's have in common."""

import numpy as np
import pytest
import torch
from merging.operator_calls import Keeper, fine_tunes, inputs, merged

from evomerge.merging.operators.registry import OPERATORS

ON_MATRICES = ["tsv_m", "iso_c", "iso_cts", "wudi", "star", "dc_merge"]
KEEPING = [*ON_MATRICES, "pcb"]
EVERY = [*KEEPING, "consensus_ta", "emr", "widen"]
WEIGHTED = [name for name in EVERY if name not in ("iso_c", "iso_cts")]

every_operator = pytest.mark.parametrize("name", EVERY)
SHAPES = pytest.mark.parametrize("shape", [(17, 23), (23, 17), (11,), (3, 4, 5), (1, 6)])


def weights_of(name, values):
    return {"weights": values} if name in WEIGHTED else {}


@every_operator
@SHAPES
def test_the_order_of_the_models_does_not_matter(name, shape):
    base, (a, b, c) = fine_tunes(shape)
    first = merged(name, [a, b, c], base, **weights_of(name, [1.0, 0.5, 0.25]))
    second = merged(name, [c, a, b], base, **weights_of(name, [0.25, 1.0, 0.5]))
    np.testing.assert_allclose(first, second, atol=2e-6)


@every_operator
@SHAPES
def test_models_that_are_the_base_leave_it(name, shape):
    base, _ = fine_tunes(shape)
    np.testing.assert_array_equal(merged(name, [base.clone()] * 3, base), base)


@every_operator
@SHAPES
@pytest.mark.parametrize("case", ["identical", "one is the base", "rank one", "opposite"])
def test_degenerate_models_give_finite_weights(name, shape, case):
    base, models = fine_tunes(shape)
    if case == "identical":
        models = [models[0]] * 3
    elif case == "one is the base":
        models[1] = base.clone()
    elif case == "rank one":
        models = [base + k * torch.ones(shape) for k in (1, 2, 3)]
    else:
        models = [models[0], 2 * base - models[0]]
    assert np.isfinite(merged(name, models, base)).all()


@every_operator
def test_lambda_zero_is_the_base(name):
    base, models = fine_tunes((9, 8))
    np.testing.assert_array_equal(merged(name, models, base, whole={"lambda": 0.0}), base)


@pytest.mark.parametrize("name", WEIGHTED)
def test_models_of_weight_zero_leave_the_base_if_there_are_no_others(name):
    base, models = fine_tunes((9, 8))
    np.testing.assert_array_equal(merged(name, models, base, weights=[0.0] * 3), base)


@pytest.mark.parametrize("name", [n for n in WEIGHTED if n not in ("consensus_ta", "emr")])
def test_the_merge_is_linear_in_the_weights(name):
    base, models = fine_tunes((9, 8))
    change = [
        merged(name, models, base, weights=weights) - base.double().numpy()
        for weights in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [2, -1, 0.5])
    ]
    np.testing.assert_allclose(
        change[3], 2 * change[0] - change[1] + 0.5 * change[2], atol=2e-6
    )


@pytest.mark.parametrize("name", ON_MATRICES)
@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "lm_head.weight"])
def test_embeddings_and_heads_are_averaged_unless_asked_otherwise(name, tensor):
    base, models = fine_tunes((30, 6))
    average = sum(models) / 3
    got = merged(name, models, base, tensor=tensor)
    np.testing.assert_allclose(got, average, atol=1e-6)
    asked = merged(name, models, base, tensor=tensor, whole={"embeddings": True})
    np.testing.assert_array_equal(asked, merged(name, models, base))
    assert np.abs(asked - average.numpy()).max() > 1e-3


@pytest.mark.parametrize("name", ON_MATRICES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (2, 3, 1, 1)])
def test_what_is_no_matrix_is_averaged(name, shape):
    base, models = fine_tunes(shape)
    np.testing.assert_allclose(merged(name, models, base), sum(models) / 3, atol=1e-6)


@pytest.mark.parametrize("name", KEEPING)
def test_another_weight_or_scale_computes_nothing_anew(name):
    base, models = fine_tunes((9, 8))
    keeper = Keeper()
    first = merged(name, models, base, once=keeper)
    made = len(keeper.made)
    assert made > 0
    whole = {"lambda": 0.5, "lines": 1.0}
    weights = weights_of(name, [0.3, 2.0, -1.0])
    second = merged(name, models, base, once=keeper, whole=whole, depth=0.7, **weights)
    assert len(keeper.made) == made
    assert np.abs(first - second).max() > 1e-3
    anew = merged(name, models, base, whole=whole, depth=0.7, **weights)
    np.testing.assert_array_equal(second, anew)


@every_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sources_merge_as_exactly_as_they_are_written(name, dtype):
    base, models = fine_tunes((64, 48), dtype=dtype, size=0.02)
    got = OPERATORS[name](inputs(name, models, base))
    full = OPERATORS[name](inputs(name, [model.float() for model in models], base.float()))
    rounding = torch.finfo(dtype).eps * full.abs().clamp_min(base.abs().float().mean() / 10)
    assert ((got - full).abs() < rounding / 2).all()
    assert not torch.equal(got, base.float())


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_neither_the_sources_nor_what_is_kept_are_changed(name, dtype):
    base, models = fine_tunes((12, 9), dtype=dtype)
    before = [tensor.clone() for tensor in (base, *models)]
    keeper = Keeper()
    merged(name, models, base, once=keeper)
    kept = {what: [tensor.clone() for tensor in made] for what, made in keeper.kept.items()}
    merged(name, models, base, once=keeper, whole={"lambda": 3.0})
    for tensor, copy in zip((base, *models), before, strict=True):
        assert torch.equal(tensor, copy)
    for what, made in keeper.kept.items():
        for tensor, copy in zip(made, kept[what], strict=True):
            assert torch.equal(tensor, copy)


@every_operator
def test_the_number_of_threads_does_not_change_a_bit(name):
    base, models = fine_tunes((512, 640))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = OPERATORS[name](inputs(name, models, base))
        torch.set_num_threads(2)
        two = OPERATORS[name](inputs(name, models, base))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)
