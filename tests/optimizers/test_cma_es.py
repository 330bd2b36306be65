"""What is special to CMA-ES."""

import random
import statistics
import time
from pathlib import Path

import cma
import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.cma_es.noise import RankUncertainty
from evomerge.optimizers.cma_es.restarts import RestartSchedule
from evomerge.optimizers.registry import check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import FloatGene

FAILED = Failed("merge", "out of memory")


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def sphere(candidate, centre=0.3):
    x = np.array(list(candidate.genome.values()))
    return Scored((float(((x - centre) ** 2).sum()),))


def run(optimizer, evaluate, candidates):
    best, asked = float("inf"), 0
    while asked < candidates:
        batch = optimizer.ask(50)
        asked += len(batch)
        told = {c.id: evaluate(c) for c in batch}
        optimizer.tell(told)
        best = min([best, *(o.losses[0] for o in told.values() if isinstance(o, Scored))])
    return best


@pytest.mark.parametrize(("genes", "population"), [(1, 6), (2, 6), (10, 10), (30, 14)])
def test_population_follows_the_number_of_genes(genes, population):
    assert (
        len(make_optimizer("cma_es", {}, SearchProblem(floats(genes), 1, 0)).ask(100))
        == population
    )


def test_samples_start_around_the_middle():
    genomes = [
        c.genome for c in make_optimizer("cma_es", {}, SearchProblem(floats(50), 1, 0)).ask(100)
    ]
    values = np.array([list(g.values()) for g in genomes])
    assert abs(values.mean() - 0.5) < 0.03
    assert abs(values.std() - 0.2) < 0.03


def test_the_search_starts_from_the_best_of_the_initial_genomes():
    initial = [{f"g{k}": v for k in range(20)} for v in (0.1, 0.8, 0.5)]
    optimizer = make_optimizer(
        "cma_es", {"sigma": 0.05}, SearchProblem(floats(20), 1, 0, initial)
    )
    generation = optimizer.ask(100)
    assert [dict(c.genome) for c in generation] == initial
    optimizer.tell({c.id: sphere(c, centre=0.75) for c in generation})
    values = np.array([list(c.genome.values()) for c in optimizer.ask(100)])
    assert abs(values.mean() - 0.8) < 0.03


def test_the_search_starts_from_the_middle_where_all_initial_genomes_failed():
    initial = [{f"g{k}": 0.1 for k in range(20)}]
    optimizer = make_optimizer(
        "cma_es", {"sigma": 0.05}, SearchProblem(floats(20), 1, 0, initial)
    )
    optimizer.tell({c.id: FAILED for c in optimizer.ask(100)})
    values = np.array([list(c.genome.values()) for c in optimizer.ask(100)])
    assert abs(values.mean() - 0.5) < 0.03


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_a_start_at_a_corner_can_leave_it(corner):
    initial = [{f"g{k}": corner for k in range(5)}]
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(5), 1, 0, initial))
    assert run(optimizer, sphere, 300) < 1e-2


@pytest.mark.parametrize("genes", [1, 2, 5])
def test_few_genes_are_solved(genes):
    assert (
        run(make_optimizer("cma_es", {}, SearchProblem(floats(genes), 1, 0)), sphere, 240)
        < 1e-3
    )


def test_an_optimum_on_the_bounds_is_reached():
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(6), 1, 0))
    assert run(optimizer, lambda c: sphere(c, centre=0.0), 400) < 1e-3


def test_failed_candidates_rank_behind_all_scored_ones():
    """The half space that fails would score best if failures counted for anything but last."""
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(6), 1, 0))

    def half_fails(candidate):
        return FAILED if candidate.genome["g0"] < 0.5 else sphere(candidate, centre=0.6)

    assert run(optimizer, half_fails, 300) < 1e-3


def test_convergence_restarts_with_twice_the_population():
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(2), 1, 0))
    while not optimizer.restarts:
        optimizer.tell({c.id: sphere(c) for c in optimizer.ask(1000)})
    assert optimizer.restarts[0].startswith("converged")
    assert len(optimizer.ask(1000)) == 12


def test_flat_scores_restart_and_say_so(caplog):
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(10), 1, 0))
    with caplog.at_level("WARNING"):
        run(optimizer, lambda c: Scored((0.5,)), 35)
    (reason,) = optimizer.restarts
    assert reason.startswith("all candidates of 3 generations scored alike")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text
    assert len(optimizer.ask(100)) == 20


def test_a_generation_that_failed_whole_moves_the_search_elsewhere():
    options = {"sigma": 0.02}
    optimizer = make_optimizer("cma_es", options, SearchProblem(floats(30), 1, 0))
    before = optimizer.ask(100)
    optimizer.tell({c.id: FAILED for c in before})
    after = optimizer.ask(100)
    assert optimizer.restarts == ["every candidate of a generation failed"]
    assert len(after) == len(before)
    means = [np.mean([list(c.genome.values()) for c in g], axis=0) for g in (before, after)]
    assert np.abs(means[0] - means[1]).max() > 0.2


def test_a_signals_file_in_the_folder_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cma_signals.in").write_text("{'timeout': 0, 'maxiter': 1}")
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(10), 1, 0))
    run(optimizer, sphere, 60)
    assert optimizer.restarts == []


def test_without_restarts_the_search_ends_and_says_why():
    optimizer = make_optimizer("cma_es", {"restarts": "none"}, SearchProblem(floats(2), 1, 0))
    while not optimizer.finished:
        optimizer.tell({c.id: sphere(c) for c in optimizer.ask(50)})
    assert optimizer.finished.startswith("converged")
    assert optimizer.ask(1) == []


def test_bipop_turns_between_large_and_small_populations():
    schedule = RestartSchedule("bipop", 6, 0.2, np.random.default_rng(0))
    schedule.spend(300)
    runs = []
    for _ in range(12):
        schedule.begin_next()
        runs.append((schedule.population, schedule.sigma))
        while schedule.spend(schedule.population) is None and schedule._run_spent < 400:
            pass
    large = [population for population, sigma in runs if sigma == 0.2]
    small = [(population, sigma) for population, sigma in runs if sigma < 0.2]
    assert large == [6 * 2**k for k in range(1, len(large) + 1)]
    assert len(small) > len(large)
    assert all(6 <= p <= max(large) / 2 + 6 and 0.002 <= s < 0.2 for p, s in small)


@pytest.mark.parametrize("covariance", ["full", "diagonal", "vd", "vkd"])
def test_every_covariance_beats_its_own_first_generation_tenfold(covariance):
    optimizer = make_optimizer(
        "cma_es", {"covariance": covariance}, SearchProblem(floats(12), 1, 0)
    )
    first = run(optimizer, sphere, 11)
    assert run(optimizer, sphere, 480) < first / 10


@pytest.mark.parametrize("noise", ["standard_errors", "lra"])
def test_a_noisy_sphere_is_descended(noise):
    optimizer = make_optimizer("cma_es", {"noise": noise}, SearchProblem(floats(3), 1, 0))
    rng = np.random.default_rng(1)

    def noisy(candidate):
        loss = sphere(candidate).losses[0] + 0.02 * rng.standard_normal()
        return Scored((loss,), (0.02,))

    run(optimizer, noisy, 600)
    assert np.mean([sphere(c).losses[0] for c in optimizer.ask(7)]) < 0.1


def outcomes(losses, error):
    return [Scored((loss,), (error,)) for loss in losses]


def test_an_order_is_uncertain_where_standard_errors_are_as_large_as_differences():
    losses = np.linspace(0, 1, 12)
    for error, high in ((0.001, False), (3.0, True)):
        noise = RankUncertainty(np.random.default_rng(0))
        assert [noise.is_high(outcomes(losses, error)) for _ in range(8)][-1] is high
    assert not RankUncertainty(np.random.default_rng(0)).is_high([Scored((0.0,))] * 9)


@pytest.mark.parametrize("noise", ["none", "lra"])
@pytest.mark.parametrize(
    "options", [{"ahead": 5}, {"ahead": 40}, {"asynchronous": True}], ids=str
)
def test_stale_samples_are_learned_from(options, noise):
    initial = [{f"g{k}": v for k in range(4)} for v in (0.1, 0.8, 0.5)]
    options = options | {"noise": noise}
    optimizer = make_optimizer("cma_es", options, SearchProblem(floats(4), 1, 0, initial))
    rng, is_open, seen = random.Random(3), [], []
    while len(seen) < 500:
        is_open += optimizer.ask(6 - len(is_open))
        done = is_open.pop(rng.randrange(len(is_open)))
        seen.append(FAILED if rng.random() < 0.1 else sphere(done))
        if done.id < 3:
            assert dict(done.genome) == initial[done.id]
        optimizer.tell({done.id: seen[-1]})
    scored = [o.losses[0] for o in seen if isinstance(o, Scored)]
    assert min(scored) < (2e-2 if noise == "none" else 1e-1)


def test_initial_genomes_are_proposed_once_when_more_is_asked_for_meanwhile():
    initial = [{f"g{k}": v for k in range(4)} for v in (0.1, 0.8)]
    optimizer = make_optimizer(
        "cma_es", {"asynchronous": True}, SearchProblem(floats(4), 1, 0, initial)
    )
    genomes = [dict(c.genome) for c in optimizer.ask(30)]
    assert genomes[:2] == initial
    assert not any(genome in initial for genome in genomes[2:])


def test_two_thousand_genes_take_well_under_a_second_a_generation():
    optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(2000), 1, 0))
    started = time.process_time()
    run(optimizer, sphere, 26 * 5)
    assert time.process_time() - started < 5


def test_lra_refuses_more_genes_than_it_can_do():
    with pytest.raises(ConfigError, match="lra takes at most 200 genes, found 201"):
        make_optimizer("cma_es", {"noise": "lra"}, SearchProblem(floats(201), 1, 0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": "lra", "covariance": "diagonal"}, "learns all correlations"),
        ({"covariance": "vkd", "ahead": 3}, "take 'covariance: vd'"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_say_what_to_do(options, said):
    (problem,) = check_options("cma_es", options, 5, 1)
    assert said in problem


@pytest.mark.parametrize("centre", [0.3, 1.0], ids=["inside", "at the corner"])
def test_it_is_not_worse_than_pycma_with_its_defaults_as_mergekit_evolve_runs_it(centre):
    def ours(seed):
        optimizer = make_optimizer("cma_es", {}, SearchProblem(floats(10), 1, seed))
        return run(optimizer, lambda c: sphere(c, centre), 120)

    def theirs(seed):
        losses = []

        def loss(x):
            losses.append(float(((np.clip(x, 0, 1) - centre) ** 2).sum()))
            return losses[-1]

        options = {"maxfevals": 120, "seed": seed + 1, "verbose": -9, "verb_log": 0}
        cma.fmin2(loss, [0.5] * 10, 1 / 6, options)
        return min(losses[:120])

    def middle(search):
        return statistics.median(search(seed) for seed in range(5))

    state = np.random.get_state()  # noqa: NPY002
    try:
        assert middle(ours) <= middle(theirs)
    finally:
        np.random.set_state(state)  # noqa: NPY002
