"""What is special to NSGA-II."""

import itertools

import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Candidate, Failed, Scored
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

FAILED = Failed("merge", "out of memory")


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def next_generation(optimizer, evaluate):
    """Ask for all of one generation, and tell it."""
    generation = optimizer.ask(1000)
    optimizer.tell({c.id: evaluate(c) for c in generation})
    return generation


def bowls(candidate: Candidate) -> Scored:
    x = np.array(list(candidate.genome.values()))
    return Scored((float(((x - 0.2) ** 2).sum()), float(((x - 0.7) ** 2).sum())))


def test_ask_waits_while_members_of_the_generation_are_out():
    optimizer = make_optimizer("nsga2", {"population": 10}, SearchProblem(floats(3), 2, 0))
    assert len(optimizer.ask(6)) == 6
    assert len(optimizer.ask(6)) == 4
    assert optimizer.ask(6) == []
    optimizer.tell(dict.fromkeys(range(9), FAILED))
    assert optimizer.ask(1) == []
    optimizer.tell({9: FAILED})
    assert len(optimizer.ask(1)) == 1


def test_the_first_generation_covers_every_gene_evenly():
    genes = [*floats(2), IntGene("int", 1, 3), ChoiceGene("choice", ("a", "b", "c", "d"))]
    generation = make_optimizer("nsga2", {"population": 12}, SearchProblem(genes, 2, 0)).ask(12)
    for name in ("g0", "g1"):
        assert sorted(int(c.genome[name] * 12) for c in generation) == list(range(12))
    assert sorted(c.genome["int"] for c in generation) == [1] * 4 + [2] * 4 + [3] * 4
    assert "".join(sorted(c.genome["choice"] for c in generation)) == "aaabbbcccddd"


def test_more_initial_genomes_than_the_population_all_come_first():
    initial = [{"g0": k / 10} for k in range(10)]
    optimizer = make_optimizer(
        "nsga2", {"population": 4}, SearchProblem(floats(1), 2, 0, initial)
    )
    generation = next_generation(optimizer, bowls)
    assert [dict(c.genome) for c in generation] == initial
    assert len(next_generation(optimizer, bowls)) == 4


def test_equal_initial_genomes_are_proposed_once():
    initial = [{"g0": 0.5}, {"g0": 0.5}]
    optimizer = make_optimizer(
        "nsga2", {"population": 6}, SearchProblem(floats(1), 2, 0, initial)
    )
    values = [c.genome["g0"] for c in optimizer.ask(6)]
    assert len(values) == 6
    assert values.count(0.5) == 1


def test_no_genome_is_proposed_twice():
    genes = [IntGene("a", 0, 5), ChoiceGene("b", ("x", "y", "z")), IntGene("c", 0, 9)]
    optimizer = make_optimizer("nsga2", {"population": 10}, SearchProblem(genes, 2, 0))
    genomes = []
    for _ in range(10):
        generation = next_generation(
            optimizer, lambda c: Scored((float(c.genome["a"]), -float(c.genome["c"])))
        )
        genomes += [tuple(c.genome.values()) for c in generation]
    assert len(set(genomes)) == len(genomes) == 100


def test_a_small_space_is_searched_whole_and_then_finished():
    genes = [ChoiceGene("a", ("x", "y", "z")), IntGene("b", 0, 3)]
    optimizer = make_optimizer("nsga2", {"population": 5}, SearchProblem(genes, 1, 0))
    genomes = []
    while optimizer.finished is None:
        generation = next_generation(optimizer, lambda c: Scored((float(c.genome["b"]),)))
        genomes += [tuple(c.genome.values()) for c in generation]
    assert sorted(genomes) == list(itertools.product("xyz", range(4)))
    assert "space is small" in optimizer.finished
    assert optimizer.ask(3) == []


def test_children_descend_from_scored_candidates_only():
    options = {"population": 20, "mutation_probability": 0.0}
    genes = [ChoiceGene("mark", tuple(range(1000))), *floats(8)]
    optimizer = make_optimizer("nsga2", options, SearchProblem(genes, 2, 0))
    generation = optimizer.ask(20)
    failed = {c.genome["mark"] for c in generation[:6]}
    alive = {c.genome["mark"] for c in generation[6:]}
    optimizer.tell(
        {c.id: FAILED if c.genome["mark"] in failed else bowls_of_floats(c) for c in generation}
    )
    children = optimizer.ask(20)
    marks = [c.genome["mark"] for c in children]
    assert not failed & set(marks)
    assert sum(mark in alive for mark in marks) >= 14


def bowls_of_floats(candidate):
    x = np.array([v for k, v in candidate.genome.items() if k != "mark"])
    return Scored((float(((x - 0.2) ** 2).sum()), float(((x - 0.7) ** 2).sum())))


def test_choices_are_not_treated_as_ordered():
    """Between parents with the first and the last option, no option in between arises."""
    options = {"population": 20, "mutation_probability": 0.0}
    genes = [ChoiceGene("choice", ("a", "b", "c", "d", "e")), *floats(4)]
    optimizer = make_optimizer("nsga2", options, SearchProblem(genes, 2, 0))

    def extremes_survive(candidate):
        if candidate.genome["choice"] not in "ae":
            return FAILED
        x = candidate.genome["g0"]
        return Scored((x, 1 - x))

    for _ in range(8):
        generation = next_generation(optimizer, extremes_survive)
    assert {c.genome["choice"] for c in generation} == {"a", "e"}


def test_parents_of_equal_ints_have_children_of_that_int():
    options = {"population": 60, "mutation_probability": 0.0, "crossover_eta": 1.0}
    optimizer = make_optimizer(
        "nsga2", options, SearchProblem([IntGene("int", 0, 2), *floats(4)], 2, 0)
    )

    def one_survives(candidate):
        x = candidate.genome["g0"]
        return Scored((x, 1 - x)) if candidate.genome["int"] == 1 else FAILED

    generations = [next_generation(optimizer, one_survives) for _ in range(8)]
    last = [c.genome["int"] for generation in generations[4:] for c in generation]
    assert set(last) == {1}


def test_of_equally_ranked_parents_the_less_crowded_have_more_children():
    """On a front crowded in the middle, both ends win every tournament that they are in."""
    options = {"population": 20, "crossover_probability": 0.0, "mutation_probability": 0.05}
    genes = [ChoiceGene("mark", tuple(range(100_000))), *floats(100)]
    optimizer = make_optimizer("nsga2", options, SearchProblem(genes, 2, 0))
    generation = optimizer.ask(20)
    places = [0.0, *(0.5 + k / 1000 for k in range(18)), 1.0]
    optimizer.tell({c.id: Scored((x, 1 - x)) for c, x in zip(generation, places, strict=True)})
    marks = [c.genome["mark"] for c in optimizer.ask(20)]
    for end in (generation[0], generation[-1]):
        assert marks.count(end.genome["mark"]) == 2


def test_every_mutated_int_gene_changes_its_value():
    genes = [IntGene(f"i{k}", 0, 1) for k in range(40)]
    options = {"population": 4, "mutation_probability": 1.0, "crossover_probability": 0.0}
    initial = [{f"i{k}": (k + n) % 2 for k in range(40)} for n in range(1)]
    optimizer = make_optimizer("nsga2", options, SearchProblem(genes, 1, 0, initial))
    parent = dict(optimizer.ask(4)[0].genome)
    optimizer.tell({0: Scored((0.0,)), 1: FAILED, 2: FAILED, 3: FAILED})
    flipped = {name: 1 - value for name, value in parent.items()}
    assert dict(optimizer.ask(4)[-1].genome) == flipped


def test_the_best_candidate_of_one_objective_is_never_lost():
    optimizer = make_optimizer("nsga2", {"population": 8}, SearchProblem(floats(2), 1, 0))
    best = float("inf")
    for _ in range(20):
        generation = next_generation(optimizer, lambda c: Scored(bowls(c).losses[:1]))
        best = min(best, *(bowls(c).losses[0] for c in generation))
    assert best < 1e-4


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_one_to_five_objectives_go(objectives):
    optimizer = make_optimizer(
        "nsga2", {"population": 8}, SearchProblem(floats(4), objectives, 0)
    )
    for _ in range(5):
        generation = next_generation(
            optimizer,
            lambda c: Scored(
                tuple(abs(c.genome["g0"] - k / 5) + c.genome["g1"] for k in range(objectives))
            ),
        )
        assert len(generation) == 8


def test_an_initial_genome_that_does_not_fit_is_a_config_error():
    genes = [FloatGene("a", 0, 1), ChoiceGene("b", ("x", "y"))]
    for bad in (
        {"a": 0.5},
        {"a": 0.5, "b": "z"},
        {"a": "one", "b": "x"},
        {"a": 1, "b": "x", "c": 1},
    ):
        with pytest.raises(ConfigError, match="initial genome 0"):
            make_optimizer("nsga2", {}, SearchProblem(genes, 1, 0, [bad]))
