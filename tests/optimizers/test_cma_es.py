"""What is special to CMA-ES."""

from pathlib import Path

import numpy as np
import pytest

from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.registry import make_optimizer
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
    assert len(make_optimizer("cma_es", {}, floats(genes), 1, 0).ask(100)) == population


def test_samples_start_around_the_middle():
    genomes = [c.genome for c in make_optimizer("cma_es", {}, floats(50), 1, 0).ask(100)]
    values = np.array([list(g.values()) for g in genomes])
    assert abs(values.mean() - 0.5) < 0.03
    assert abs(values.std() - 0.15) < 0.03


def test_the_search_starts_from_the_best_of_the_initial_genomes():
    initial = [{f"g{k}": v for k in range(20)} for v in (0.1, 0.8, 0.5)]
    optimizer = make_optimizer("cma_es", {"sigma": 0.05}, floats(20), 1, 0, initial)
    generation = optimizer.ask(100)
    assert [dict(c.genome) for c in generation] == initial
    optimizer.tell({c.id: sphere(c, centre=0.75) for c in generation})
    values = np.array([list(c.genome.values()) for c in optimizer.ask(100)])
    assert abs(values.mean() - 0.8) < 0.03


def test_the_search_starts_from_the_middle_where_all_initial_genomes_failed():
    initial = [{f"g{k}": 0.1 for k in range(20)}]
    optimizer = make_optimizer("cma_es", {"sigma": 0.05}, floats(20), 1, 0, initial)
    optimizer.tell({c.id: FAILED for c in optimizer.ask(100)})
    values = np.array([list(c.genome.values()) for c in optimizer.ask(100)])
    assert abs(values.mean() - 0.5) < 0.03


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_a_start_at_a_corner_can_leave_it(corner):
    initial = [{f"g{k}": corner for k in range(5)}]
    optimizer = make_optimizer("cma_es", {}, floats(5), 1, 0, initial)
    assert run(optimizer, sphere, 300) < 1e-2


@pytest.mark.parametrize("genes", [1, 2, 5])
def test_few_genes_are_solved(genes):
    assert run(make_optimizer("cma_es", {}, floats(genes), 1, 0), sphere, 240) < 1e-3


def test_an_optimum_on_the_bounds_is_reached():
    optimizer = make_optimizer("cma_es", {}, floats(6), 1, 0)
    assert run(optimizer, lambda c: sphere(c, centre=0.0), 400) < 1e-3


def test_failed_candidates_rank_behind_all_scored_ones():
    """The half space that fails would score best if failures counted for anything but last."""
    optimizer = make_optimizer("cma_es", {}, floats(6), 1, 0)

    def half_fails(candidate):
        return FAILED if candidate.genome["g0"] < 0.5 else sphere(candidate, centre=0.6)

    assert run(optimizer, half_fails, 300) < 1e-3


def test_convergence_restarts_with_twice_the_population():
    optimizer = make_optimizer("cma_es", {}, floats(2), 1, 0)
    run(optimizer, sphere, 1500)
    assert "tolx" in optimizer.restarts[0]
    sizes = []
    for _ in range(3):
        batch = optimizer.ask(1000)
        sizes.append(len(batch))
        optimizer.tell({c.id: sphere(c) for c in batch})
    assert sizes[0] == 6 * 2 ** len(optimizer.restarts)


def test_flat_scores_restart_and_say_so():
    optimizer = make_optimizer("cma_es", {}, floats(10), 1, 0)
    run(optimizer, lambda c: Scored((0.5,)), 45)
    assert optimizer.restarts == ["tolflatfitness"]
    assert len(optimizer.ask(100)) == 20


def test_a_generation_that_failed_whole_moves_the_search_elsewhere():
    options = {"sigma": 0.02}
    optimizer = make_optimizer("cma_es", options, floats(30), 1, 0)
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
    optimizer = make_optimizer("cma_es", {}, floats(10), 1, 0)
    run(optimizer, sphere, 60)
    assert optimizer.restarts == []
