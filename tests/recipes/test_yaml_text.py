"""YAML as evomerge reads and writes it: no surprises of YAML 1.1, everything comes back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.recipes.yaml_text import YamlError, dump_yaml, load_yaml, yaml_scalar

PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Cn"))
TEXT = st.text(PRINTABLE, max_size=12) | st.from_regex(r"[-+]?[0-9._eEx:]{1,8}", fullmatch=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value):
    back = load_yaml(dump_yaml(value))
    assert back == value
    assert repr(back) == repr(value)


@given(TEXT)
def test_a_scalar_may_stand_in_flow_lists_and_as_a_key(text):
    scalar = yaml_scalar(text)
    assert load_yaml(f"[{scalar}, {{{scalar}: 1}}]") == [text, {text: 1}]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("1_000", 1000),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-31", "2024-01-31"),
        ("12:30:45", "12:30:45"),
        ("010", "010"),
        ("'1'", "1"),
    ],
)
def test_scalars_are_read_the_yaml_1_2_way(written, value):
    read = load_yaml(written)
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merge_keys_work():
    text = "a: {deep: {<<: &b {x: 1, y: 2}, y: 3}}\nc: {<<: *b, x: 9}"
    assert load_yaml(text) == {"a": {"deep": {"x": 1, "y": 3}}, "c": {"x": 9, "y": 2}}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' stands twice"),
        ("a:\n  x: 1\n  'x': 2", 3, "the key 'x' stands twice"),
        ("a: [1,", 1, "expected the node content"),
        ("a: 1\nb: !!python/object:os.system x", 2, "could not determine a constructor"),
        ("a: !!timestamp 2024-13-45", 1, "could not determine a constructor"),
        ("a: *x", 1, "undefined alias"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("? [a]\n: 1", 1, "unhashable key"),
        ("a: \x07", None, "special characters are not allowed"),
        ("a: !!int x", None, "invalid literal"),
        ("a: !!bool x", None, "x"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_the_line(text, line, reason):
    with pytest.raises(YamlError) as caught:
        load_yaml(text)
    assert caught.value.line == line
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)
