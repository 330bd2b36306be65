import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.operators.sparsify import (
    RandomMask,
    kept_entries,
    magnitude_mask,
    mask_stream,
)

DENSITY = st.floats(0, 1)


def literal_mask(values, density):
    magnitudes = np.abs(values)
    order = np.lexsort((np.arange(len(values)), -magnitudes))
    mask = np.zeros(len(values), dtype=bool)
    mask[order[: kept_entries(len(values), density)]] = True
    return mask


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), DENSITY)
def test_the_largest_are_kept_and_of_equal_ones_the_first(values, density):
    row = np.array(values, dtype=np.float32)
    got = magnitude_mask(torch.from_numpy(row), density).numpy()
    np.testing.assert_array_equal(got, literal_mask(row, density))


@given(
    st.sampled_from([5_000, 140_000, 300_001]),
    DENSITY,
    st.sampled_from(["normal", "few values", "mostly zero", "constant", "sorted"]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_exactly_the_stated_count_is_kept_however_entries_are_spread(size, density, kind, seed):
    rng = np.random.default_rng(seed)
    row = rng.normal(size=size).astype(np.float32)
    if kind == "few values":
        row = np.round(row * 4) / 4
    elif kind == "mostly zero":
        row *= rng.random(size) < 0.05
    elif kind == "constant":
        row[:] = -0.25
    elif kind == "sorted":
        row.sort()
    got = magnitude_mask(torch.from_numpy(row), density).numpy()
    np.testing.assert_array_equal(got, literal_mask(row, density))


@pytest.mark.parametrize(
    ("entries", "density", "kept"),
    [(10, 0.0, 0), (10, 0.001, 1), (10, 0.39, 3), (10, 1.0, 10), (0, 0.5, 0), (1, 0.5, 1)],
)
def test_density_rounds_down_but_keeps_one(entries, density, kept):
    assert kept_entries(entries, density) == kept
    assert int(magnitude_mask(torch.ones(entries), density).sum()) == kept


@given(DENSITY, DENSITY, st.integers(0, 2**31), st.integers(1, 3000))
def test_random_masks_are_nested_in_density(one, other, seed, size):
    low, high = sorted((one, other))
    stream = mask_stream(seed, "t", "m")
    where = slice(0, size)
    small = RandomMask(torch.zeros(1), low, stream).kept(where)
    large = RandomMask(torch.zeros(1), high, stream).kept(where)
    assert bool((small <= large).all())


def test_random_masks_do_not_depend_on_how_the_tensor_is_walked():
    stream = mask_stream(1, "t", "m")
    whole = RandomMask(torch.zeros(1), 0.3, stream).kept(slice(0, 1000))
    parts = [
        RandomMask(torch.zeros(1), 0.3, stream).kept(slice(start, start + 100)).clone()
        for start in reversed(range(0, 1000, 100))
    ]
    assert torch.equal(whole, torch.cat(parts[::-1]))


def test_random_masks_are_the_same_in_another_process():
    code = (
        "import torch;"
        "from evomerge.merging.operators.sparsify import RandomMask, mask_stream;"
        "m = RandomMask(torch.zeros(1), 0.3, mask_stream(7, 'q', 'expert'));"
        "m = m.kept(slice(0, 5000));"
        "print((m * torch.arange(5000)).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12", "PATH": ""},
    )
    mask = RandomMask(torch.zeros(1), 0.3, mask_stream(7, "q", "expert")).kept(slice(0, 5000))
    assert int(done.stdout) == int((mask * torch.arange(5000)).sum())


@pytest.mark.parametrize("density", [0.01, 0.3, 0.5, 0.97])
def test_random_masks_keep_their_share_independently(density):
    size = 1 << 20
    masks = [
        RandomMask(torch.zeros(1), density, mask_stream(seed, tensor, model)).kept(
            slice(0, size)
        )
        for seed, tensor, model in [(1, "t", "a"), (1, "t", "b"), (1, "u", "a"), (2, "t", "a")]
    ]
    error = 5 * (density * (1 - density) / size) ** 0.5
    rows = [mask.double() for mask in masks]
    for row in rows:
        assert abs(float(row.mean()) - density) < error
        neighbours = float((row[1:] * row[:-1]).mean())
        assert abs(neighbours - density**2) < 3 * error
    for k, row in enumerate(rows):
        for other in rows[:k]:
            assert abs(float((row * other).mean()) - density**2) < 3 * error


def test_random_masks_vary_along_every_bit_of_the_index():
    random = RandomMask(torch.zeros(1), 0.5, mask_stream(0, "t", "m"))
    mask = random.kept(slice(0, 1 << 16)).double()
    index = torch.arange(1 << 16)
    for bit in range(16):
        ones = float(mask[(index >> bit) & 1 == 1].mean())
        assert abs(ones - 0.5) < 5 * 0.5 / 2**7.5
