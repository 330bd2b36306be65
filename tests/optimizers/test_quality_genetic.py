"""That the genetic algorithms find more than chance, and no less than pymoo's own loops do."""

import statistics

import numpy as np
import pytest
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.optimize import minimize

from evomerge.core.outcomes import Scored
from evomerge.core.pareto import hypervolume
from evomerge.optimizers.genetic.reference_directions import at_most
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

SEEDS = range(5)
CANDIDATES = 240
GENES = 9
REFERENCE = np.array([2.0, 2.0, 2.0])


def sphere_front(x):
    """DTLZ2 (Deb et al. 2002): the front is an eighth of the unit sphere."""
    x = np.asarray(x, dtype=float)
    away = 1 + 3 * ((x[2:] - 0.5) ** 2).sum()
    one, two = x[:2] * np.pi / 2
    return tuple(
        float(away * share)
        for share in (np.cos(one) * np.cos(two), np.cos(one) * np.sin(two), np.sin(one))
    )


def valley(x):
    """Rosenbrock's function on [-1, 2]: a curved, narrow way to the best point."""
    x = np.asarray(x, dtype=float) * 3 - 1
    return (float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()),)


def ripples(x):
    """Rastrigin's function: hundreds of local optima around the best point."""
    x = (np.asarray(x, dtype=float) - 0.37) * 5.12
    return (float((x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum()),)


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def losses_of(name, genes, evaluate, seed, objectives, options=None):
    optimizer = make_optimizer(name, options or {}, SearchProblem(genes, objectives, seed))
    losses = []
    while len(losses) < CANDIDATES:
        batch = optimizer.ask(CANDIDATES - len(losses))
        told = {c.id: Scored(evaluate(c.genome)) for c in batch}
        losses += [o.losses for o in told.values()]
        optimizer.tell(told)
    return np.array(losses)


def median_over_seeds(score):
    return statistics.median(score(seed) for seed in SEEDS)


def volume(name, options=None):
    def score(seed):
        found = losses_of(
            name, floats(GENES), lambda g: sphere_front(list(g.values())), seed, 3, options
        )
        return hypervolume(found, REFERENCE)

    return median_over_seeds(score)


def least(name, function, genes=6, options=None):
    return median_over_seeds(
        lambda seed: losses_of(
            name, floats(genes), lambda g: function(list(g.values())), seed, 1, options
        ).min()
    )


class Recorded(ElementwiseProblem):
    """A function as pymoo's loops want it, with every loss that they come upon."""

    def __init__(self, function, genes, objectives):
        super().__init__(n_var=genes, n_obj=objectives, xl=0.0, xu=1.0)
        self.function = function
        self.losses = []

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = self.function(x)
        self.losses.append(out["F"])


def losses_of_pymoo(make, function, genes, objectives, seed):
    problem = Recorded(function, genes, objectives)
    minimize(problem, make(), ("n_eval", CANDIDATES), seed=seed)
    return np.array(problem.losses[:CANDIDATES])


@pytest.mark.parametrize(
    ("name", "margin"), [("nsga3", 1.3), ("sms_emoa", 1.4), ("moead", 1.3)]
)
def test_fronts_of_three_objectives_have_a_third_more_volume_than_by_chance(name, margin):
    assert volume(name) > margin * volume("random")


OPERATORS = {
    "crossover_probability": 1.0,
    "crossover_eta": 20.0,
    "mutation_probability": 1 / GENES,
    "mutation_eta": 20.0,
}
PYMOOS_OPERATORS = {
    "crossover": SBX(prob=1.0, eta=20),
    "mutation": PM(prob=1.0, prob_var=1 / GENES, eta=20),
}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("nsga3", lambda: NSGA3(at_most(3, 24), pop_size=24, **PYMOOS_OPERATORS)),
        ("sms_emoa", lambda: SMSEMOA(pop_size=24, n_offsprings=1, **PYMOOS_OPERATORS)),
        ("moead", lambda: MOEAD(at_most(3, 24), n_neighbors=8, **PYMOOS_OPERATORS)),
    ],
    ids=["nsga3", "sms_emoa", "moead"],
)
def test_fronts_have_no_less_than_98_percent_of_the_volume_of_pymoos_loop(name, make):
    theirs = median_over_seeds(
        lambda seed: hypervolume(losses_of_pymoo(make, sphere_front, GENES, 3, seed), REFERENCE)
    )
    assert volume(name, OPERATORS) > 0.98 * theirs


@pytest.mark.parametrize(
    ("name", "function", "margin"), [("ga", ripples, 2), ("ga", valley, 4), ("de", valley, 4)]
)
def test_one_objective_is_several_times_lower_than_by_chance(name, function, margin):
    assert least(name, function) < least("random", function) / margin


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ga", lambda: GA(pop_size=12)),
        ("de", lambda: DE(pop_size=12, variant="DE/rand/1/bin", CR=0.7, dither="vector")),
    ],
    ids=["ga", "de"],
)
def test_one_objective_is_no_higher_than_by_pymoos_loop_of_as_many_parents(name, make):
    theirs = median_over_seeds(lambda seed: losses_of_pymoo(make, valley, 6, 1, seed).min())
    assert least(name, valley) < theirs


@pytest.mark.parametrize("name", ["nsga3", "sms_emoa", "moead", "ga", "de"])
def test_the_best_choices_and_whole_numbers_are_found_together(name):
    """Chance to draw the best choices by luck: 240 in 3**6."""
    genes = [
        *[ChoiceGene(f"c{k}", ("bad", "good", "fair")) for k in range(6)],
        *[IntGene(f"i{k}", 0, 4) for k in range(4)],
    ]

    def misses(genome):
        wrong = sum(genome[f"c{k}"] != "good" for k in range(6))
        return (float(wrong + sum(abs(genome[f"i{k}"] - 3) for k in range(4))),)

    best = {
        n: median_over_seeds(lambda seed, n=n: losses_of(n, genes, misses, seed, 1).min())
        for n in (name, "random")
    }
    assert best[name] <= 1
    assert best["random"] >= 3
