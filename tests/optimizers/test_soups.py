"""Successive soups: which candidates are tried, and which of them are kept."""

import statistics

import numpy as np
import pytest
from landscapes import parameter_space

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene

FAILED = Failed("merge", "no")
ABC = [FloatGene(f"{name}.weight", 0.0, 1.0) for name in "abc"]


def searched(genes, evaluate, objectives=1, initial=(), **options):
    """Every candidate's genome with its outcome, and the optimizer when it has finished."""
    optimizer = make_optimizer("soups", options, SearchProblem(genes, objectives, 0, initial))
    found = []
    while optimizer.finished is None:
        asked = optimizer.ask(1000)
        told = {c.id: evaluate(c.genome) for c in asked}
        found += [(c.genome, told[c.id]) for c in asked]
        optimizer.tell(told)
    return found, optimizer


def weights(genome):
    return tuple(round(value, 3) for value in genome.values())


def distance_to(*target):
    return lambda genome: Scored(
        (sum((v - t) ** 2 for v, t in zip(genome.values(), target, strict=True)),)
    )


def test_models_are_tried_alone_and_then_averaged_in_from_the_best_on():
    found, _ = searched(ABC, distance_to(0.45, 0.05, 0.5))
    third = round(1 / 3, 3)
    assert [weights(genome) for genome, _ in found] == [
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (0.5, 0, 0.5),
        (third, third, third),
    ]


def test_a_model_that_lowers_the_score_does_not_join():
    scores = {(0, 0, 1): 1.0, (1, 0, 0): 2.0, (0, 1, 0): 3.0, (0.5, 0, 0.5): 1.1}
    found, _ = searched(ABC, lambda genome: Scored((scores.get(weights(genome), 0.5),)))
    assert weights(found[-1][0]) == (0, 0.5, 0.5)


def test_an_equal_score_joins():
    found, _ = searched(ABC, lambda genome: Scored((0.5,)))
    assert weights(found[-1][0]) == tuple([round(1 / 3, 3)] * 3)


def test_the_heuristic_keeps_the_best_coefficient_and_not_the_last():
    found, _ = searched(ABC[:2], distance_to(0.7, 0.3), method="heuristic")
    tried = sorted(weights(genome)[1] for genome, _ in found[2:])
    assert tried == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    best = min(found, key=lambda each: each[1].losses)
    assert weights(best[0]) == (0.7, 0.3)

    three, _ = searched(ABC, distance_to(0.7, 0.3, 0.0), method="heuristic")
    last_step = np.array([weights(genome) for genome, _ in three[-9:]])
    rest = last_step[:, :2] / last_step[:, :2].sum(1, keepdims=True)
    assert np.allclose(rest, [0.7, 0.3], atol=0.01)


def test_all_coefficients_of_a_step_are_proposed_together():
    optimizer = make_optimizer("soups", {"method": "heuristic"}, SearchProblem(ABC, 1, 0))
    alone = optimizer.ask(1000)
    assert len(alone) == 3
    optimizer.tell({c.id: Scored((float(c.id),)) for c in alone})
    assert len(optimizer.ask(1000)) == 9


def test_a_model_that_fails_alone_is_left_out_and_a_failed_soup_does_not_join():
    def evaluate(genome):
        a, b, c = weights(genome)
        return FAILED if b or (a and c) else Scored((a,))

    found, optimizer = searched(ABC, evaluate)
    assert [weights(genome) for genome, _ in found[3:]] == [(0.5, 0, 0.5)]
    assert optimizer.finished == "every model has been tried."


def test_where_all_fail_it_is_finished_and_says_so():
    found, optimizer = searched(ABC, lambda genome: FAILED)
    assert len(found) == 3
    assert optimizer.finished.startswith("every model failed alone")
    assert optimizer.ask(5) == []


def test_a_soup_that_misses_a_constraint_does_not_join_one_that_meets_it():
    def evaluate(genome):
        mixed = max(genome.values()) < 1
        return Scored((0.0 if mixed else 1.0,), violation=float(mixed))

    found, _ = searched(ABC, evaluate)
    assert [weights(genome) for genome, _ in found[3:]] == [(0.5, 0.5, 0), (0.5, 0, 0.5)]


def test_an_initial_genome_of_one_model_is_not_asked_twice():
    initial = [
        {"a.weight": 0.3, "b.weight": 0.3, "c.weight": 0.4},
        {"a.weight": 0.0, "b.weight": 1.0, "c.weight": 0.0},
    ]
    found, _ = searched(ABC, distance_to(0.0, 0.9, 0.0), initial=initial)
    asked = [weights(genome) for genome, _ in found]
    assert asked[:4] == [(0.3, 0.3, 0.4), (0, 1, 0), (1, 0, 0), (0, 0, 1)]
    assert asked.count((0, 1, 0)) == 1
    assert all(0.4 < genome["b.weight"] < 0.6 for genome, _ in found[4:])


def test_a_models_weights_go_together_and_all_else_leaves_models_alone():
    space = parameter_space(
        operator=["ties", "task_arithmetic"],
        layer_groups=2,
        experts={"weight": [0, 1.2], "density": [0.1, 1]},
        merge={"lambda": [0.3, 2.0]},
    )
    found, _ = searched(space.genes, lambda genome: Scored((0.0,)))
    alone = [genome for genome, _ in found[:3]]
    for number, genome in enumerate(alone, 1):
        for name, value in genome.items():
            if ".weight" in name:
                assert value == (1.0 if name.startswith(f"e{number}.") else 0.0)
            elif ".density" in name or "lambda" in name:
                assert value == 1.0
        assert genome["operator"] == "ties"
    assert len(found) == 5


def test_model_names_may_hold_dots():
    genes = [FloatGene(f"llama-3.{k}.weight", 0.0, 1.0) for k in (1, 2)]
    found, _ = searched(genes, lambda genome: Scored((0.0,)))
    assert [weights(genome) for genome, _ in found] == [(1, 0), (0, 1), (0.5, 0.5)]


def test_several_objectives_are_compared_by_their_ranks_whatever_their_scale():
    def evaluate(genome):
        a, b, _ = genome.values()
        return Scored((1e6 * (a - 0.5) ** 2, 1e-6 * (b - 0.5) ** 2))

    found, _ = searched(ABC, evaluate, objectives=2)
    assert (0.5, 0.5, 0) in [weights(genome) for genome, _ in found]
    assert weights(found[-1][0]) == tuple([round(1 / 3, 3)] * 3)


def test_a_space_without_numbers_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"no number gene.*give 'weight' a range"):
        make_optimizer("soups", {}, SearchProblem([ChoiceGene("move 1", ("a", "b"))], 1, 0))


@pytest.mark.parametrize("method", ["greedy", "heuristic"])
def test_soups_beat_as_many_random_draws_where_averaging_some_models_helps(method):
    """Twelve models, each off the target by a direction of its own; four are far off."""
    genes = [FloatGene(f"m{k}.weight", 0.0, 1.0) for k in range(12)]

    def gap(seed, name, candidates=None):
        rng = np.random.default_rng(seed)
        models = rng.standard_normal((12, 40)) * np.where(np.arange(12) % 3 == 0, 6, 1)[:, None]

        def evaluate(genome):
            shares = np.array([*genome.values()])
            merged = shares @ models / max(shares.sum(), 1e-9)
            return Scored((float(np.linalg.norm(merged)),))

        if name == "soups":
            found, _ = searched(genes, evaluate, method=method)
        else:
            asked = make_optimizer("random", {}, SearchProblem(genes, 1, seed)).ask(candidates)
            found = [(c.genome, evaluate(c.genome)) for c in asked]
        return min(outcome.losses[0] for _, outcome in found), len(found)

    gains = []
    for seed in range(7):
        own, candidates = gap(seed, "soups")
        gains.append(gap(seed, "random", candidates)[0] / own)
    assert statistics.median(gains) > 1.3
