"""What every operator must do, whatever its formula."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.statistics_files import STATISTICS

EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


def measured(operator, tensors, generator):
    """A statistic of the kind that the operator asks for, of random data."""
    kind, shape = operator.statistics, tensors[0].shape
    if kind is None:
        return ()
    count = len(tensors) if STATISTICS[kind].of == "models" else 1
    if kind == "fisher":
        return [torch.rand(shape, generator=generator) for _ in range(count)]
    if not shape or (kind == "gram" and len(shape) != 2):
        return [None] * count
    inputs = [torch.randn(30, shape[-1], generator=generator) for _ in range(count)]
    return [x.T @ x / 30 if kind == "gram" else x.abs().mean(0) for x in inputs]


def arguments(operator, shape=(7, 11), dtype=torch.float32, seed=0, **parameters):
    count = min(3, operator.max_models or 3)
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]
    base = torch.randn(shape, generator=generator).to(dtype) if operator.needs_base else None
    names = tuple("abc"[:count])
    known = {p.name for p in operator.parameters if p.per_model}
    own = {k: v for k, v in parameters.items() if k in known}
    settings = operator.settings(dict.fromkeys(names, own), {})
    key = MaskKey(5, "tensor", names)
    statistics = measured(operator, tensors, generator)
    return Inputs(tensors, base, settings, key, statistics=statistics)


@EVERY_OPERATOR
@pytest.mark.parametrize("shape", [(), (1,), (9,), (3, 5), (2, 3, 4), (0, 4), (400, 700)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_float32_of_the_same_shape(operator, shape, dtype):
    result = operator(arguments(operator, shape, dtype, density=0.5))
    assert result.dtype == torch.float32
    assert result.shape == torch.Size(shape)


@EVERY_OPERATOR
def test_inputs_are_only_read(operator):
    inputs = arguments(operator, density=0.5)
    tensors, base = inputs.tensors, inputs.base
    before = [tensor.clone() for tensor in tensors]
    before_base = None if base is None else base.clone()
    result = operator(inputs)
    result.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
    assert base is None or torch.equal(base, before_base)


@EVERY_OPERATOR
def test_the_same_key_gives_the_same_bits(operator):
    call = arguments(operator, (300, 900), density=0.4)
    assert torch.equal(operator(call), operator(call))


@EVERY_OPERATOR
def test_the_number_of_threads_does_not_change_a_bit(operator):
    call = arguments(operator, (300, 900), density=0.4)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = operator(call)
        torch.set_num_threads(2)
        two = operator(call)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)


@EVERY_OPERATOR
def test_global_generators_stay_as_they_were(operator):
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    operator(arguments(operator, density=0.4))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


@EVERY_OPERATOR
def test_only_stochastic_operators_look_at_the_seed(operator):
    inputs = arguments(operator, density=0.4)
    other = replace(inputs, key=replace(inputs.key, seed=inputs.key.seed + 1))
    same = torch.equal(operator(inputs), operator(other))
    assert same is not operator.stochastic


@EVERY_OPERATOR
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_a_broken_entry_fails_the_trial_and_names_the_tensor(operator, broken, density):
    inputs = arguments(operator, density=density)
    inputs.tensors[0][2, 3] = broken
    with pytest.raises(TrialError, match="tensor"):
        operator(inputs)


NOT_THE_MODEL = {
    "nearswap": "moves every entry by t at most",
    "arcee_fusion": "takes important changes only",
    "pcb": "drops what competes least",
    "iso_c": "makes all singular values equal",
    "iso_cts": "makes all singular values equal",
    "star": "cuts small singular values",
    "dc_merge": "keeps the largest entries of the common space",
}


@EVERY_OPERATOR
def test_one_model_with_default_parameters_is_itself(operator):
    if operator.min_models > 1:
        pytest.skip("merges two models")
    if operator.name in NOT_THE_MODEL:
        pytest.skip(NOT_THE_MODEL[operator.name])
    generator = torch.Generator().manual_seed(2)
    # Multiples of 1/256, so that base + (model - base) is exact.
    model, base = (torch.randn(20, 30, generator=generator).mul(256).round() / 256, None)
    if operator.needs_base:
        base = torch.randn(20, 30, generator=generator).mul(256).round() / 256
    settings = operator.settings({"a": {}}, {})
    inputs = Inputs([model], base, settings, MaskKey(0, "t", ("a",)))
    assert torch.equal(operator(inputs), model)


DIRECTIONS = {"pcb", "tsv_m", "iso_c", "iso_cts", "wudi", "star", "dc_merge"}
"""What they compute once is kept in as many bits as the sources have."""


@EVERY_OPERATOR
def test_low_precision_inputs_are_merged_in_float32(operator):
    inputs = arguments(operator, dtype=torch.bfloat16, density=0.5)
    full = replace(
        inputs,
        tensors=[tensor.float() for tensor in inputs.tensors],
        base=None if inputs.base is None else inputs.base.float(),
    )
    merged, wanted = operator(inputs), operator(full)
    if operator.name not in DIRECTIONS:
        assert torch.equal(merged, wanted)
    # Half a rounding of bfloat16 is 2⁻⁹ of an entry.
    torch.testing.assert_close(merged, wanted, rtol=2**-10, atol=2**-11 * float(wanted.std()))


def test_checking_recipes_does_not_load_torch():
    code = (
        "import sys, evomerge.merging.recipe_check, evomerge.merging.checkpoint;"
        "import evomerge.merging.compatibility; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
