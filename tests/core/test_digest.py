"""Canonical JSON and digests."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.digest import canonical_json, digest

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_canonical_json_reads_back_as_the_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), PLAIN, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_count(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert digest({key: value[key] for key in keys}) == digest(value)


def test_the_spelling_is_the_shortest():
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        digest({"x": [value]})


def test_values_of_different_kind_have_different_digests():
    values = [1, 1.5, "1", True, None, [], {}, [1], {"1": 1}, ""]
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("length", [8, 32, 64])
def test_a_digest_is_so_many_hex_digits(length):
    assert len(digest("x", length)) == length
    assert digest("x", 64).startswith(digest("x", length))
    int(digest("x", length), 16)


def test_a_digest_stays_what_it_was():
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad808"
