"""What every operator must do, whatever its formula."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import MaskKey
from evomerge.merging.operators.registry import OPERATORS

EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


def arguments(operator, shape=(7, 11), dtype=torch.float32, seed=0, **parameters):
    count = min(3, operator.max_models or 3)
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]
    base = torch.randn(shape, generator=generator).to(dtype) if operator.needs_base else None
    names = tuple("abc"[:count])
    known = {p.name for p in operator.parameters if p.per_model}
    own = {k: v for k, v in parameters.items() if k in known}
    settings = operator.settings(dict.fromkeys(names, own), {})
    return tensors, base, settings, MaskKey(5, "tensor", names)


@EVERY_OPERATOR
@pytest.mark.parametrize("shape", [(), (1,), (9,), (3, 5), (2, 3, 4), (0, 4), (400, 700)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_float32_of_the_same_shape(operator, shape, dtype):
    result = operator(*arguments(operator, shape, dtype, density=0.5))
    assert result.dtype == torch.float32
    assert result.shape == torch.Size(shape)


@EVERY_OPERATOR
def test_inputs_are_only_read(operator):
    tensors, base, settings, key = arguments(operator, density=0.5)
    before = [tensor.clone() for tensor in tensors]
    before_base = None if base is None else base.clone()
    result = operator(tensors, base, settings, key)
    result.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
    assert base is None or torch.equal(base, before_base)


@EVERY_OPERATOR
def test_the_same_key_gives_the_same_bits(operator):
    call = arguments(operator, (300, 900), density=0.4)
    assert torch.equal(operator(*call), operator(*call))


@EVERY_OPERATOR
def test_the_number_of_threads_does_not_change_a_bit(operator):
    call = arguments(operator, (300, 900), density=0.4)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = operator(*call)
        torch.set_num_threads(2)
        two = operator(*call)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)


@EVERY_OPERATOR
def test_global_generators_stay_as_they_were(operator):
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    operator(*arguments(operator, density=0.4))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


@EVERY_OPERATOR
def test_only_stochastic_operators_look_at_the_seed(operator):
    tensors, base, settings, key = arguments(operator, density=0.4)
    other = MaskKey(key.seed + 1, key.tensor, key.models)
    same = torch.equal(
        operator(tensors, base, settings, key), operator(tensors, base, settings, other)
    )
    assert same is not operator.stochastic


@EVERY_OPERATOR
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_a_broken_entry_fails_the_trial_and_names_the_tensor(operator, broken, density):
    tensors, base, settings, key = arguments(operator, density=density)
    tensors[0][2, 3] = broken
    with pytest.raises(TrialError, match="tensor"):
        operator(tensors, base, settings, key)


@EVERY_OPERATOR
def test_one_model_with_default_parameters_is_itself(operator):
    if operator.min_models > 1:
        pytest.skip("merges two models")
    generator = torch.Generator().manual_seed(2)
    # Multiples of 1/256, so that base + (model - base) is exact.
    model, base = (torch.randn(20, 30, generator=generator).mul(256).round() / 256, None)
    if operator.needs_base:
        base = torch.randn(20, 30, generator=generator).mul(256).round() / 256
    settings = operator.settings({"a": {}}, {})
    assert torch.equal(operator([model], base, settings, MaskKey(0, "t", ("a",))), model)


@EVERY_OPERATOR
def test_low_precision_inputs_are_merged_in_float32(operator):
    tensors, base, settings, key = arguments(operator, dtype=torch.bfloat16, density=0.5)
    full = None if base is None else base.float()
    assert torch.equal(
        operator(tensors, base, settings, key),
        operator([tensor.float() for tensor in tensors], full, settings, key),
    )


def test_checking_recipes_does_not_load_torch():
    code = (
        "import sys, evomerge.merging.recipe_check, evomerge.merging.checkpoint;"
        "import evomerge.merging.compatibility; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
