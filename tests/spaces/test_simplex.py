"""Weights that are shares of a whole: exact sums, even spread, and the way back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscapes import parameter_space, source_models
from spaces.drawn_spaces import points

from evomerge.core.recipe import Rule
from evomerge.optimizers.soups.soups import models_of
from evomerge.recipes.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from evomerge.spaces.genes import FloatGene, genome_from_unit, genome_to_unit
from evomerge.spaces.simplex import ShareGene, amounts_of, proportions, shares

GENE = ShareGene("g", 0.0, 1.0)
AMOUNTS = st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), min_size=1, max_size=40)


def pool(count, **spec):
    keys = {"operator": "linear", "weights": "simplex", "experts": {}, "merge": {}} | spec
    return parameter_space(source_models(experts=count), **keys)


def weights_of(rule):
    return [own["weight"] for own in rule.models.values()]


# ---- the gene


@given(st.floats())
def test_a_share_gene_is_total_and_never_minus_zero(unit):
    value = GENE.from_unit(unit)
    assert 0 <= value <= 1
    assert math.copysign(1, value) == 1


@given(st.floats(0, 1), st.sampled_from([(0.0, 1.0), (0.1, 2.0), (0.0, 0.3), (0.5, 0.5)]))
def test_a_share_genes_value_comes_back_from_its_unit(unit, ends):
    gene = ShareGene("g", *ends)
    value = gene.from_unit(unit)
    assert gene.from_unit(gene.to_unit(value)) == value
    assert gene.from_unit(0) == gene.low
    assert gene.from_unit(1) == gene.high


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_share_gene_grows_with_its_unit(one, other):
    low, high = sorted([one, other])
    assert GENE.from_unit(low) <= GENE.from_unit(high)


def marginal_gap(draw, count=16, samples=4000):
    """Largest distance of the first share's distribution to that of even points.

    On the simplex of n corners a share is beyond x with probability (1 - x)^(n - 1).
    """
    rng = np.random.default_rng(5)
    first = []
    for units in rng.random((samples, count)):
        amounts = [draw(unit) for unit in units]
        first.append(amounts[0] / sum(amounts))
    at = np.sort(first)
    even = 1 - (1 - at) ** (count - 1)
    return np.abs(even - np.arange(1, samples + 1) / samples).max()


def test_even_draws_are_spread_evenly_over_the_simplex_also_of_16_models():
    # Kolmogorov and Smirnov: 1 in 1000 even samples of 4000 is off by more than 0.031.
    assert marginal_gap(GENE.from_unit) < 0.031
    assert marginal_gap(FloatGene("g", 0.0, 1.0).from_unit) > 0.1


# ---- shares


@given(AMOUNTS)
def test_shares_add_up_to_one_in_six_decimals(amounts):
    found = shares(amounts)
    assert sum(round(share * 10**6) for share in found.values()) == 10**6
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
    for name, part in proportions(amounts).items():
        assert found[name] == round(found[name], 6)
        assert found[name] == pytest.approx(part, abs=1.001e-6)


@pytest.mark.parametrize("amount", [0.0, 5e-324, 1e-300, 1.0, 1e308])
@pytest.mark.parametrize("count", [1, 3, 24])
def test_equal_amounts_are_equal_shares_also_of_nothing(amount, count):
    found = shares({str(k): amount for k in range(count)}).values()
    assert all(share == pytest.approx(1 / count, abs=1e-6) for share in found)


@given(AMOUNTS, st.sampled_from([0.3, 1.0, 4.0]))
def test_amounts_of_shares_are_in_range_and_give_them_back_exactly(amounts, high):
    given_ = shares(amounts)
    found = amounts_of(given_, high)
    assert all(0 <= amount <= high * (1 + 1e-12) for amount in found.values())
    gene = ShareGene("g", 0.0, high)
    rounded = {name: gene.from_unit(gene.to_unit(each)) for name, each in found.items()}
    assert shares(rounded) == given_


# ---- spaces over it


@given(st.integers(1, 24), st.data())
def test_weights_of_a_section_add_up_to_one_and_come_back(count, data):
    space = pool(count)
    units = data.draw(points(space))
    recipe = space.decode(genome_from_unit(space.genes, units))
    (rule,) = recipe.rules
    assert math.fsum(weights_of(rule)) == pytest.approx(1, abs=1e-6)
    assert min(weights_of(rule)) >= 0
    assert recipe_from_yaml(recipe_to_yaml(recipe)).digest == recipe.digest
    assert space.decode(space.encode(recipe)).digest == recipe.digest


@given(st.data())
def test_weights_add_up_to_one_at_every_layer_between_knots(data):
    space = pool(3, layer_groups=2, interpolate=True)
    recipe = space.decode(genome_from_unit(space.genes, data.draw(points(space))))
    for rule in recipe.rules:
        assert math.fsum(weights_of(rule)) == pytest.approx(1, abs=1e-6)


def test_between_knots_shares_and_not_amounts_are_on_the_line():
    space = pool(2, layer_groups=2, interpolate=True)
    genome = {gene.name: 0.5 for gene in space.genes} | {
        "e1.weight at layer 0": 0.01,
        "e2.weight at layer 0": 0.0,
        "e1.weight at layer 3": 0.0,
        "e2.weight at layer 3": 1.0,
    }
    recipe = space.decode(genome)
    first = [weights_of(recipe.rule_for(f"layers.{k}.mlp"))[0] for k in range(4)]
    assert first == [1.0, pytest.approx(2 / 3, abs=1e-6), pytest.approx(1 / 3, abs=1e-6), 0.0]


def test_weights_of_zero_are_equal_ones():
    (rule,) = pool(4).decode({f"e{k}.weight": 0.0 for k in range(1, 5)}).rules
    assert weights_of(rule) == [0.25] * 4


def test_experts_that_are_off_leave_their_share_to_the_others():
    space = pool(3, subset=True)
    genome = {f"e{k}.weight": 0.2 for k in (1, 2, 3)} | {"e1.on": 1, "e2.on": 0, "e3.on": 1}
    (rule,) = space.decode(genome).rules
    assert weights_of(rule) == [0.5, 0.5]


def test_weights_need_no_range_and_a_fixed_one_is_the_same_share_for_all():
    assert [gene.name for gene in pool(3).genes] == ["e1.weight", "e2.weight", "e3.weight"]
    fixed = pool(4, experts={"weight": 1.0})
    assert fixed.genes == ()
    assert weights_of(fixed.decode({}).rules[0]) == [0.25] * 4


def test_operators_without_weights_may_share_a_space_with_those_that_have_them():
    space = parameter_space(
        source_models(experts=2),
        operator=["slerp", "linear"],
        weights="simplex",
        experts={},
        merge={"t": [0, 1]},
    )
    genome = {gene.name: gene.from_unit(0.5) for gene in space.genes}
    (plain,) = space.decode(genome | {"operator": "slerp"}).rules
    assert plain.models == {"e1": {}, "e2": {}}
    assert space.encode(space.decode(genome | {"operator": "slerp"})) is not None


def test_the_average_is_encoded_to_equal_amounts_away_from_the_edge():
    space = pool(16)
    average = next(each for each in space.baselines() if each.name == "uniform average")
    genome = space.encode(average.recipe)
    assert len(set(genome.values())) == 1
    assert all(0.4 < unit < 0.8 for unit in genome_to_unit(space.genes, genome))


def test_weights_that_do_not_add_up_to_one_or_are_below_zero_are_brought_there():
    models = {"e1": {"weight": 3.0}, "e2": {"weight": -1.0}, "e3": {}}
    genome = pool(3).encode(source_models().recipe([Rule("linear", models)]))
    (rule,) = pool(3).decode(genome).rules
    assert weights_of(rule) == [0.75, 0.0, 0.25]


def test_optimizers_that_go_by_models_find_their_weights():
    assert [*models_of(pool(3).genes)] == ["e1", "e2", "e3"]
