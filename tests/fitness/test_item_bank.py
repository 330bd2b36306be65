import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.item_bank import SPLITS, ItemBank, choose, divide, overlaps


def bank(count: int = 20) -> ItemBank:
    splits = divide([str(n) for n in range(count)], np.random.default_rng(3))
    return ItemBank("sum", "v", count, splits)


CONTENTS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@given(CONTENTS, st.integers(0, 5))
def test_divide_puts_every_item_in_one_split_and_equal_contents_together(contents, seed):
    texts = [str(c) for c in contents]
    splits = divide(texts, np.random.default_rng(seed))
    ItemBank("t", "v", len(texts), splits)
    assert overlaps("t", splits, texts) == ()
    assert all(list(splits[s]) == sorted(splits[s]) for s in SPLITS)


def test_divide_gives_half_to_search_a_fifth_to_validation_and_the_rest_to_test():
    assert [len(bank(100).splits[s]) for s in SPLITS] == [50, 20, 30]


def test_divide_depends_on_the_generator_only():
    contents = [str(n) for n in range(40)]
    first, same, other = (divide(contents, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == same != other


@given(st.integers(1, 10), st.integers(0, 99))
def test_chosen_items_are_sorted_different_and_of_the_split(count, seed):
    one = bank()
    items = choose(one, "search", count, np.random.default_rng(seed))
    assert len(items) == count == len(set(items))
    assert list(items) == sorted(items)
    assert {one.split_of(i) for i in items} == {"search"}


def test_choosing_without_a_number_takes_all_and_draws_nothing():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert choose(bank(), "test", None, rng) == bank().splits["test"]
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("count", [0, 11])
def test_choosing_too_many_or_no_items_is_refused_with_the_number_there_is(count):
    with pytest.raises(ConfigError, match=f"{count} items asked.*has 10"):
        choose(bank(), "search", count, np.random.default_rng(0))


def test_an_unknown_split_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="did you mean 'validation'"):
        choose(bank(), "validatoin", 1, np.random.default_rng(0))


def test_splits_that_share_or_lose_an_item_are_refused():
    with pytest.raises(ValueError, match="each of 3 items once"):
        ItemBank("t", "v", 3, {"search": (0, 1), "validation": (1,), "test": (2,)})
    with pytest.raises(ValueError, match="each of 3 items once"):
        ItemBank("t", "v", 3, {"search": (0,), "validation": (1,), "test": ()})


def test_equal_documents_in_two_splits_are_reported_with_examples():
    splits = {"search": (0, 1, 2), "validation": (3,), "test": (4, 5)}
    (sentence,) = overlaps("town", splits, ["a", "b", "c", "d", "c", "e"])
    assert "1 documents of the search split are also in the test split" in sentence
    assert "2 = 4" in sentence
