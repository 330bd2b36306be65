"""Candidates proposed ahead: workers need not wait, and their number changes nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.outcomes import Candidate, Failed, Scored
from evomerge.optimizers.registry import make_optimizer
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

GENES = [FloatGene("x", 0.0, 1.0), FloatGene("y", 0.0, 1.0), ChoiceGene("c", ("a", "b"))]


def outcome(candidate: Candidate):
    if candidate.id % 7 == 3:
        return Failed("merge", "no")
    x, y = candidate.genome["x"], candidate.genome["y"]
    return Scored((x**2 + y, (1 - x) ** 2 + y))


def searched(population, ahead, open_at_most, total, seed):
    """All candidates, told in a random order with so many open at once."""
    optimizer = make_optimizer("nsga2", {"population": population, "ahead": ahead}, GENES, 2, 5)
    rng = random.Random(seed)
    found, is_open = [], []
    while len(found) < total or is_open:
        if len(found) < total:
            fresh = optimizer.ask(min(open_at_most - len(is_open), total - len(found)))
            found += fresh
            is_open += fresh
        assert is_open, "with nothing open something must be proposed"
        ended = is_open.pop(rng.randrange(len(is_open)))
        optimizer.tell({ended.id: outcome(ended)})
    return found


@given(
    population=st.integers(4, 9),
    ahead=st.integers(0, 12),
    workers=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_neither_the_number_of_workers_nor_their_order_changes_a_proposal(
    population, ahead, workers, seed
):
    alone = searched(population, ahead, 1, 40, 0)
    together = searched(population, ahead, workers, 40, seed)
    assert [dict(c.genome) for c in together] == [dict(c.genome) for c in alone]
    assert [(c.generation, c.known) for c in together] == [
        (c.generation, c.known) for c in alone
    ]


@given(population=st.integers(4, 9), ahead=st.integers(0, 12))
def test_a_proposal_rests_on_whole_generations_and_on_nothing_younger(population, ahead):
    for candidate in searched(population, ahead, 3, 50, 1):
        assert candidate.known <= candidate.id
        assert candidate.known % population == 0
        assert candidate.generation == candidate.known // population
        assert candidate.id < candidate.known + population + ahead


@pytest.mark.parametrize("ahead", [0, 3, 8, 30])
def test_so_many_can_be_open_while_the_last_of_a_generation_is_out(ahead):
    optimizer = make_optimizer("nsga2", {"population": 6, "ahead": ahead}, GENES, 2, 0)
    first = optimizer.ask(1000)
    assert len(first) == 6 + ahead
    assert optimizer.ask(1) == []
    optimizer.tell({c.id: outcome(c) for c in first[1:]})
    assert optimizer.ask(1) == []  # the first generation lacks one
    optimizer.tell({0: outcome(first[0])})
    # As many whole generations are told as there are; each makes room for another one.
    assert len(optimizer.ask(1000)) == 6 * ((6 + ahead) // 6)


def test_nothing_proposed_ahead_is_the_plain_method():
    plain = make_optimizer("nsga2", {"population": 6}, GENES, 2, 5)
    told = []
    for _ in range(6):
        generation = plain.ask(1000)
        plain.tell({c.id: outcome(c) for c in generation})
        told += generation
    assert [dict(c.genome) for c in told] == [dict(c.genome) for c in searched(6, 0, 4, 36, 2)]


@pytest.mark.parametrize("ahead", [0, 2, 5, 100])
def test_a_small_space_is_searched_whole_and_then_finished(ahead):
    genes = [IntGene("i", 0, 4), ChoiceGene("c", ("a", "b", "c"))]
    optimizer = make_optimizer("nsga2", {"population": 4, "ahead": ahead}, genes, 1, 0)
    seen = []
    while optimizer.finished is None:
        for candidate in optimizer.ask(3):
            seen.append(tuple(candidate.genome.values()))
            optimizer.tell({candidate.id: Scored((float(candidate.genome["i"]),))})
    assert len(seen) == len(set(seen)) == 15
    assert optimizer.ask(1) == []


def test_the_search_still_learns():
    def best(found):
        return min(sum(outcome(c).losses) for c in found if isinstance(outcome(c), Scored))

    chance = best(searched(8, 0, 4, 8, 0))
    assert best(searched(8, 8, 4, 160, 0)) < 0.8 * chance
