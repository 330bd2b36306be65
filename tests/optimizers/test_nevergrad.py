"""What is special to the nevergrad optimizers: names, genes, failures, global generators."""

import random
import statistics
import threading

import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.nevergrad.nevergrad_search import Losses
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene, genome_to_unit

FAILED = Failed("merge", "no")
MIXED = [
    FloatGene("x", -1.0, 1.0),
    IntGene("i", 2, 9),
    FloatGene("l", 0.001, 10.0, log=True),
    ChoiceGene("c", ("ties", "linear", "slerp")),
    ChoiceGene("d", ("ties", "linear", "slerp")),
    IntGene("one", 4, 4),
    ChoiceGene("only", ("dare",)),
]
WORKING = [
    "NGOpt", "OnePlusOne", "DiscreteOnePlusOne", "TwoPointsDE", "DE", "PSO", "TBPSA", "CMA",
    "DiagonalCMA", "EDA", "RandomSearch",
]  # fmt: skip


def made(genes=MIXED, options=None, objectives=1, seed=0, initial=()):
    return make_optimizer(
        "nevergrad", options or {}, SearchProblem(genes, objectives, seed, initial)
    )


def loss(candidate):
    """0 at the best genome."""
    genome = candidate.genome
    wrong = (genome["c"] != "slerp") + (genome["d"] != "linear")
    return (
        (genome["x"] - 0.4) ** 2
        + ((genome["i"] - 7) / 7) ** 2
        + np.log10(genome["l"]) ** 2
        + wrong
    )


def searched(optimizer, count, evaluate=lambda c: Scored((loss(c),))):
    asked = []
    while len(asked) < count:
        batch = optimizer.ask(count - len(asked))
        asked += batch
        optimizer.tell({c.id: evaluate(c) for c in batch})
    return asked


@pytest.mark.parametrize("name", WORKING)
def test_well_known_optimizers_replay_whatever_the_global_generators_hold(name):
    def run(global_seed):
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        before = repr(np.random.get_state()), random.getstate()  # noqa: NPY002
        rng = random.Random(1)
        asked = searched(
            made(options={"optimizer": name, "budget": 48}),
            48,
            lambda c: FAILED if rng.random() < 0.1 else Scored((loss(c),)),
        )
        assert (repr(np.random.get_state()), random.getstate()) == before  # noqa: NPY002
        return asked

    state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        assert run(1) == run(2)
    finally:
        np.random.set_state(state[0])  # noqa: NPY002
        random.setstate(state[1])


@pytest.mark.parametrize("name", ["Cobyla", "NelderMead", "Powell"])
def test_methods_in_threads_are_refused_and_leave_none(name):
    threads = threading.active_count()
    with pytest.raises(ConfigError, match=r"one candidate at a time.*batch: 1"):
        made(options={"optimizer": name})
    with pytest.raises(ConfigError, match=r"in a thread of its own.*could not be replayed"):
        made(options={"optimizer": name, "batch": 1})
    assert threading.active_count() == threads


def test_models_fitted_by_the_clock_are_refused():
    with pytest.raises(ConfigError, match="in threads and by the clock"):
        made(options={"optimizer": "MetaModel"})


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="'twopointsde'; did you mean 'TwoPointsDE'"):
        made(options={"optimizer": "twopointsde"})


def test_mixed_genes_keep_to_their_values_and_are_all_reached():
    asked = searched(made(options={"optimizer": "RandomSearch"}), 120)
    for gene in MIXED:
        seen = {c.genome[gene.name] for c in asked}
        if isinstance(gene, ChoiceGene):
            assert seen == set(gene.options)
        elif isinstance(gene, IntGene):
            assert seen <= set(range(gene.low, gene.high + 1))
            assert len(seen) > (gene.high - gene.low) / 2
        else:
            assert all(gene.low <= value <= gene.high for value in seen)
    below_geometric_middle = sum(c.genome["l"] < 0.1 for c in asked)
    assert 30 < below_geometric_middle < 90


def test_initial_genomes_come_first_and_are_learned_from():
    best = {"x": 0.4, "i": 7, "l": 1.0, "c": "slerp", "d": "linear", "one": 4, "only": "dare"}
    optimizer = made(options={"optimizer": "OnePlusOne"}, initial=[best])
    asked = searched(optimizer, 40)
    assert dict(asked[0].genome) == best
    units = np.array([genome_to_unit(MIXED, c.genome) for c in asked[8:]])
    assert np.abs(units - genome_to_unit(MIXED, best)).mean() < 0.2


def test_failures_are_told_behind_infeasible_behind_feasible_ones():
    losses = Losses(1)
    assert losses.of(FAILED) > losses.of(Scored((0.0,), violation=1.0)) > [1e6]
    losses.learn([FAILED, Scored((3.0,)), Scored((9.0,))])
    numbers = [losses.of(o)[0] for o in (
        Scored((9.0,)), Scored((0.0,), violation=0.1), Scored((0.0,), violation=7.0), FAILED
    )]  # fmt: skip
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 4


def test_several_objectives_are_told_as_a_list():
    def two(candidate):
        x = candidate.genome["x"]
        return Scored((x**2, (x - 0.5) ** 2 + loss(candidate)))

    optimizer = made(options={"optimizer": "DE"}, objectives=2)
    assert len(searched(optimizer, 60, two)) == 60
    assert optimizer._optimizer.num_objectives == 2


@pytest.mark.parametrize("options", [{"ahead": 5}, {"asynchronous": True}], ids=str)
def test_workers_never_wait_and_every_proposal_is_handed_out(options):
    optimizer = made(options=options | {"optimizer": "TwoPointsDE", "batch": 4})
    rng, is_open, count = random.Random(0), [], 0
    for _ in range(80):
        is_open += optimizer.ask(4 - len(is_open))
        done = [is_open.pop(rng.randrange(len(is_open))) for _ in range(min(2, len(is_open)))]
        count += len(done)
        optimizer.tell({c.id: Scored((loss(c),)) for c in done})
    assert count > 100
    if "asynchronous" in options:
        assert len(optimizer._unissued) <= 4


def test_ngopt_beats_random_search_on_mixed_genes():
    def best(name, seed, options):
        optimizer = make_optimizer(name, options, SearchProblem(MIXED, 1, seed))
        return min(loss(c) for c in searched(optimizer, 160))

    ours = statistics.median(best("nevergrad", s, {"budget": 160}) for s in range(5))
    chance = statistics.median(best("random", s, {}) for s in range(5))
    assert ours < chance / 2
