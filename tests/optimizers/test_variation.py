"""Genomes pass once in a search, whatever their length."""

import tracemalloc

import numpy as np

from evomerge.optimizers.genetic.variation import UnseenGenomes
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

GENES = [FloatGene("x", 0.0, 1.0), IntGene("i", 0, 3), ChoiceGene("c", ("a", "b"))]


def test_points_of_one_genome_pass_once():
    unseen = UnseenGenomes(GENES, None)
    rows = np.array([[0.5, 0.1, 0.2], [0.5000001, 0.2, 0.4], [0.5, 0.3, 0.2], [0.5, 0.1, 0.6]])
    assert [row.tolist() for row in unseen.take(rows)] == [
        [0.5, 0.125, 0.25],
        [0.5, 0.375, 0.25],
        [0.5, 0.125, 0.75],
    ]
    assert unseen.take(rows) == []


def test_what_was_given_back_passes_again_and_what_was_asked_for_does_not():
    unseen = UnseenGenomes(GENES, None)
    first, second = np.array([[0.1, 0.0, 0.0]]), np.array([[0.2, 0.0, 0.0]])
    unseen.take(first)
    unseen.take(second)
    unseen.give_back(1)
    assert unseen.take(first) == []
    assert len(unseen.take(second)) == 1


def test_long_genomes_take_no_more_room_than_short_ones():
    """Ten thousand genomes of two thousand genes would take 0.6 GB if they were kept."""
    unseen = UnseenGenomes([FloatGene(f"g{k}", 0.0, 1.0) for k in range(1000)], None)
    points = np.random.default_rng(0).random((20, 1000))
    tracemalloc.start()
    try:
        unseen.take(points)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(points) < 1000
