"""The trie of hidden states: what it finds, what it keeps, and that it keeps within bounds."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.fitness.prefix_states import PrefixStates

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=6)


def scored(states: PrefixStates, batch: str, layers, size: int = 1, before: str = "e") -> int:
    """Put a candidate through a batch; returns after how many layers it could begin.

    A state is the text of all that led to it, which any other state would contradict.
    """
    states.begin(before, layers)
    return passed(states, batch, layers, size, before)


def passed(states, batch, layers, size=1, before="e") -> int:
    first, state = states.longest(batch)
    assert state == (text(batch, before, layers[:first]) if first else None)
    for depth in range(first + 1, len(layers) + 1):
        if states.wants(batch, depth, size):
            states.keep(batch, depth, text(batch, before, layers[:depth]), size)
    states.touch(batch)
    return first


def text(batch, before, layers) -> str:
    return f"{batch}|{before}|{'-'.join(layers)}"


def test_a_candidate_begins_where_the_longest_common_path_ends():
    states = PrefixStates(1000)
    assert scored(states, "1", "abcd") == 0
    assert scored(states, "1", "abxd") == 2
    assert scored(states, "1", "abcdd") == 4
    assert scored(states, "1", "abx") == 3
    assert scored(states, "1", "bbcd") == 0


def test_other_batches_and_other_embeddings_share_nothing():
    states = PrefixStates(1000)
    scored(states, "1", "abcd")
    assert scored(states, "2", "abcd") == 0
    assert scored(states, "1", "abcd", before="other") == 0
    assert scored(states, "1", "abcd") == 4


def test_layers_are_told_apart_by_where_their_names_end():
    states = PrefixStates(1000)
    scored(states, "1", ["ab", "c"])
    assert scored(states, "1", ["a", "bc"]) == 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(PATHS, st.lists(st.sampled_from("123"), max_size=3)), max_size=40),
    st.integers(0, 30),
    st.integers(1, 4),
)
def test_states_are_the_right_ones_and_within_the_limit_whatever_comes(asked, limit, size):
    states = PrefixStates(limit)
    for layers, batches in asked:
        states.begin("e", layers)
        for batch in batches:
            passed(states, batch, layers, size)
            assert 0 <= states.statistics.held <= limit
    assert states.statistics.most_held <= limit
    held = sum(len(batch.states) for batch in states._batches.values())
    assert states.statistics.held == size * held


def test_batches_that_are_asked_no_more_give_way_first():
    states = PrefixStates(12)
    for number in range(2):
        scored(states, "old", ["a", "b", f"o{number}"])
    assert states.statistics.held == 4
    for number in range(8):
        scored(states, "new", ["a", "b", "c", f"n{number}"])
    for number in range(8):
        scored(states, "newer", ["a", "b", "c", f"m{number}"])
    assert states.depths("old") == []
    assert scored(states, "newer", "abcx") == 3


def test_the_path_unused_for_longest_gives_way_from_its_deepest_layer_on():
    states = PrefixStates(8)
    layers = ["a", "b"]
    scored(states, "1", [*layers, "p", "q"])
    for number in range(9):  # so that the depth expected is that of the common layers
        scored(states, "1", [*layers, f"x{number}"])
    assert states.statistics.held <= 8
    states.begin("e", [*layers, "p", "q"])
    assert states.depths("1") == [1, 2]


def test_more_batches_than_there_is_room_for_still_share():
    """One after the other they would give up what the next candidate begins with."""
    states = PrefixStates(40)
    rng = random.Random(1)
    saved = asked = 0
    for _ in range(60):
        layers = [*"abcdefgh", *(rng.choice("xyz") for _ in range(8))]
        states.begin("e", layers)
        for batch in range(10):
            saved += passed(states, str(batch), layers)
            asked += len(layers)
    assert states.statistics.held <= 40
    assert saved / asked > 0.25


def test_nothing_is_kept_where_nothing_is_shared_until_something_is():
    states = PrefixStates(1000)
    for number in range(40):
        scored(states, "1", [f"{number}", "b", "c"])
    assert not states.promising
    assert states.statistics.held == 0
    scored(states, "1", ["39", "b", "x"])  # known by name, not by its state
    assert states.promising
    assert scored(states, "1", ["39", "b", "y"]) > 0


def test_a_candidate_asked_again_is_no_sign_that_others_will_share():
    states = PrefixStates(1000)
    for number in range(40):
        for rung in ("1", "2"):
            scored(states, rung, [f"{number}", "b"])
    assert not states.promising


def test_states_given_up_by_hand_are_gone():
    states = PrefixStates(1000)
    scored(states, "1", "abc")
    scored(states, "1", "abd")
    states.drop("1")
    assert scored(states, "1", "abc") == 0 or states.depths("1") == [3]
    states.clear()
    assert states.statistics.held == 0
    assert scored(states, "1", "abc") == 0


def test_a_limit_of_nothing_keeps_nothing():
    states = PrefixStates(0)
    scored(states, "1", "abc")
    assert scored(states, "1", "abc") == 0


def test_what_is_asked_and_run_is_counted():
    states = PrefixStates(10)
    states.count(asked=10, run=0)
    states.count(asked=0, run=4)
    assert (states.statistics.asked, states.statistics.run) == (10, 4)
    assert states.statistics.saved == pytest.approx(0.6)
    assert PrefixStates(10).statistics.saved == 0


def calls_a_batch(batches: int) -> float:
    """Function calls for each batch of a candidate for whose states others are given up."""
    states = PrefixStates(13 * batches)
    counted = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    for first in "abcd":
        states.begin("e", f"x{first}bcde")
        before = sys.getprofile()
        sys.setprofile(count if first == "d" else before)
        for number in range(batches):
            passed(states, str(number), f"x{first}bcde")
        sys.setprofile(before)
    assert states.statistics.held == 13 * batches
    return counted / batches


def test_work_for_a_batch_does_not_grow_with_the_number_of_batches():
    assert calls_a_batch(300) < 1.5 * calls_a_batch(30)
