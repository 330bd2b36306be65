"""Item banks of custom tasks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.fitness.custom_task import CustomItems, custom_bank
from evomerge.fitness.item_bank import SPLITS, choose


@given(st.integers(8, 3000), st.integers(0, 50))
def test_numbered_items_are_divided_so_that_each_split_can_be_scored(count, seed):
    bank = custom_bank("judge", "x", CustomItems(count), seed)
    assert bank.count == count
    assert all(len(bank.items(split)) >= 2 for split in SPLITS)
    assert len(bank.items("search")) == pytest.approx(count / 2, abs=1)


def test_the_seed_decides_the_division_and_nothing_else():
    one, same, other = (custom_bank("judge", "x", CustomItems(50), seed) for seed in (1, 1, 2))
    assert one == same
    assert one.splits != other.splits
    assert one.version == other.version


def test_items_given_by_split_are_numbered_through():
    sizes = {"search": 3, "validation": 2, "test": 4}
    bank = custom_bank("judge", "x", CustomItems(sizes), 0)
    assert bank.splits == {"search": (0, 1, 2), "validation": (3, 4), "test": (5, 6, 7, 8)}


def test_a_whole_task_is_always_asked_for_all_of_a_split():
    bank = custom_bank("arena", "x", CustomItems(), 0)
    rng = np.random.default_rng(0)
    for split in SPLITS:
        assert choose(bank, split, 5, rng) == choose(bank, split, None, rng)


@pytest.mark.parametrize(
    ("definition", "items"),
    [
        ("y", CustomItems(20)),
        ("x", CustomItems(21)),
        ("x", CustomItems({"search": 10, "validation": 4, "test": 6})),
        ("x", CustomItems()),
        ("x", CustomItems(20, ("score", "cost"))),
    ],
)
def test_the_version_changes_with_what_defines_a_score(definition, items):
    plain = custom_bank("judge", "x", CustomItems(20), 0)
    assert custom_bank("judge", definition, items, 0).version != plain.version
