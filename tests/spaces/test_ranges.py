"""Ranges: the spellings of YAML, the genes they become, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene
from evomerge.spaces.ranges import ParameterRange

RANGE = TypeAdapter(ParameterRange)


@pytest.mark.parametrize(
    ("written", "gene"),
    [
        ([0, 1], FloatGene("g", 0.0, 1.0)),
        ([-0.5, 1.5], FloatGene("g", -0.5, 1.5)),
        ({"low": 0, "high": 2}, FloatGene("g", 0.0, 2.0)),
        ({"low": 0.01, "high": 1, "log": True}, FloatGene("g", 0.01, 1.0, log=True)),
        ({"low": 1, "high": 4, "int": True}, IntGene("g", 1, 4)),
        ({"low": -3.0, "high": 3.0, "int": True}, IntGene("g", -3, 3)),
        ({"choice": ["a", "b"]}, ChoiceGene("g", ("a", "b"))),
        ({"choice": [True, False]}, ChoiceGene("g", (True, False))),
        ({"choice": [0.5, 2, "x"]}, ChoiceGene("g", (0.5, 2, "x"))),
    ],
    ids=str,
)
def test_what_may_vary_becomes_a_gene(written, gene):
    read = RANGE.validate_python(written)
    assert not read.fixed
    assert read.gene("g") == gene


@pytest.mark.parametrize("value", [0.5, 0, 3, True, False, "text", 0.0], ids=repr)
def test_a_plain_value_is_fixed_and_keeps_its_type(value):
    read = RANGE.validate_python(value)
    assert read.fixed
    assert (read.value, type(read.value)) == (value, type(value))


def test_a_fixed_value_has_no_gene():
    with pytest.raises(ValueError, match="needs no gene"):
        RANGE.validate_python(0.5).gene("g")


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({}, "give a value, or"),
        (None, "dictionary"),
        ({"value": 1, "low": 0, "high": 1}, "give a value, or"),
        ({"choice": ["a"], "low": 0, "high": 1}, "give a value, or"),
        ({"low": 0}, "needs both low and high"),
        ({"high": 0}, "needs both low and high"),
        ([1, 0], "low 1.0 is above high 0.0"),
        ([1, 2, 3], "a list of options is"),
        (["a", "b"], "a list of options is"),
        ([False, True], "a list of options is"),
        ({"low": False, "high": True}, "valid number"),
        ({"low": "0", "high": 1}, "valid number"),
        ([0, float("inf")], "finite"),
        ([float("nan"), 1], "finite"),
        (float("nan"), "finite"),
        ({"choice": [1.0, float("nan")]}, "finite"),
        ([-1.7e308, 1.7e308], "too wide"),
        ({"low": 0, "high": 1, "log": True}, "log spacing needs"),
        ({"low": 1e-9, "high": 1, "log": True}, "log spacing needs"),
        ({"low": 1, "high": 2, "log": True, "int": True}, "either 'log' or 'int'"),
        ({"low": 0.5, "high": 2, "int": True}, "must be whole"),
        ({"choice": [1, 2], "int": True}, "for intervals"),
        ({"value": 1, "log": True}, "for intervals"),
        ({"choice": []}, "at least one choice"),
        ({"choice": ["a", "a"]}, "twice"),
        ({"choice": [True, 1]}, "twice"),
        ({"choice": [0, 0.0]}, "twice"),
        ({"value": 1, "per": ["expert"]}, "leave 'per' out"),
        ({"low": 0, "high": 1, "per": ["layer"]}, "'layers'"),
        ({"low": 0, "high": 1, "step": 0.1}, "Extra inputs"),
    ],
    ids=str,
)
def test_what_is_no_range_is_refused_with_the_reason(written, reason):
    with pytest.raises(ValidationError, match=reason):
        RANGE.validate_python(written)


NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
INTERVALS = st.tuples(NUMBERS, NUMBERS).map(sorted)
WRITTEN = st.one_of(
    NUMBERS,
    st.booleans(),
    st.text(max_size=4),
    INTERVALS,
    INTERVALS.map(lambda b: {"low": b[0], "high": b[1], "per": ["layers"]}),
    st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(
        lambda b: {"low": b[0], "high": b[0] + b[1], "int": True}
    ),
    st.lists(st.one_of(NUMBERS, st.text(max_size=4)), min_size=1, unique=True).map(
        lambda options: {"choice": options}
    ),
)


@given(WRITTEN)
def test_a_range_survives_being_recorded_as_json(written):
    read = RANGE.validate_python(written)
    assert RANGE.validate_json(RANGE.dump_json(read)) == read


@given(WRITTEN, st.floats())
def test_every_value_lies_between_or_among_the_ends(written, unit):
    read = RANGE.validate_python(written)
    value = read.value if read.fixed else read.gene("g").from_unit(unit)
    if isinstance(value, bool | str) or read.choice is not None:
        assert value in read.ends
    else:
        assert min(read.ends) <= value <= max(read.ends)
    assert type(value) in {type(end) for end in read.ends}
