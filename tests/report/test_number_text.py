import pytest

from evomerge.core.objectives import Estimate
from evomerge.fitness.paired import Interval
from evomerge.report import number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7123, "0.712"),
        (13.25, "13.25"),
        (134_515_008, "134.5 M"),
        (0.00012, "1.2e-04"),
        (0.0, "0.000"),
        (-0.5, "-0.500"),
        (1500, "1500"),
    ],
)
def test_numbers_have_about_four_digits(value, text):
    assert number_text.number(value) == text


def test_differences_carry_their_sign_and_bounds():
    assert number_text.signed_interval(Interval(0.031, -0.004, 0.058)) == (
        "+0.031 [−0.004, +0.058]"
    )


def test_exact_values_show_no_error():
    assert number_text.estimate(Estimate(0.5, 0.0)) == "0.500"
    assert number_text.estimate(Estimate(0.5, 0.02)) == "0.500 ± 0.020"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.42, "1.4 s"), (48, "48 s"), (725, "12 min 5 s"), (11_040, "3 h 4 min")],
)
def test_durations_use_two_units_at_most(seconds, text):
    assert number_text.duration(seconds) == text
