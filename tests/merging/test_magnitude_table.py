"""Thresholds looked up against thresholds found by sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from merging.elsewhere import not_contiguous

from evomerge.merging.operators.contract import Inputs, MaskKey, made_anew
from evomerge.merging.operators.magnitude_table import MagnitudeTable
from evomerge.merging.operators.registry import OPERATORS

PLAIN = OPERATORS["task_arithmetic"].settings({"a": {}}, {})
KINDS = ["normal", "few values", "mostly zero", "constant", "sorted", "16 bits", "wide"]


def spread(kind, size, seed):
    rng = np.random.default_rng(seed)
    row = rng.normal(size=size).astype(np.float32)
    if kind == "few values":
        return np.round(row * 4) / 4
    if kind == "mostly zero":
        return row * (rng.random(size) < 0.05).astype(np.float32)
    if kind == "constant":
        return np.full(size, -0.25, np.float32)
    if kind == "sorted":
        return np.sort(row)
    if kind == "16 bits":
        return torch.from_numpy(row).bfloat16().float().numpy()
    if kind == "wide":
        return (row * np.exp(20 * rng.normal(size=size))).astype(np.float32)
    return row


def table(row, base=None, once=made_anew):
    row = torch.as_tensor(row)
    base = torch.zeros_like(row) if base is None else base
    inputs = Inputs([row], base, PLAIN, MaskKey(0, "t", ("a",)), once=once)
    return MagnitudeTable(inputs, 0)


@given(
    st.sampled_from([1, 2, 700, 9_000, 140_001]),
    st.floats(0, 1),
    st.sampled_from(KINDS),
    st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_a_place_has_the_magnitude_that_sorting_gives(size, share, kind, seed):
    row = spread(kind, size, seed)
    place = max(1, round(share * size))
    found = table(row).threshold(place)
    falling = np.sort(np.abs(row))[::-1]
    assert found.magnitude == falling[place - 1]
    assert found.equal_up_to == place - np.count_nonzero(falling > falling[place - 1])


@pytest.mark.parametrize("kind", KINDS)
def test_tensor_operations_find_what_the_compiled_loops_find(kind):
    row = torch.from_numpy(spread(kind, 20_000, 3))
    looped = table(row)
    by_operations = table(not_contiguous(row), not_contiguous(torch.zeros(20_000)))
    for place in (1, 17, 5_000, 19_999, 20_000):
        assert looped.threshold(place) == by_operations.threshold(place)


def test_differences_of_16_bit_weights_need_no_second_pass():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(50_000, generator=generator).mul(0.02).bfloat16()
    row = (base.float() + 1e-3 * torch.randn(50_000, generator=generator)).bfloat16()
    counted = table(row, base)
    row.zero_()  # a second pass would now find nothing
    thresholds = [counted.threshold(place).magnitude for place in range(1, 50_000, 997)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert min(thresholds[:20]) > 0


def test_a_table_is_made_once_and_is_small():
    made = {}

    def once(what, facts, make, model=None):
        if (what, facts, model) not in made:
            made[what, facts, model] = make()
        return made[what, facts, model]

    row = torch.randn(1 << 18, generator=torch.Generator().manual_seed(1))
    first = table(row, once=once)
    (kept,) = made.values()
    assert sum(tensor.numel() * tensor.element_size() for tensor in kept) < row.numel()
    again = table(row, once=once)
    assert len(made) == 1
    assert again.threshold(999) == first.threshold(999)


def test_where_a_nan_lies_the_threshold_is_nan():
    row = torch.tensor([1.0, float("nan"), 3.0])
    assert np.isnan(table(row).threshold(1).magnitude)
    assert table(row).threshold(2).magnitude == 3.0
