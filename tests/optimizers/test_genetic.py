"""What NSGA-II, NSGA-III, SMS-EMOA, MOEA/D, GA and DE have in common, and what is special."""

import itertools
import random
import warnings

import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.genetic.reference_directions import at_most, directions_of, rescaled
from evomerge.optimizers.registry import OPTIMIZERS, check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

FAILED = Failed("merge", "out of memory")
GENETIC = ("nsga2", "nsga3", "sms_emoa", "moead", "ga", "de")
SEVERAL = ("nsga2", "nsga3", "sms_emoa", "moead")
each = pytest.mark.parametrize("name", GENETIC)
each_of_several_objectives = pytest.mark.parametrize("name", SEVERAL)
ways = pytest.mark.parametrize(
    "way", [{}, {"ahead": 3}, {"asynchronous": True}], ids=["plain", "ahead", "asynchronous"]
)


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def objectives_of(name):
    return 1 if OPTIMIZERS[name].max_objectives == 1 else 2


def trade_off(name, x):
    return Scored((x,) if objectives_of(name) == 1 else (x, 1 - x))


def marked(count=8):
    """The first gene tells ancestors apart: it is inherited whole, and hardly ever redrawn."""
    return [ChoiceGene("mark", tuple(range(100_000))), *floats(count)]


def unmutated(name, population):
    options = {"population": population}
    return options if name == "de" else {**options, "mutation_probability": 0.0}


def searched_to_the_end(name, way, genes, expressed=None):
    """All genomes, by workers that end in bursts, when proposals made in between are dropped."""
    problem = SearchProblem(genes, objectives_of(name), 0, (), expressed)
    optimizer = make_optimizer(name, {"population": 6} | way, problem)
    rng, is_open, seen = random.Random(1), [], []
    while optimizer.finished is None:
        is_open += optimizer.ask(4)
        seen += [c.genome for c in is_open if c.id >= len(seen)]
        rng.shuffle(is_open)
        ended, is_open = is_open[1:] or is_open, is_open[:1] if len(is_open) > 1 else []
        optimizer.tell({c.id: trade_off(name, c.genome["b"] / 7) for c in ended})
    assert optimizer.ask(1) == []
    return seen


@each
@ways
def test_a_small_space_is_searched_whole_no_genome_twice_and_then_finished(name, way):
    seen = searched_to_the_end(
        name, way, [ChoiceGene("a", ("x", "y", "z")), IntGene("b", 0, 7)]
    )
    assert sorted((g["a"], g["b"]) for g in seen) == list(itertools.product("xyz", range(8)))


@each
@ways
def test_of_genomes_that_come_to_the_same_one_is_proposed(name, way):
    genes = [ChoiceGene("on", (0, 1)), IntGene("b", 0, 7), FloatGene("idle", 0.0, 1.0)]

    def expressed(genome):
        return (genome["on"], genome["b"] if genome["on"] else None)

    seen = [expressed(genome) for genome in searched_to_the_end(name, way, genes, expressed)]
    assert sorted(seen, key=str) == sorted([(0, None), *((1, b) for b in range(8))], key=str)


@each
def test_the_first_generation_covers_every_gene_evenly(name):
    genes = [*floats(2), IntGene("int", 1, 3), ChoiceGene("choice", ("a", "b", "c", "d"))]
    options = {"population": 12}
    generation = make_optimizer(
        name, options, SearchProblem(genes, objectives_of(name), 0)
    ).ask(100)
    for gene in ("g0", "g1"):
        assert sorted(int(c.genome[gene] * 12) for c in generation) == list(range(12))
    assert sorted(c.genome["int"] for c in generation) == [1] * 4 + [2] * 4 + [3] * 4
    assert "".join(sorted(c.genome["choice"] for c in generation)) == "aaabbbcccddd"


@each
def test_more_initial_genomes_than_the_population_all_come_first(name):
    initial = [{"g0": k / 10} for k in range(10)]
    optimizer = make_optimizer(
        name, {"population": 5}, SearchProblem(floats(1), objectives_of(name), 0, initial)
    )
    generation = optimizer.ask(100)
    assert [dict(c.genome) for c in generation] == initial
    optimizer.tell({c.id: trade_off(name, c.genome["g0"]) for c in generation})
    assert len(optimizer.ask(1)) == 1


@each
def test_failed_candidates_have_no_children_and_fresh_points_fill_their_places(name):
    optimizer = make_optimizer(
        name, unmutated(name, 20), SearchProblem(marked(), objectives_of(name), 0)
    )
    first = optimizer.ask(100)
    failed, alive = ({c.genome["mark"] for c in part} for part in (first[:8], first[8:]))
    optimizer.tell(
        {
            c.id: FAILED if c.genome["mark"] in failed else trade_off(name, c.genome["g0"])
            for c in first
        }
    )
    second = [c.genome["mark"] for c in optimizer.ask(100)]
    assert not failed & set(second)
    fresh = [mark for mark in second if mark not in alive]
    assert len(fresh) == 8 if name != "de" else len(fresh) >= 8  # DE draws choices anew


@each
def test_infeasible_candidates_have_no_children_once_there_are_feasible_ones_enough(name):
    options = unmutated(name, 10) | {"asynchronous": True}
    optimizer = make_optimizer(name, options, SearchProblem(marked(), objectives_of(name), 0))
    infeasible = set()
    for number in range(50):
        (candidate,) = optimizer.ask(1)
        mark = candidate.genome["mark"]
        if number >= 40:
            assert mark not in infeasible
        if number < 10 and number % 2:
            infeasible.add(mark)
            better = trade_off(name, -1.0).losses
            optimizer.tell({candidate.id: Scored(better, violation=1.0 + number)})
        elif mark in infeasible:  # its children are infeasible, too
            optimizer.tell({candidate.id: Scored(trade_off(name, -2.0).losses, violation=20.0)})
        else:
            optimizer.tell({candidate.id: trade_off(name, candidate.genome["g0"])})


@each
def test_while_nothing_is_feasible_the_violation_goes_down(name):
    def least_violation(which):
        optimizer = make_optimizer(which, {}, SearchProblem(floats(6), objectives_of(name), 0))
        violations = []
        while len(violations) < 200:
            batch = optimizer.ask(10)
            found = [sum((v - 0.4) ** 2 for v in c.genome.values()) + 1e-3 for c in batch]
            optimizer.tell(
                {
                    c.id: Scored(trade_off(name, -v).losses, violation=v)
                    for c, v in zip(batch, found, strict=True)
                }
            )
            violations += found
        return min(violations)

    assert least_violation(name) < least_violation("random") / 2


@each
def test_choices_are_not_treated_as_ordered(name):
    """Between parents with the first and the last option, no option in between arises."""
    genes = [ChoiceGene("choice", ("a", "b", "c", "d", "e")), *floats(60)]
    options = unmutated(name, 20)
    optimizer = make_optimizer(name, options, SearchProblem(genes, objectives_of(name), 0))
    last = []
    while len(last) < 240:
        batch = optimizer.ask(20)
        last += [c.genome["choice"] for c in batch]
        optimizer.tell(
            {
                c.id: trade_off(name, c.genome["g0"]) if c.genome["choice"] in "ae" else FAILED
                for c in batch
            }
        )
    in_between = [choice for choice in last[-80:] if choice not in "ae"]
    # DE draws one gene in 61 anew, of which three in five are in between: about one in 80.
    assert len(in_between) <= (4 if name == "de" else 0)


@each
def test_the_best_candidate_of_one_objective_is_never_lost(name):
    optimizer = make_optimizer(name, {}, SearchProblem(floats(2), 1, 0))
    best = []
    while len(best) < 300:
        batch = optimizer.ask(30)
        losses = [sum((v - 0.3) ** 2 for v in c.genome.values()) for c in batch]
        optimizer.tell({c.id: Scored((x,)) for c, x in zip(batch, losses, strict=True)})
        best += losses
    assert min(best) < 1e-4
    assert np.median(best[-30:]) < np.median(best[:30]) / 20


@each_of_several_objectives
def test_the_units_of_objectives_make_no_difference(name):
    """Powers of two, by which products are exact."""

    def run(units):
        optimizer = make_optimizer(name, {"population": 8}, SearchProblem(floats(5), 3, 0))
        asked = []
        while len(asked) < 60:
            batch = optimizer.ask(8)
            asked += [dict(c.genome) for c in batch]
            for c in batch:
                x = np.array(list(c.genome.values()))
                losses = [u * ((x - k / 3) ** 2).sum() for k, u in enumerate(units)]
                optimizer.tell({c.id: Scored(tuple(map(float, losses)))})
        return asked

    assert run([1.0, 1.0, 1.0]) == run([2.0**-40, 1.0, 2.0**60])


@pytest.mark.parametrize(
    ("objectives", "directions"), [(1, 1), (2, 24), (3, 21), (4, 24), (5, 20), (8, 16)]
)
def test_reference_directions_are_the_largest_even_design_that_fits(objectives, directions):
    found = at_most(objectives, 24)
    assert found.shape == (directions, objectives)
    assert (found >= 0).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert len(np.unique(found.round(9), axis=0)) == directions


@pytest.mark.parametrize("objectives", [4, 5])
def test_with_many_objectives_some_directions_lie_inside(objectives):
    assert (at_most(objectives, 24) > 0).all(axis=1).any()


def test_partitions_say_how_many_reference_directions_there_are():
    assert len(directions_of(3, 6)) == 28
    optimizer = make_optimizer("nsga3", {"partitions": 6}, SearchProblem(floats(5), 3, 0))
    assert len(optimizer.ask(1000)) == 28
    optimizer = make_optimizer("nsga3", {"partitions": 2}, SearchProblem(floats(5), 3, 0))
    assert len(optimizer.ask(1000)) == 24


def test_partitions_that_make_too_many_directions_are_refused_before_any_is_made():
    with pytest.raises(ConfigError, match="at most 19 partitions go"):
        make_optimizer("nsga3", {"partitions": 1000}, SearchProblem(floats(5), 5, 0))


def test_rescaling_takes_the_largest_numbers_and_objectives_without_range():
    losses = np.array([[-1e308, 5.0], [0.0, 5.0], [1e308, 5.0]])
    shares = rescaled(losses, losses.min(axis=0), losses.max(axis=0))
    assert shares.tolist() == [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]


def test_nsga3_leaves_the_warning_filters_alone():
    before = list(warnings.filters)
    optimizer = make_optimizer("nsga3", {"population": 8}, SearchProblem(floats(3), 3, 0))
    for _ in range(3):
        optimizer.tell({c.id: Scored((0.5, 0.5, 0.5)) for c in optimizer.ask(8)})
    assert warnings.filters == before


def test_sms_emoa_lets_the_one_die_that_adds_least_hypervolume():
    """Of four on a front two are close; a fifth at its other end takes the place of one."""
    options = {"population": 4, "mutation_probability": 0.1, "crossover_probability": 0.0}
    optimizer = make_optimizer("sms_emoa", options, SearchProblem(marked(40), 2, 0))
    first = optimizer.ask(4)
    (fifth,) = itertools.islice(_after(optimizer, first), 1)
    optimizer.tell({fifth.id: Scored((1.0, 0.0))})
    marks = []
    for _ in range(40):
        (child,) = optimizer.ask(1)
        marks.append(child.genome["mark"])
        optimizer.tell({child.id: FAILED})
    close = {c.genome["mark"] for c in first[1:3]} & set(marks)
    assert len(close) == 1
    assert {first[0].genome["mark"], first[3].genome["mark"]} <= set(marks)


def _after(optimizer, first):
    places = [(0.0, 1.0), (0.5, 0.5), (0.51, 0.49), (0.75, 0.25)]
    optimizer.tell({c.id: Scored(x) for c, x in zip(first, places, strict=True)})
    while True:
        (child,) = optimizer.ask(1)
        if child.genome["mark"] not in {c.genome["mark"] for c in first}:
            yield child
        else:
            optimizer.tell({child.id: FAILED})


@pytest.mark.parametrize("decomposition", ["tchebycheff", "pbi"])
def test_moead_comes_three_times_nearer_to_a_fair_trade_off_than_random_search(decomposition):
    def nearest(name, options):
        optimizer = make_optimizer(name, options, SearchProblem(floats(8), 2, 0))
        found = []
        while len(found) < 360:
            batch = optimizer.ask(12)
            x = np.array([list(c.genome.values()) for c in batch])
            losses = np.column_stack([((x - end) ** 2).sum(axis=1) for end in (0.3, 0.7)])
            optimizer.tell(
                {c.id: Scored(tuple(o)) for c, o in zip(batch, losses.tolist(), strict=True)}
            )
            found += losses.max(axis=1).tolist()
        return min(found) - 8 * 0.2**2  # what the middle itself has

    options = {"decomposition": decomposition, "population": 12}
    assert nearest("moead", options) < nearest("random", {}) / 3


def test_de_refuses_a_range_of_factors_that_is_upside_down():
    (problem,) = check_options("de", {"scale_low": 0.9, "scale_high": 0.5}, 5, 1)
    assert "'scale_low', 0.9, must not be above 'scale_high', 0.5" in problem


@pytest.mark.parametrize("strategy", ["rand", "current_to_best"])
def test_de_moves_int_genes_by_one_at_least_wherever_its_parents_differ(strategy):
    """With the smallest factors a difference of one would be lost in rounding."""
    options = {"population": 8, "strategy": strategy, "scale_low": 0.01, "scale_high": 0.01}
    genes = [IntGene("int", 0, 1), *floats(3)]
    initial = [{"int": k % 2, "g0": k / 8, "g1": k / 8, "g2": k / 8} for k in range(8)]
    optimizer = make_optimizer("de", options, SearchProblem(genes, 1, 0, initial))
    optimizer.tell({c.id: Scored((1.0 * c.genome["int"],)) for c in optimizer.ask(8)})
    values = []
    for _ in range(5):
        batch = optimizer.ask(8)
        values += [c.genome["int"] for c in batch]
        optimizer.tell(dict.fromkeys((c.id for c in batch), FAILED))
    assert 0.2 < np.mean(values) < 0.8
