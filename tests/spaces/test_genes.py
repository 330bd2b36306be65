"""Genes: total maps from the unit interval, and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.spaces.genes import (
    ChoiceGene,
    FloatGene,
    IntGene,
    genome_from_unit,
    genome_to_unit,
)

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
UNITS = st.floats(0, 1)


def bounds(low: float, high: float, **limits: bool) -> st.SearchStrategy[tuple[float, float]]:
    value = st.floats(low, high, allow_nan=False, **limits)
    return st.tuples(value, value).map(lambda pair: (min(pair), max(pair)))


FLOATS = bounds(-1000, 1000).map(lambda b: FloatGene("g", *b))
LOGS = bounds(1e-4, 1000).map(lambda b: FloatGene("g", *b, log=True))
INTS = st.tuples(st.integers(-50, 50), st.integers(0, 60)).map(
    lambda pair: IntGene("g", pair[0], pair[0] + pair[1])
)
CHOICES = st.lists(st.text(max_size=3), min_size=1, max_size=9, unique=True).map(
    lambda options: ChoiceGene("g", tuple(options))
)
GENES = st.one_of(FLOATS, LOGS, INTS, CHOICES)


@given(st.one_of(FLOATS, LOGS), ANY_FLOAT)
def test_any_number_gives_a_float_within_the_bounds(gene, unit):
    value = gene.from_unit(unit)
    assert type(value) is float
    assert gene.low <= value <= gene.high


@given(INTS, ANY_FLOAT)
def test_any_number_gives_an_int_within_the_bounds(gene, unit):
    value = gene.from_unit(unit)
    assert type(value) is int
    assert gene.low <= value <= gene.high


@given(CHOICES, ANY_FLOAT)
def test_any_number_gives_one_of_the_options(gene, unit):
    assert gene.from_unit(unit) in gene.options


@given(GENES)
def test_points_outside_are_clipped_and_nan_is_the_middle(gene):
    assert gene.from_unit(-0.1) == gene.from_unit(-math.inf) == gene.from_unit(0.0)
    assert gene.from_unit(1.1) == gene.from_unit(math.inf) == gene.from_unit(1.0)
    assert gene.from_unit(math.nan) == gene.from_unit(0.5)


@given(GENES, UNITS)
def test_the_point_of_a_value_gives_the_value_back(gene, unit):
    value = gene.from_unit(unit)
    assert gene.from_unit(gene.to_unit(value)) == value


@given(GENES, UNITS)
def test_the_point_of_a_value_is_in_the_unit_interval(gene, unit):
    assert 0 <= gene.to_unit(gene.from_unit(unit)) <= 1


@given(st.one_of(FLOATS, LOGS, INTS), UNITS, UNITS)
def test_number_genes_rise_with_the_unit(gene, a, b):
    assert gene.from_unit(min(a, b)) <= gene.from_unit(max(a, b))


@given(FLOATS)
def test_the_ends_of_the_unit_interval_are_the_bounds_within_rounding(gene):
    assert gene.from_unit(0.0) == pytest.approx(gene.low, abs=1e-6)
    assert gene.from_unit(1.0) == pytest.approx(gene.high, abs=1e-6)


@given(FLOATS, UNITS)
def test_floats_strictly_between_the_bounds_have_six_decimals(gene, unit):
    value = gene.from_unit(unit)
    assert value in (gene.low, gene.high) or value == round(value, 6)


@given(INTS)
def test_ints_have_equal_shares(gene):
    count = gene.high - gene.low + 1
    middles = [gene.from_unit((k + 0.5) / count) for k in range(count)]
    assert middles == list(range(gene.low, gene.high + 1))
    for k in range(count):
        assert gene.from_unit((k + 0.001) / count) == gene.from_unit((k + 0.999) / count)


@given(CHOICES)
def test_choices_have_equal_shares(gene):
    count = len(gene.options)
    for k, option in enumerate(gene.options):
        assert gene.from_unit((k + 0.001) / count) == option
        assert gene.from_unit((k + 0.999) / count) == option


def test_a_log_gene_is_spaced_by_ratio():
    gene = FloatGene("g", 0.01, 100.0, log=True)
    assert [gene.from_unit(u) for u in (0, 0.25, 0.5, 0.75, 1)] == [0.01, 0.1, 1.0, 10.0, 100.0]


def test_a_gene_without_width_is_its_one_value():
    assert FloatGene("g", 0.5, 0.5).from_unit(0.9) == 0.5
    assert FloatGene("g", 0.5, 0.5).to_unit(0.5) == 0.5
    assert IntGene("g", 3, 3).from_unit(0.9) == 3


def test_values_beyond_the_bounds_map_to_the_ends():
    assert FloatGene("g", 0.0, 1.0).to_unit(7.0) == 1.0
    assert FloatGene("g", 0.0, 1.0).to_unit(-7.0) == 0.0
    gene = IntGene("g", 1, 4)
    assert gene.from_unit(gene.to_unit(99)) == 4


def test_a_value_that_is_no_option_is_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        ChoiceGene("g", ("a", "b")).to_unit("c")


def test_a_genome_keeps_the_order_of_the_genes_and_comes_back():
    genes = [IntGene("z", 0, 3), ChoiceGene("a", ("x", "y")), FloatGene("m", -1.0, 1.0)]
    genome = genome_from_unit(genes, [0.9, 0.1, 0.75])
    assert list(genome.items()) == [("z", 3), ("a", "x"), ("m", 0.5)]
    assert genome_from_unit(genes, genome_to_unit(genes, genome)) == genome


def test_a_point_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        genome_from_unit([IntGene("a", 0, 3)], [0.1, 0.2])
