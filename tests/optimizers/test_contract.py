"""What every optimizer must do, whatever its method."""

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import optimizer_cases
import pytest
from optimizer_cases import (
    CHEAP,
    FAILED,
    assert_replayed,
    cases,
    make,
    mixed_genes,
    numbers_of,
    outcome,
    recorded_search,
    scored,
    search,
    smooth,
    sometimes_failing,
)

from evomerge.core.outcomes import Candidate, Outcome, Scored
from evomerge.optimizers.registry import OPTIMIZERS, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

CASES = cases(1, 3)
each_optimizer = pytest.mark.parametrize(("name", "objectives"), CASES)
each_optimizer_over_many = pytest.mark.parametrize(
    ("name", "objectives"),
    [
        pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
        if case.id == "bayesian-3"  # a minute
        else case
        for case in CASES
    ],
)
each_number_of_objectives = pytest.mark.parametrize(
    ("name", "objectives"), cases(1, 2, 3, 4, 5)
)
each_that_learns = pytest.mark.parametrize(
    ("name", "objectives"),
    cases(1, 3, names=[n for n, e in OPTIMIZERS.items() if e.draws and not e.never_waits]),
)


@each_optimizer_over_many
@pytest.mark.parametrize("dimension", [1, 60, 2000])
def test_ids_count_from_zero_and_genomes_lie_in_the_genes(name, objectives, dimension):
    genes = mixed_genes(dimension)
    optimizer = make(name, genes, objectives, seed=1)
    asked = search(optimizer, smooth(name, objectives), 60 if dimension == 60 else 30)
    assert [c.id for c in asked] == list(range(len(asked)))
    for candidate in asked:
        assert list(candidate.genome) == [gene.name for gene in genes]
        for gene in genes:
            value = candidate.genome[gene.name]
            if isinstance(gene, ChoiceGene):
                assert value in gene.options
            else:
                assert type(value) is (int if isinstance(gene, IntGene) else float)
                assert gene.low <= value <= gene.high


@each_optimizer_over_many
def test_ask_gives_at_least_one_whenever_nothing_is_open(name, objectives):
    optimizer = make(name, mixed_genes(6), objectives, seed=1)
    search(optimizer, smooth(name, objectives), 70, batch=1)


@pytest.mark.parametrize(
    "name",
    ["nsga2", "nsga3", "sms_emoa", "moead", "ga", "de", "bayesian", "map_surrogate"],
)
def test_of_genomes_that_come_to_the_same_only_one_is_proposed(name):
    genes = [IntGene("on", 0, 1), IntGene("g", 0, 99), FloatGene("idle", 0.0, 1.0)]

    def expressed(genome):
        return genome["g"] if genome["on"] else None

    problem = SearchProblem(genes, 1, 5, (), expressed)
    optimizer = make_optimizer(name, CHEAP.get(name, {}), problem)
    asked = search(optimizer, smooth(name, 1), 40)
    assert len({expressed(candidate.genome) for candidate in asked}) == len(asked) == 40


@each_optimizer
def test_ask_for_none_gives_none(name, objectives):
    optimizer = make(name, mixed_genes(6), objectives, seed=1)
    assert optimizer.ask(0) == []


@each_optimizer
def test_ask_never_gives_more_than_asked_for(name, objectives):
    optimizer = make(name, mixed_genes(6), objectives, seed=1)
    open_candidates = optimizer.ask(5)
    assert len(open_candidates) <= 5
    assert len(optimizer.ask(3)) <= 3


@each_optimizer_over_many
def test_equal_seeds_give_equal_genomes_and_others_do_not(name, objectives):
    def run(seed: int) -> list[Candidate]:
        optimizer = make(name, mixed_genes(9), objectives, seed)
        return search(optimizer, smooth(name, objectives), 60)

    first = run(3)
    assert run(3) == first
    assert (run(4) != first) == OPTIMIZERS[name].draws


IN_A_FRESH_PROCESS = """
import json, runpy, sys
here = runpy.run_path(sys.argv[1])
genomes = {}
for name, objectives in json.loads(sys.argv[2]):
    optimizer = here["make"](name, here["mixed_genes"](9), objectives, 11)
    asked = here["search"](optimizer, here["smooth"](name, objectives), 60)
    genomes[f"{name}-{objectives}"] = [c.genome for c in asked]
print(json.dumps(genomes))
"""


@pytest.fixture(scope="module")
def genomes_of_another_process() -> dict[str, list[dict[str, object]]]:
    here = [case.values for case in CASES if not any(mark.args[0] for mark in case.marks)]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, optimizer_cases.__file__, json.dumps(here)],
        env=os.environ | {"PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@each_optimizer
def test_genomes_are_the_same_in_another_process_with_another_hash_seed(
    name, objectives, genomes_of_another_process
):
    optimizer = make(name, mixed_genes(9), objectives, 11)
    here = search(optimizer, smooth(name, objectives), 60)
    there = genomes_of_another_process[f"{name}-{objectives}"]
    assert there == [dict(c.genome) for c in here]


@each_optimizer
def test_replaying_the_recorded_asks_and_tells_gives_the_recorded_genomes(name, objectives):
    made = [make(name, mixed_genes(9), objectives, 2) for _ in range(2)]
    assert_replayed(made[1], recorded_search(made[0], name, objectives))


@each_optimizer
def test_order_and_batches_in_which_outcomes_arrive_do_not_matter(name, objectives):
    def run(shuffle: random.Random | None) -> list[Candidate]:
        optimizer = make(name, mixed_genes(9), objectives, 2)
        asked: list[Candidate] = []
        for _ in range(4):
            generation = optimizer.ask(24)
            asked += generation
            if shuffle is None:
                optimizer.tell({c.id: scored(name, c, objectives) for c in generation})
                continue
            shuffle.shuffle(generation)
            optimizer.tell({c.id: scored(name, c, objectives) for c in generation[:5]})
            for c in generation[5:]:
                optimizer.tell({c.id: scored(name, c, objectives)})
        return asked

    assert run(None) == run(random.Random(8))


@each_optimizer
def test_a_search_in_which_everything_fails_spends_its_budget(name, objectives):
    optimizer = make(name, mixed_genes(9), objectives, 2)
    search(optimizer, lambda c: FAILED, 70)


@each_optimizer
def test_a_search_recovers_after_whole_generations_failed(name, objectives):
    optimizer = make(name, mixed_genes(9), objectives, 2)
    search(optimizer, lambda c: FAILED, 40)
    if not optimizer.finished:
        search(optimizer, smooth(name, objectives), 70)


@each_optimizer
def test_a_search_over_equal_scores_spends_its_budget(name, objectives):
    optimizer = make(name, mixed_genes(9), objectives, 2)
    search(optimizer, lambda c: outcome(name, c, (0.5,) * objectives), 100)


@each_number_of_objectives
def test_losses_of_any_size_are_taken(name, objectives):
    optimizer = make(name, mixed_genes(9), objectives, 2)
    rng = random.Random(1)

    def extreme(candidate: Candidate) -> Outcome:
        size = rng.choice([1e-300, 1e-9, 1.0, 1e9, 1e150])
        losses = (-size, size, size, 0.0, -1.0)[:objectives]
        return FAILED if rng.random() < 0.3 else outcome(name, candidate, losses)

    search(optimizer, extreme, 70)
    for _ in range(2):  # with violations of any size, too
        violation = rng.choice([1e-300, 1.0, 1e150])
        search(optimizer, lambda c, v=violation: outcome(name, c, (0.5,) * objectives, v), 20)


@each_that_learns
def test_infeasible_candidates_rank_behind_feasible_and_before_failed_ones(name, objectives):
    """The best losses are infeasible; a tenth of the cube is feasible, all around fails."""
    genes: list[Gene] = [FloatGene(f"g{k}", 0.0, 1.0) for k in range(3)]
    feasible = []

    def evaluate(candidate: Candidate) -> Outcome:
        values = numbers_of(candidate)
        violation = max(0.0, 0.6 - min(values))
        feasible.append(violation == 0 and max(values) < 0.97)
        if max(values) >= 0.97:
            return FAILED
        losses = tuple(sum(values) + k * values[k % 3] for k in range(objectives))
        return outcome(name, candidate, losses, violation)

    search(make(name, genes, objectives, 2), evaluate, 150)
    assert sum(feasible[-50:]) > 50 / 4  # by chance 50 / 20


@each_optimizer
def test_telling_an_id_never_asked_is_a_key_error(name, objectives):
    optimizer = make(name, mixed_genes(5), objectives, 2)
    optimizer.ask(2)
    for id_ in (2, 99, -1):
        with pytest.raises(KeyError, match="never asked"):
            optimizer.tell({id_: FAILED})


@each_optimizer
def test_telling_an_id_twice_is_a_key_error(name, objectives):
    optimizer = make(name, mixed_genes(5), objectives, 2)
    told = search(optimizer, smooth(name, objectives), 40)
    for id_ in (0, told[-1].id):
        with pytest.raises(KeyError, match="told before"):
            optimizer.tell({id_: FAILED})


@each_optimizer
def test_a_refused_tell_changes_nothing(name, objectives):
    optimizer = make(name, mixed_genes(5), objectives, 2)
    untouched = make(name, mixed_genes(5), objectives, 2)
    asked = [each.ask(2) for each in (optimizer, untouched)]
    assert asked[0] == asked[1]
    first = asked[0][0]
    with pytest.raises(KeyError):
        optimizer.tell({0: outcome(name, first, (0.0,) * objectives), 77: FAILED})
    with pytest.raises(ValueError, match="finite losses"):
        optimizer.tell({0: Scored((float("nan"),) * objectives)})
    with pytest.raises(ValueError, match="finite losses"):
        optimizer.tell({0: Scored((0.0,) * (objectives + 1))})
    with pytest.raises(ValueError, match="violation"):
        optimizer.tell({0: Scored((0.0,) * objectives, violation=-1.0)})
    told = {c.id: FAILED for c in asked[0]} | {0: outcome(name, first, (0.5,) * objectives)}
    for each in (optimizer, untouched):
        each.tell(told)
    run = [search(each, smooth(name, objectives), 50) for each in (optimizer, untouched)]
    assert run[0] == run[1]


@each_optimizer
def test_global_generators_and_files_are_left_alone(name, objectives, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    import torch

    def states() -> tuple[str, object, bytes]:
        legacy = repr(np.random.get_state(legacy=False))  # noqa: NPY002
        return legacy, random.getstate(), torch.get_rng_state().numpy().tobytes()

    for dimension in (1, 9, 400):
        before = states()
        optimizer = make(name, mixed_genes(dimension), objectives, 2)
        assert states() == before
        count = 30 if dimension > 100 else 60
        search(optimizer, sometimes_failing(name, objectives), count)
        search(optimizer, lambda c: outcome(name, c, (0.5,) * objectives), count)
        assert states() == before
    assert list(tmp_path.iterdir()) == []


@each_optimizer
def test_global_generators_have_no_effect(name, objectives):
    def run(global_seed: int) -> list[Candidate]:
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        optimizer = make(name, mixed_genes(400), objectives, 2)
        return search(optimizer, smooth(name, objectives), 40)

    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        assert run(0) == run(1)
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)


@each_optimizer
def test_nothing_is_printed_and_no_warning_given(name, objectives, capfd, recwarn):
    for dimension in (1, 9, 130):
        optimizer = make(name, mixed_genes(dimension), objectives, 2)
        search(optimizer, sometimes_failing(name, objectives), 70)
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn] == []


@each_optimizer
def test_what_the_caller_gave_is_unchanged_and_what_it_does_to_it_has_no_effect(
    name, objectives
):
    genes = mixed_genes(5)
    initial = [{"g0": 0.25, "g1": 4, "g2": 1.0, "g3": "slerp", "g4": 0.5}]
    given = (copy.deepcopy(genes), copy.deepcopy(initial))
    optimizer = make(name, genes, objectives, 2, initial)
    other = make(name, list(genes), objectives, 2, copy.deepcopy(initial))
    expected = search(other, smooth(name, objectives), 50)

    def careless(candidate: Candidate) -> Outcome:
        known = scored(name, candidate, objectives)
        genome: Mapping = candidate.genome
        kept.append(replace(candidate, genome=dict(genome)))
        genome.clear()  # type: ignore[attr-defined]
        return known

    kept: list[Candidate] = []
    search(optimizer, careless, 50)
    assert kept == expected
    assert (genes, initial) == given


@each_optimizer
def test_initial_genomes_come_first(name, objectives):
    genes = mixed_genes(4)
    initial = [
        {"g0": 0.25, "g1": 4, "g2": 1.0, "g3": "slerp"},
        {"g0": 1.5, "g1": 9, "g2": 0.001, "g3": "ties"},
    ]
    optimizer = make(name, genes, objectives, 2, initial)
    assert [dict(c.genome) for c in optimizer.ask(2)] == initial


@each_optimizer
def test_an_initial_genome_given_twice_is_proposed_once(name, objectives):
    first = {"g0": 0.25, "g1": 4, "g2": 1.0, "g3": "slerp"}
    second = {"g0": 1.5, "g1": 9, "g2": 0.001, "g3": "ties"}
    initial = [first, dict(reversed(first.items())), second]
    optimizer = make(name, mixed_genes(4), objectives, 2, initial)
    assert [dict(c.genome) for c in optimizer.ask(2)] == [first, second]
