"""The compared searches: M2N2 with its ablations, the GA, MAP-Elites, CMA-ES and brute force.

Each is a generator of `Progress`. One evaluation is one network graded on all training images;
the reported test accuracy is that of the individual with the best training accuracy at that
moment (for CMA-ES the best so far). `mutation` is the standard deviation of the noise added to
each child; 0 from pre-trained networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cma
import numpy as np
from cma.sigma_adaptation import CMAAdaptSigmaCSA
from numpy.typing import NDArray

from experiments.m2n2_digits.digits_network import (
    DIMENSION,
    INITIAL_DEVIATION,
    Digits,
    Grader,
    Vector,
    random_network,
)
from experiments.m2n2_digits.niches import NicheArchive, pick, pick_parents
from experiments.m2n2_digits.split_slerp import split_slerp

INDIVIDUALS = 20
CELLS = 10


@dataclass(frozen=True)
class Progress:
    """Accuracies of the best individual after so many evaluations."""

    evaluations: int
    train: float
    test: float
    unattracted: int = 0
    """Children so far whose first parent could be improved by nobody (see `pick_parents`)."""


@dataclass(frozen=True)
class Budget:
    """How many children are graded, and every how many of them progress is reported."""

    evaluations: int
    every: int


@dataclass(frozen=True)
class NicheRules:
    """M2N2 and what can be taken from it; `alpha` 0 without attraction is the plain GA."""

    alpha: float = 1.0
    attraction: bool = True
    crossover: bool = True
    split_point: bool = True


def crossed(
    first: Vector, second: Vector, rng: np.random.Generator, *, split_point: bool = True
) -> Vector:
    """Cross two parents at a uniform coordinate and weight."""
    cut = int(rng.integers(DIMENSION)) if split_point else DIMENSION
    return split_slerp(first, second, cut, float(rng.random())).astype(np.float32)


def mutated(weights: Vector, deviation: float, rng: np.random.Generator) -> Vector:
    """Add normal noise to every number; the same network where `deviation` is 0."""
    if deviation == 0:
        return weights
    noise = rng.standard_normal(DIMENSION, dtype=np.float32)
    noise *= np.float32(deviation)
    noise += weights
    return noise


class Bed:
    """The graders and the two seed networks of one run."""

    def __init__(self, train: Digits, test: Digits, seeds: tuple[Vector, Vector]) -> None:
        self.labels = train.labels
        self.train = Grader(train)
        self.test = Grader(test)
        self.seeds = seeds


def niches(
    bed: Bed, rules: NicheRules, mutation: float, budget: Budget, rng: np.random.Generator
) -> Iterator[Progress]:
    """Run M2N2, an ablation of it, or the GA."""
    archive = NicheArchive(INDIVIDUALS, DIMENSION, len(bed.labels), rules.alpha)
    for weights in bed.seeds:
        archive.insert(weights, bed.train.right(weights))
    unattracted = 0
    for evaluation in range(1, budget.evaluations + 1):
        first, second, absent = pick_parents(
            archive.scores, rules.alpha, rng, attracted=rules.attraction
        )
        unattracted += absent
        child = archive.weights[first]
        if rules.crossover:
            child = crossed(child, archive.weights[second], rng, split_point=rules.split_point)
        child = mutated(child, mutation, rng)
        archive.insert(child, bed.train.right(child))
        if evaluation % budget.every == 0:
            weights, accuracy = archive.best()
            yield Progress(evaluation, accuracy, bed.test.accuracy(weights), unattracted)


def two_of(qualities: NDArray[np.float32], rng: np.random.Generator) -> tuple[int, int]:
    """Draw two by quality: of one and the same too while all qualities sum to less than 2."""
    first = pick(qualities, rng) or 0
    rest = qualities.copy()
    if qualities.sum() >= 2:
        rest[first] = 0
    return first, pick(rest, rng) or 0


class EliteGrid:
    """MAP-Elites' 10x10 grid over the accuracies on odd and on even digits."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._odd = labels % 2 == 1
        self.weights = np.zeros((CELLS * CELLS, DIMENSION), np.float32)
        self.qualities = np.zeros(CELLS * CELLS, np.float32)
        """Accuracy of each cell's network; 0 where empty, which is never drawn as a parent."""

    def insert(self, weights: Vector, right: NDArray[np.float32]) -> None:
        """Take a network in if it is better than its cell's."""
        descriptor = (right[self._odd].mean(), right[~self._odd].mean())
        row, column = (min(int(accuracy * CELLS), CELLS - 1) for accuracy in descriptor)
        cell = row * CELLS + column
        if right.mean() > self.qualities[cell]:
            self.weights[cell] = weights
            self.qualities[cell] = right.mean()


def map_elites(
    bed: Bed, mutation: float, budget: Budget, rng: np.random.Generator
) -> Iterator[Progress]:
    """Run MAP-Elites: parents by quality, crossed with a split point."""
    grid = EliteGrid(bed.labels)
    for weights in bed.seeds:
        grid.insert(weights, bed.train.right(weights))
    for evaluation in range(1, budget.evaluations + 1):
        first, second = two_of(grid.qualities, rng)
        child = crossed(grid.weights[first], grid.weights[second], rng)
        child = mutated(child, mutation, rng)
        grid.insert(child, bed.train.right(child))
        if evaluation % budget.every == 0:
            leader = int(grid.qualities.argmax())
            accuracy = bed.test.accuracy(grid.weights[leader])
            yield Progress(evaluation, float(grid.qualities[leader]), accuracy)


def cma_es(bed: Bed, budget: Budget, rng: np.random.Generator) -> Iterator[Progress]:
    """Run pycma with its covariance kept at the identity; see the README for why."""
    options = {
        "popsize": INDIVIDUALS,
        "CMA_diagonal": True,
        "CMA_on": 0,
        "AdaptSigma": CMAAdaptSigmaCSA,  # of a full covariance in pycma 4.0; 4.5 takes TPA here
        "seed": float("nan"),  # pycma then leaves numpy's global generator alone
        "randn": lambda *shape: rng.standard_normal(shape),
        "verbose": -9,
    }
    search = cma.CMAEvolutionStrategy(
        random_network(rng).astype(np.float64), INITIAL_DEVIATION, options
    )
    for evaluation in range(INDIVIDUALS, budget.evaluations + 1, INDIVIDUALS):
        networks = search.ask()
        losses = [-bed.train.accuracy(network.astype(np.float32)) for network in networks]
        search.tell(networks, losses)
        if evaluation % budget.every == 0:
            best = np.asarray(search.result.xbest, np.float32)
            yield Progress(evaluation, -search.result.fbest, bed.test.accuracy(best))


def brute_force(bed: Bed, points: int) -> Progress:
    """Grade evenly spaced slerps between the seeds and report the best."""
    first, second = bed.seeds
    best, best_accuracy = first, -1.0
    for weight in np.linspace(0, 1, points):
        network = split_slerp(first, second, DIMENSION, float(weight)).astype(np.float32)
        accuracy = bed.train.accuracy(network)
        if accuracy > best_accuracy:
            best, best_accuracy = network, accuracy
    return Progress(points, best_accuracy, bed.test.accuracy(best))
