"""Many workers: proposals made ahead depend on none of them, asynchronous ones let none wait."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import (
    PARALLEL,
    assert_replayed,
    cases,
    make,
    mixed_genes,
    recorded_search,
    scored,
)

from evomerge.core.outcomes import Candidate, Failed, Scored
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

GENES = [FloatGene("x", 0.0, 1.0), FloatGene("y", 0.0, 1.0), ChoiceGene("c", ("a", "b"))]


each_parallel = pytest.mark.parametrize(
    ("name", "objectives"),
    [
        pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
        if case.id == "bayesian-3"  # a minute
        else case
        for case in cases(1, 3, names=PARALLEL)
    ],
)


def outcome(candidate: Candidate):
    if candidate.id % 7 == 3:
        return Failed("merge", "no")
    x, y = candidate.genome["x"], candidate.genome["y"]
    return Scored((x**2 + y, (1 - x) ** 2 + y))


def worked_on(optimizer, evaluate, open_at_most, total, seed):
    """All candidates, told in a random order with so many open at once."""
    rng = random.Random(seed)
    found, is_open = [], []
    while is_open or (len(found) < total and not optimizer.finished):
        if len(found) < total:
            fresh = optimizer.ask(min(open_at_most - len(is_open), total - len(found)))
            found += fresh
            is_open += fresh
        assert is_open, "with nothing open something must be proposed"
        ended = is_open.pop(rng.randrange(len(is_open)))
        optimizer.tell({ended.id: evaluate(ended)})
    return found


def searched(population, ahead, open_at_most, total, seed):
    options = {"population": population, "ahead": ahead}
    optimizer = make_optimizer("nsga2", options, SearchProblem(GENES, 2, 5))
    return worked_on(optimizer, outcome, open_at_most, total, seed)


@each_parallel
@pytest.mark.parametrize("ahead", [0, 5])
def test_no_optimizer_heeds_the_number_of_workers_or_the_order_in_which_they_end(
    name, objectives, ahead
):
    def run(workers, seed):
        optimizer = make(name, mixed_genes(6), objectives, 3, ahead=ahead)

        def evaluate(candidate):
            if candidate.id % 7 == 3:
                return Failed("merge", "no")
            return scored(name, candidate, objectives)

        return worked_on(optimizer, evaluate, workers, 50, seed)

    assert run(4, 1) == run(1, 0)


@each_parallel
def test_with_some_proposed_ahead_so_many_workers_never_wait(name, objectives):
    """One more than is ahead is always open, whichever ends first but the longest out."""
    optimizer = make(name, mixed_genes(6), objectives, 3, ahead=4)
    is_open = optimizer.ask(5)
    for _ in range(50):
        if optimizer.finished:
            break
        assert len(is_open) == 5
        ended = is_open.pop(0)
        optimizer.tell({ended.id: scored(name, ended, objectives)})
        is_open += optimizer.ask(1)


@each_parallel
def test_asynchronously_every_worker_always_has_something_to_do(name, objectives):
    """Whatever order 5 workers end in; and the recorded order replays."""
    made = [make(name, mixed_genes(9), objectives, 2, asynchronous=True) for _ in range(2)]
    log = recorded_search(made[0], name, objectives, workers=5)
    asks = [content for what, content in log if what == "ask"]
    if not made[0].finished:
        assert [len(asked) for _, asked in asks] == [count for count, _ in asks]
        assert len(made[0].ask(50)) == 50
    assert_replayed(made[1], log)


@settings(max_examples=40)
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
    optimizer = make_optimizer(
        "nsga2", {"population": 6, "ahead": ahead}, SearchProblem(GENES, 2, 0)
    )
    first = optimizer.ask(1000)
    assert len(first) == 6 + ahead
    assert optimizer.ask(1) == []
    optimizer.tell({c.id: outcome(c) for c in first[1:]})
    assert optimizer.ask(1) == []  # the first generation lacks one
    optimizer.tell({0: outcome(first[0])})
    # As many whole generations are told as there are; each makes room for another one.
    assert len(optimizer.ask(1000)) == 6 * ((6 + ahead) // 6)


def test_nothing_proposed_ahead_is_the_plain_method():
    plain = make_optimizer("nsga2", {"population": 6}, SearchProblem(GENES, 2, 5))
    told = []
    for _ in range(6):
        generation = plain.ask(1000)
        plain.tell({c.id: outcome(c) for c in generation})
        told += generation
    assert [dict(c.genome) for c in told] == [dict(c.genome) for c in searched(6, 0, 4, 36, 2)]


@pytest.mark.parametrize("ahead", [0, 2, 5, 100])
def test_a_small_space_is_searched_whole_and_then_finished(ahead):
    genes = [IntGene("i", 0, 4), ChoiceGene("c", ("a", "b", "c"))]
    optimizer = make_optimizer(
        "nsga2", {"population": 4, "ahead": ahead}, SearchProblem(genes, 1, 0)
    )
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
