"""Sobol points and grids: what they cover, in which order, and when they end."""

import itertools

import numpy as np
import pytest
from scipy.stats import qmc

from evomerge.core.errors import ConfigError
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

MIXED = [FloatGene("x", 0.0, 2.0), IntGene("i", 1, 3), ChoiceGene("c", ("a", "b"))]


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def values(candidates):
    return [tuple(c.genome.values()) for c in candidates]


def made(name, genes, options=None, seed=0, initial=()):
    return make_optimizer(name, options or {}, SearchProblem(genes, 1, seed, initial))


def test_sobol_points_are_more_even_than_random_ones():
    def unevenness(name):
        points = np.array(values(made(name, floats(4)).ask(64)))
        return qmc.discrepancy(np.clip(points, 0, 1))

    assert unevenness("sobol") < unevenness("random") / 3


def test_sobol_gives_options_equal_shares_at_a_power_of_two():
    genes = [ChoiceGene("c", ("a", "b", "c", "d")), *floats(3)]
    chosen = [value[0] for value in values(made("sobol", genes).ask(64))]
    assert {option: chosen.count(option) for option in "abcd"} == dict.fromkeys("abcd", 16)


def test_sobol_refuses_more_genes_than_its_numbers_are_known_for():
    with pytest.raises(ConfigError, match="at most 21201 genes, found 21202"):
        made("sobol", floats(21202))


def test_a_grid_proposes_every_combination_once_and_ends():
    optimizer = made("grid", MIXED, {"levels": 3})
    found = values(optimizer.ask(1000))
    assert sorted(found) == sorted(itertools.product((0.0, 1.0, 2.0), (1, 2, 3), ("a", "b")))
    assert optimizer.finished == "every point of the grid has been proposed."
    assert optimizer.ask(1) == []


@pytest.mark.parametrize("points", [1, 2, 7, 100])
@pytest.mark.parametrize("order", ["coarse_first", "shuffled"])
def test_a_grid_has_at_most_so_many_points_and_none_twice(points, order):
    found = values(made("grid", MIXED, {"points": points, "order": order}).ask(1000))
    assert points / 2 <= len(found) <= points
    assert len(set(found)) == len(found)


def test_coarse_levels_come_before_fine_ones():
    found = [x for (x,) in values(made("grid", floats(1), {"points": 9}).ask(100))]
    assert set(found[:2]) == {0.0, 1.0}
    assert found[2] == 0.5
    assert set(found[3:5]) == {0.25, 0.75}
    assert set(found[5:]) == {0.125, 0.375, 0.625, 0.875}


@pytest.mark.parametrize("order", ["coarse_first", "shuffled"])
def test_a_budget_smaller_than_the_grid_sees_all_parts_of_the_space(order):
    options = {"levels": 9, "order": order}
    points = np.array(values(made("grid", floats(4), options).ask(60)))
    assert np.abs(points.mean(axis=0) - 0.5).max() < 0.15
    assert (points.std(axis=0) > 0.25).all()


def test_initial_genomes_are_left_out_of_the_grid():
    initial = [{"x": 0.3, "i": 2, "c": "b"}, {"x": 2.0, "i": 3, "c": "a"}]
    found = values(made("grid", MIXED, {"levels": 3}, initial=initial).ask(1000))
    assert found[:2] == [(0.3, 2, "b"), (2.0, 3, "a")]
    assert len(found) == len(set(found)) == 19


def test_levels_that_round_to_one_value_are_one():
    narrow = [FloatGene("x", 0.5, 0.500002)]
    assert sorted(values(made("grid", narrow, {"levels": 9}).ask(99))) == [
        (0.5,),
        (0.500001,),
        (0.500002,),
    ]


@pytest.mark.parametrize("options", [{}, {"levels": 3}], ids=str)
def test_two_thousand_genes_do_not_explode(options):
    found = values(made("grid", floats(2000), options).ask(50))
    assert len(set(found)) == 50


def test_the_order_of_a_grid_depends_on_the_seed():
    one, same, other = (
        values(made("grid", MIXED, {"levels": 3}, seed=s).ask(99)) for s in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert sorted(one) == sorted(other)
