"""One pass of compiled loops gives what tensor operations give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from merging.elsewhere import not_contiguous

from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.mixture import Mixture
from evomerge.merging.operators.registry import OPERATORS

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
MIXTURES = [
    "linear",
    "slerp",
    "task_arithmetic",
    "passthrough",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
]
EVERY_MIXTURE = pytest.mark.parametrize("name", MIXTURES)


def inputs_of(name, shape, dtypes=(torch.float32,), seed=0, wrap=lambda tensor: tensor):
    found = OPERATORS[name]
    count = min(3, found.max_models or 3)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(shape, generator=generator) for _ in range(count + 1)]
    rows = [wrap(row.to(dtypes[k % len(dtypes)])) for k, row in enumerate(rows)]
    names = tuple("abc"[:count])
    given_ = {"weight": 0.7, "density": 0.6, "gamma": 0.05, "epsilon": 0.2}
    own = {p.name: given_[p.name] for p in found.parameters if p.name in given_}
    own_settings = found.settings(dict.fromkeys(names, own), {})
    base = rows[-1] if found.needs_base else None
    return found, Inputs(rows[:count], base, own_settings, MaskKey(5, "tensor", names))


def both_ways(name, size, dtypes, seed):
    found, inputs = inputs_of(name, (size,), dtypes, seed)
    target = torch.empty(size)
    mixture = found.merge(inputs)
    assert isinstance(mixture, Mixture)
    largest = mixture.write(target, target.dtype)
    found, gaps = inputs_of(name, (size,), dtypes, seed, not_contiguous)
    operations = found.merge(gaps)
    assert operations.write(torch.empty(size), target.dtype) is None
    ((_, row),) = operations
    return target, row, largest


@EVERY_MIXTURE
@given(
    st.sampled_from([2, 5, 8_192, 8_193, 30_000]),
    st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4),
    st.integers(0, 50),
)
@settings(max_examples=15, deadline=None)
def test_loops_and_tensor_operations_agree(name, size, dtypes, seed):
    looped, row, largest = both_ways(name, size, dtypes, seed)
    torch.testing.assert_close(looped, row, rtol=2e-6, atol=2e-6)
    assert largest == float(looped.abs().max())


@EVERY_MIXTURE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_result_is_rounded_once_to_the_nearest(name, dtype):
    found, inputs = inputs_of(name, (9_001,), (torch.float32,))
    exact = found(inputs)
    narrow, wide = torch.empty(9_001, dtype=dtype), torch.empty(9_001)
    found.merge_into([narrow, wide], inputs, dtype)
    assert torch.equal(narrow, exact.to(dtype))
    assert torch.equal(wide, exact.to(dtype).float())


@EVERY_MIXTURE
def test_a_wider_target_takes_the_rounded_result(name):
    found, inputs = inputs_of(name, (9_001,), (torch.bfloat16,))
    wide = torch.empty(9_001)
    found.merge_into([wide], inputs, torch.bfloat16)
    assert torch.equal(wide, found(inputs).bfloat16().float())


def test_an_unaligned_tensor_is_read_as_it_is():
    found, inputs = inputs_of("task_arithmetic", (1_000,))
    shifted = [torch.cat([torch.zeros(3), row])[3:] for row in inputs.tensors]
    moved = Inputs(shifted, inputs.base, inputs.settings, inputs.key)
    assert torch.equal(found(moved), found(inputs))


@pytest.mark.parametrize("size", [700, 20_000])
def test_breadcrumbs_keep_what_follows_the_largest(size):
    generator = torch.Generator().manual_seed(1)
    # Few values, so that both ends of the range lie among equal ones.
    row = torch.randn(size, generator=generator).mul(3).round()
    found = OPERATORS["breadcrumbs"]
    own = {"density": 0.5, "gamma": 0.1}
    inputs = Inputs(
        [row],
        torch.zeros(size),
        found.settings({"a": own}, {}),
        MaskKey(0, "t", ("a",)),
    )
    order = sorted(range(size), key=lambda i: (-abs(float(row[i])), i))
    top, kept = int(0.1 * size), int(0.5 * size)
    wanted = torch.zeros(size)
    middle = order[top : top + kept]
    wanted[middle] = row[middle]
    assert torch.equal(found(inputs), wanted)


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("values", [1, 2, 5])
def test_loops_and_tensor_operations_agree_among_equal_magnitudes(name, gamma, values):
    generator = torch.Generator().manual_seed(values)
    row = torch.randint(1, values + 1, (1_000,), generator=generator).float()
    found = OPERATORS[name]
    own = {"density": 0.5} | ({"gamma": gamma} if name == "breadcrumbs" else {})
    settings_ = found.settings({"a": own}, {})
    results = []
    for wrap in (lambda tensor: tensor, not_contiguous):
        tensors = [wrap(row)], wrap(torch.zeros(1_000))
        results.append(found(Inputs(*tensors, settings_, MaskKey(0, "t", ("a",)))))
    assert torch.equal(*results)
    assert int(results[0].ne(0).sum()) == 500


@pytest.mark.parametrize("shape", [(40, 300), (300,), (6, 4, 50), (12, 1), ()])
def test_della_keeps_more_of_a_row_s_larger_entries(shape):
    found = OPERATORS["della_linear"]
    generator = torch.Generator().manual_seed(1)
    row = torch.randn(shape, generator=generator)
    settings_ = found.settings({"a": {"density": 0.5, "epsilon": 0.3}}, {"rescale": False})
    kept = torch.zeros(shape)
    rounds = 400
    for seed in range(rounds):
        inputs = Inputs([row], torch.zeros(shape), settings_, MaskKey(seed, "t", ("a",)))
        kept += found(inputs).ne(0)
    width = shape[-1] if shape else 1
    ranks = row.abs().reshape(-1, width).argsort(1).argsort(1).float()
    chances = 0.2 + 0.6 * ranks / (width - 1) if width > 1 else torch.full_like(ranks, 0.5)
    error = 5.5 * (0.25 / rounds) ** 0.5 + 0.6 / 255
    assert float((kept.reshape(-1, width) / rounds - chances).abs().max()) < error
