"""What every optimizer must do, whatever its method."""

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from evomerge.core.outcomes import Candidate, Failed, Outcome, Scored
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.registry import OPTIMIZERS, make_optimizer
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

FAILED = Failed("merge", "out of memory")


def mixed_genes(count: int) -> list[Gene]:
    kinds: list[Callable[[str], Gene]] = [
        lambda name: FloatGene(name, -0.5, 1.5),
        lambda name: IntGene(name, 2, 9),
        lambda name: FloatGene(name, 0.001, 10.0, log=True),
        lambda name: ChoiceGene(name, ("ties", "linear", "slerp")),
    ]
    return [kinds[k % len(kinds)](f"g{k}") for k in range(count)]


def scored(candidate: Candidate, objectives: int) -> Scored:
    """A smooth function of the numbers; choices count by their length."""
    values = [len(v) / 6 if isinstance(v, str) else float(v) for v in candidate.genome.values()]
    return Scored(
        tuple(sum((v - k - 0.3) ** 2 for v in values) / len(values) for k in range(objectives))
    )


def search(
    optimizer: Optimizer,
    evaluate: Callable[[Candidate], Outcome],
    candidates: int,
    batch: int = 7,
) -> list[Candidate]:
    """Ask and tell in batches until so many candidates were asked."""
    asked: list[Candidate] = []
    while len(asked) < candidates and not optimizer.finished:
        batch_asked = optimizer.ask(min(batch, candidates - len(asked)))
        asked += batch_asked
        optimizer.tell({c.id: evaluate(c) for c in batch_asked})
    return asked


CASES = [
    pytest.param(name, objectives, id=f"{name}-{objectives}")
    for name, entry in OPTIMIZERS.items()
    for objectives in (1, 3)
    if entry.max_objectives is None or objectives <= entry.max_objectives
]
each_optimizer = pytest.mark.parametrize(("name", "objectives"), CASES)


@each_optimizer
@pytest.mark.parametrize("dimension", [1, 5, 60, 2000])
def test_ids_count_from_zero_and_genomes_lie_in_the_genes(name, objectives, dimension):
    genes = mixed_genes(dimension)
    optimizer = make_optimizer(name, {}, genes, objectives, seed=1)
    asked = search(optimizer, lambda c: scored(c, objectives), 60)
    assert [c.id for c in asked] == list(range(60))
    for candidate in asked:
        assert list(candidate.genome) == [gene.name for gene in genes]
        for gene in genes:
            value = candidate.genome[gene.name]
            if isinstance(gene, ChoiceGene):
                assert value in gene.options
            else:
                assert type(value) is (int if isinstance(gene, IntGene) else float)
                assert gene.low <= value <= gene.high


@each_optimizer
def test_ask_gives_at_least_one_whenever_nothing_is_open(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(6), objectives, seed=1)
    for _ in range(100):
        (candidate,) = optimizer.ask(1)
        optimizer.tell({candidate.id: scored(candidate, objectives)})


@each_optimizer
def test_ask_for_none_gives_none(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(6), objectives, seed=1)
    assert optimizer.ask(0) == []


@each_optimizer
def test_ask_never_gives_more_than_asked_for(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(6), objectives, seed=1)
    open_candidates = optimizer.ask(5)
    assert len(open_candidates) <= 5
    assert len(optimizer.ask(3)) <= 3


@each_optimizer
def test_equal_seeds_give_equal_genomes_and_others_do_not(name, objectives):
    def run(seed: int) -> list[Candidate]:
        optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, seed)
        return search(optimizer, lambda c: scored(c, objectives), 80)

    assert run(3) == run(3)
    assert run(3) != run(4)


IN_A_FRESH_PROCESS = """
import json, runpy, sys
here = runpy.run_path(sys.argv[1])
genomes = {}
for name, objectives in json.loads(sys.argv[2]):
    optimizer = here["make_optimizer"](name, {}, here["mixed_genes"](9), objectives, 11)
    asked = here["search"](optimizer, lambda c: here["scored"](c, objectives), 80)
    genomes[f"{name}-{objectives}"] = [c.genome for c in asked]
print(json.dumps(genomes))
"""


@pytest.fixture(scope="module")
def genomes_of_another_process() -> dict[str, list[dict[str, object]]]:
    cases = json.dumps([case.values for case in CASES])
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, __file__, cases],
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
    optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 11)
    here = search(optimizer, lambda c: scored(c, objectives), 80)
    there = genomes_of_another_process[f"{name}-{objectives}"]
    assert there == [dict(c.genome) for c in here]


def recorded_search(optimizer: Optimizer, objectives: int) -> list[tuple[str, object]]:
    """Three workers, answers out of order, some failures: a log of asks and tells."""
    rng = random.Random(5)
    log: list[tuple[str, object]] = []
    waiting: list[Candidate] = []
    for _ in range(150):
        asked = optimizer.ask(3 - len(waiting))
        log.append(("ask", (3 - len(waiting), asked)))
        waiting += asked
        done = waiting.pop(rng.randrange(len(waiting)))
        told = {done.id: FAILED if rng.random() < 0.2 else scored(done, objectives)}
        optimizer.tell(told)
        log.append(("tell", told))
    return log


@each_optimizer
def test_replaying_the_recorded_asks_and_tells_gives_the_recorded_genomes(name, objectives):
    genes = mixed_genes(9)
    log = recorded_search(make_optimizer(name, {}, genes, objectives, 2), objectives)
    again = make_optimizer(name, {}, genes, objectives, 2)
    for what, content in log:
        if what == "ask":
            count, recorded = content
            assert again.ask(count) == recorded
        else:
            again.tell(content)


@each_optimizer
def test_order_and_batches_in_which_outcomes_arrive_do_not_matter(name, objectives):
    def run(shuffle: random.Random | None) -> list[Candidate]:
        optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 2)
        asked: list[Candidate] = []
        for _ in range(4):
            generation = optimizer.ask(24)
            asked += generation
            if shuffle is None:
                optimizer.tell({c.id: scored(c, objectives) for c in generation})
                continue
            shuffle.shuffle(generation)
            optimizer.tell({c.id: scored(c, objectives) for c in generation[:5]})
            for c in generation[5:]:
                optimizer.tell({c.id: scored(c, objectives)})
        return asked

    assert run(None) == run(random.Random(8))


@each_optimizer
def test_a_search_in_which_everything_fails_spends_its_budget(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 2)
    assert len(search(optimizer, lambda c: FAILED, 120)) == 120


@each_optimizer
def test_a_search_recovers_after_whole_generations_failed(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 2)
    search(optimizer, lambda c: FAILED, 60)
    assert len(search(optimizer, lambda c: scored(c, objectives), 120)) == 120


@each_optimizer
def test_a_search_over_equal_scores_spends_its_budget(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 2)
    assert len(search(optimizer, lambda c: Scored((0.5,) * objectives), 300)) == 300


@each_optimizer
def test_losses_of_any_size_are_taken(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(9), objectives, 2)
    rng = random.Random(1)

    def extreme(candidate: Candidate) -> Outcome:
        size = rng.choice([1e-300, 1e-9, 1.0, 1e9, 1e150])
        return FAILED if rng.random() < 0.3 else Scored((-size, size, size)[:objectives])

    assert len(search(optimizer, extreme, 150)) == 150


@each_optimizer
def test_telling_an_id_never_asked_is_a_key_error(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(5), objectives, 2)
    optimizer.ask(2)
    for id_ in (2, 99, -1):
        with pytest.raises(KeyError, match="never asked"):
            optimizer.tell({id_: FAILED})


@each_optimizer
def test_telling_an_id_twice_is_a_key_error(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(5), objectives, 2)
    search(optimizer, lambda c: scored(c, objectives), 40)
    for id_ in (0, 39):
        with pytest.raises(KeyError, match="told before"):
            optimizer.tell({id_: FAILED})


@each_optimizer
def test_a_refused_tell_changes_nothing(name, objectives):
    optimizer = make_optimizer(name, {}, mixed_genes(5), objectives, 2)
    untouched = make_optimizer(name, {}, mixed_genes(5), objectives, 2)
    for each in (optimizer, untouched):
        each.ask(2)
    with pytest.raises(KeyError):
        optimizer.tell({0: Scored((0.0,) * objectives), 77: FAILED})
    with pytest.raises(ValueError, match="finite losses"):
        optimizer.tell({0: Scored((float("nan"),) * objectives)})
    with pytest.raises(ValueError, match="finite losses"):
        optimizer.tell({0: Scored((0.0,) * (objectives + 1))})
    for each in (optimizer, untouched):
        each.tell({0: Scored((0.5,) * objectives), 1: FAILED})
    run = [search(each, lambda c: scored(c, objectives), 60) for each in (optimizer, untouched)]
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
        optimizer = make_optimizer(name, {}, mixed_genes(dimension), objectives, 2)
        assert states() == before
        search(optimizer, lambda c: scored(c, objectives) if c.id % 5 else FAILED, 120)
        search(optimizer, lambda c: Scored((0.5,) * objectives), 200)
        assert states() == before
    assert list(tmp_path.iterdir()) == []


@each_optimizer
def test_global_generators_have_no_effect(name, objectives):
    def run(global_seed: int) -> list[Candidate]:
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        optimizer = make_optimizer(name, {}, mixed_genes(400), objectives, 2)
        return search(optimizer, lambda c: scored(c, objectives), 120)

    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        assert run(0) == run(1)
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)


@each_optimizer
def test_nothing_is_printed_and_no_warning_given(name, objectives, capfd, recwarn):
    for dimension in (1, 9, 130):
        optimizer = make_optimizer(name, {}, mixed_genes(dimension), objectives, 2)
        search(optimizer, lambda c: scored(c, objectives) if c.id % 5 else FAILED, 150)
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn] == []


@each_optimizer
def test_what_the_caller_gave_is_unchanged_and_what_it_does_to_it_has_no_effect(
    name, objectives
):
    genes = mixed_genes(5)
    initial = [{"g0": 0.25, "g1": 4, "g2": 1.0, "g3": "slerp", "g4": 0.5}]
    given = (copy.deepcopy(genes), copy.deepcopy(initial))
    optimizer = make_optimizer(name, {}, genes, objectives, 2, initial)
    other = make_optimizer(name, {}, list(genes), objectives, 2, copy.deepcopy(initial))
    expected = search(other, lambda c: scored(c, objectives), 60)

    def careless(candidate: Candidate) -> Outcome:
        outcome = scored(candidate, objectives)
        genome: Mapping = candidate.genome
        kept.append(replace(candidate, genome=dict(genome)))
        genome.clear()  # type: ignore[attr-defined]
        return outcome

    kept: list[Candidate] = []
    search(optimizer, careless, 60)
    assert kept == expected
    assert (genes, initial) == given


@each_optimizer
def test_initial_genomes_come_first(name, objectives):
    genes = mixed_genes(4)
    initial = [
        {"g0": 0.25, "g1": 4, "g2": 1.0, "g3": "slerp"},
        {"g0": 1.5, "g1": 9, "g2": 0.001, "g3": "ties"},
    ]
    optimizer = make_optimizer(name, {}, genes, objectives, 2, initial)
    assert [dict(c.genome) for c in optimizer.ask(2)] == initial
