"""Values, gradients and filters, as mergekit resolves them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.recipes.mergekit_setting import as_kind_of, filters_of, setting_problems, value_at

NAMES = (
    "model.layers.3.self_attn.q_proj.weight",
    "model.layers.3.mlp.up_proj.weight",
    "lm_head",
)
NUMBERS = st.floats(-2, 2).map(lambda x: round(x, 3))
PLAIN = NUMBERS | st.lists(NUMBERS, min_size=1, max_size=5)
CONDITION = st.fixed_dictionaries(
    {"value": PLAIN}, optional={"filter": st.sampled_from(["mlp", "q_proj", "*", None, "proj"])}
)
SETTINGS = PLAIN | CONDITION | st.lists(CONDITION, min_size=1, max_size=4)


@given(SETTINGS, st.sampled_from(NAMES), st.integers(0, 7), st.integers(1, 8))
def test_numbers_are_those_of_mergekit(setting, name, layer, count):
    config = pytest.importorskip("mergekit.config", reason="mergekit 0.1.5 is the oracle")
    from pydantic import TypeAdapter

    depth = layer % count / (count - 1) if count > 1 else 1.0
    theirs = config.evaluate_setting(
        name,
        TypeAdapter(config.ParameterSetting).validate_python(setting),
        depth,
        validate=TypeAdapter(float).validate_python,
    )
    ours = value_at(setting, name, depth)
    assert (ours is None) == (theirs is None)
    assert setting_problems(setting) == []
    if theirs is not None:
        assert ours == pytest.approx(theirs, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize(
    ("depth", "expected"), [(0, True), (0.49, True), (0.5, False), (0.99, False), (1, True)]
)
def test_what_is_no_number_is_that_of_the_knot_before(depth, expected):
    assert value_at([True, False, True], "x", depth) is expected


def test_a_number_in_text_is_one():
    """mergekit's reader leaves ``1e-3`` as text."""
    assert value_at(["1e-1", 0.3], "x", 0.5) == 0.2


def test_interpolated_values_show_no_rounding_noise():
    assert value_at([0.0, 0.3], "x", 1 / 3) == 0.1


def test_filters_are_listed_in_order_without_those_that_match_all():
    given = [{"filter": "mlp", "value": 1}, {"filter": "*", "value": 2}, {"value": 3}]
    assert filters_of(given) == ["mlp"]
    assert filters_of({"filter": "attn", "value": [1, 2]}) == ["attn"]
    assert filters_of([0.1, 0.2]) == []


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (None, "must be a value, a list of values or of {filter, value}, found None"),
        ([], "must be a value"),
        ([0.1, [0.2]], "a gradient is a list of plain values, found [0.2]"),
        ([0.1, {"value": 1}], "mixes values and {filter, value}, found 0.1"),
        ({"filter": "mlp"}, "must be a value"),
        ({"filtre": "mlp", "value": 1}, "unknown key 'filtre'; did you mean 'filter'?"),
        ({"filter": 3, "value": 1}, "a filter must be a part of tensor names, found 3"),
        ({"value": [{"value": 1}]}, "the value of a filter must be a value or a list"),
        (float("nan"), "must be finite"),
        ([1.0, float("inf")], "must be finite"),
    ],
    ids=str,
)
def test_each_wrong_shape_is_named(setting, problem):
    (found,) = setting_problems(setting)
    assert problem in found


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        (None, 1, 1.0),
        (1.0, True, 1.0),
        (0.15, "0.2", None),
        (False, "yes", True),
        (True, 0, False),
        (True, "maybe", None),
        (10, 5.0, 5),
        (False, 1.0, True),
    ],
)
def test_values_become_of_the_parameters_kind(default, given, expected):
    if expected is None:
        with pytest.raises(ValueError, match="found"):
            as_kind_of(default, given)
    else:
        found = as_kind_of(default, given)
        assert (found, type(found)) == (expected, type(expected))
