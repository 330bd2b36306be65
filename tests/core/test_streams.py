"""Named random streams."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.streams import derived_seed, stream

NAMES = st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3)


def draws(*key) -> list[float]:
    return stream(*key).random(4).tolist()


@given(st.integers(), NAMES)
def test_the_same_seed_and_names_give_the_same_stream(seed, names):
    assert draws(seed, *names) == draws(seed, *names)


def test_streams_differ_by_seed_and_by_every_part_of_the_name():
    keys = [
        (0,),
        (1,),
        (-1,),
        (0, "a"),
        (0, "b"),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, "a", 0),
        (0, "a", 1),
        (0, "a", "1"),
    ]
    assert len({tuple(draws(*key)) for key in keys}) == len(keys)


def test_numpy_integers_and_plain_ones_name_the_same_stream():
    assert draws(np.int64(3), "a") == draws(3, "a")


def test_a_stream_is_the_same_in_another_process():
    code = (
        "from evomerge.core.streams import stream; print(stream(5, 'x', 2).random(4).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(draws(5, "x", 2))


def test_making_a_stream_leaves_the_global_generators_alone():
    before = repr(np.random.get_state(legacy=False)), random.getstate()  # noqa: NPY002
    stream(0, "a").random(10)
    derived_seed(0, "a")
    assert (repr(np.random.get_state(legacy=False)), random.getstate()) == before  # noqa: NPY002


@given(st.integers(), NAMES)
def test_a_derived_seed_is_a_positive_31_bit_integer(seed, names):
    derived = derived_seed(seed, *names)
    assert type(derived) is int
    assert 1 <= derived < 2**31


@pytest.mark.parametrize("other", [(1, "a"), (0, "b")])
def test_derived_seeds_differ_by_seed_and_name(other):
    assert derived_seed(0, "a") != derived_seed(*other)
