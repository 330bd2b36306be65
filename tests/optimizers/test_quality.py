"""That the optimizers find better candidates than chance: fixed seeds, stated margins."""

import statistics

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import ElementwiseProblem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.optimize import minimize

from evomerge.core.outcomes import Scored
from evomerge.core.pareto import hypervolume
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

SEEDS = range(7)
CANDIDATES = 240
REFERENCE = np.array([1.1, 7.0])


def zdt1(x):
    """Two objectives with the front at x[1:] = 0 (Zitzler, Deb and Thiele 2000)."""
    x = np.asarray(x, dtype=float)
    g = 1 + 9 * x[1:].mean()
    return float(x[0]), float(g * (1 - np.sqrt(x[0] / g)))


def losses_of(name, genes, evaluate, seed, objectives=1, options=None):
    optimizer = make_optimizer(name, options or {}, SearchProblem(genes, objectives, seed))
    losses = []
    while len(losses) < CANDIDATES:
        batch = optimizer.ask(CANDIDATES - len(losses))
        told = {c.id: Scored(evaluate(c.genome)) for c in batch}
        losses += [o.losses for o in told.values()]
        optimizer.tell(told)
    return np.array(losses)


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def median_over_seeds(score):
    return statistics.median(score(seed) for seed in SEEDS)


def test_cma_es_beats_random_search_twentyfold_on_a_shifted_sphere_of_ten_genes():
    def sphere(genome):
        return (sum((v - 0.37) ** 2 for v in genome.values()),)

    best = {
        name: median_over_seeds(
            lambda seed, name=name: losses_of(name, floats(10), sphere, seed).min()
        )
        for name in ("cma_es", "random")
    }
    assert best["cma_es"] < best["random"] / 20


def zdt1_volume(name, seed, options=None):
    losses = losses_of(name, floats(10), lambda g: zdt1(list(g.values())), seed, 2, options)
    return hypervolume(losses, REFERENCE)


def test_nsga2_finds_a_tenth_more_hypervolume_than_random_search():
    volume = {
        n: median_over_seeds(lambda s, n=n: zdt1_volume(n, s)) for n in ("nsga2", "random")
    }
    assert volume["nsga2"] > 1.1 * volume["random"]


class Zdt1(ElementwiseProblem):
    def __init__(self):
        super().__init__(n_var=10, n_obj=2, xl=0.0, xu=1.0)
        self.losses = []

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = zdt1(x)
        self.losses.append(out["F"])


def test_nsga2_is_no_more_than_two_percent_behind_pymoos_own_loop_of_the_same_settings():
    options = {
        "population": 24,
        "crossover_probability": 0.9,
        "crossover_eta": 15.0,
        "mutation_probability": 0.1,
        "mutation_eta": 20.0,
    }

    def pymoos_volume(seed):
        problem = Zdt1()
        method = NSGA2(
            pop_size=24,
            crossover=SBX(prob=0.9, eta=15),
            mutation=PM(prob=1.0, prob_var=0.1, eta=20),
        )
        minimize(problem, method, ("n_gen", CANDIDATES // 24), seed=seed)
        return hypervolume(np.array(problem.losses), REFERENCE)

    ours = median_over_seeds(lambda seed: zdt1_volume("nsga2", seed, options))
    assert ours > 0.98 * median_over_seeds(pymoos_volume)


def test_nsga2_finds_the_best_choices_and_numbers_together():
    """Chance to draw the best choices by luck: 240 in 3**6."""
    genes = [
        *[ChoiceGene(f"c{k}", ("bad", "good", "fair")) for k in range(6)],
        *[IntGene(f"i{k}", 0, 4) for k in range(4)],
    ]

    def misses(genome):
        wrong = sum(genome[f"c{k}"] != "good" for k in range(6))
        return (float(wrong + sum(abs(genome[f"i{k}"] - 3) for k in range(4))),)

    best = {
        name: median_over_seeds(
            lambda seed, name=name: losses_of(name, genes, misses, seed).min()
        )
        for name in ("nsga2", "random")
    }
    assert best["nsga2"] <= 1
    assert best["random"] >= 3
