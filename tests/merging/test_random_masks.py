import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.merging.operators.random_masks import NUMBERS, RUN, bound, mask_stream, numbers

DENSITY = st.floats(0, 1, exclude_max=True)


def mask(entries, density, seed=1, tensor="t", model="m"):
    return numbers(torch.zeros(entries), mask_stream(seed, tensor, model)) < bound(density)


@given(DENSITY, DENSITY, st.integers(0, 2**31), st.integers(1, 3000))
def test_masks_are_nested_in_density(one, other, seed, size):
    low, high = sorted((one, other))
    assert bool((mask(size, low, seed) <= mask(size, high, seed)).all())


def test_an_entry_does_not_depend_on_those_after_it():
    assert torch.equal(mask(1000, 0.3), mask(5000, 0.3)[:1000])


def test_masks_are_the_same_in_another_process():
    code = (
        "import torch;"
        "from evomerge.merging.operators.random_masks import bound, numbers, mask_stream;"
        "m = numbers(torch.zeros(5000), mask_stream(7, 'q', 'expert')) < bound(0.3);"
        "print((m * torch.arange(5000)).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12", "PATH": ""},
    )
    here = mask(5000, 0.3, 7, "q", "expert")
    assert int(done.stdout) == int((here * torch.arange(5000)).sum())


@pytest.mark.parametrize("density", [0.01, 0.3, 0.5, 0.97])
def test_masks_keep_their_share_independently(density):
    size = 1 << 20
    keys = [(1, "t", "a"), (1, "t", "b"), (1, "u", "a"), (2, "t", "a")]
    error = 5 * (density * (1 - density) / size) ** 0.5
    rows = [mask(size, density, *key).double() for key in keys]
    for row in rows:
        assert abs(float(row.mean()) - density) < error
        neighbours = float((row[1:] * row[:-1]).mean())
        assert abs(neighbours - density**2) < 3 * error
    for k, row in enumerate(rows):
        for other in rows[:k]:
            assert abs(float((row * other).mean()) - density**2) < 3 * error


def test_masks_vary_along_every_bit_of_the_index():
    row, index = mask(1 << 16, 0.5).double(), torch.arange(1 << 16)
    for bit in range(16):
        ones = float(row[(index >> bit) & 1 == 1].mean())
        assert abs(ones - 0.5) < 5 * 0.5 / 2**7.5


def test_numbers_are_spread_evenly():
    row = numbers(torch.zeros(1 << 18), mask_stream(3, "t", "m")).double() / NUMBERS
    assert 0 <= float(row.min()) < 1e-4
    assert 1 - 1e-4 < float(row.max()) < 1
    shares = torch.histc(row, 16, 0, 1) / len(row)
    assert float((shares - 1 / 16).abs().max()) < 5 * (15 / 16 / 16 / len(row)) ** 0.5


@pytest.mark.parametrize("apart", [1, RUN // 2, RUN])
def test_numbers_do_not_tell_those_further_on(apart):
    row = numbers(torch.zeros(1 << 18), mask_stream(3, "t", "m")).double()
    together = torch.stack([row[:-apart], row[apart:]])
    assert abs(float(torch.corrcoef(together)[0, 1])) < 5 / (1 << 18) ** 0.5
