"""Comparisons of optimizers: paired, equal in budget, resumable, and refused where wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frozen_landscapes import SIZES, TASKS, write_landscape

from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.plugins import use_plugins
from evomerge.core.streams import derived_seed
from evomerge.experiment.bench import BenchObserver, bench
from evomerge.experiment.bench_contestants import read_contestants
from evomerge.experiment.bench_landscape import landscape_objectives
from evomerge.experiment.bench_options import BenchOptions
from evomerge.experiment.landscape import FrozenLandscape, GridSpace
from evomerge.fitness.estimate import MeanEstimator
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.report.bench_results import BenchRun
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts, Search
from evomerge.search.observer import Observer
from evomerge.search.scoring import Scoring
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Evaluation
from evomerge.workers.inline import InlineWorkers

PEERS = Path(__file__).parent.parent.parent / "benchmarks" / "peer_optimizers.py"


@pytest.fixture
def options(tmp_path):
    """A comparison of seconds."""
    return BenchOptions(
        problems=(str(write_landscape(tmp_path / "small.npz")),),
        optimizers=("random", "cma_es"),
        seeds=2,
        candidates=12,
        items=10,
        out=tmp_path / "out",
    )


def runs_of(options) -> list[BenchRun]:
    lines = (options.out / "runs.jsonl").read_text().splitlines()
    return [BenchRun.from_plain(json.loads(line)) for line in lines]


def without_times(run: BenchRun) -> BenchRun:
    return replace(run, seconds=0.0)


class Counting(BenchObserver):
    """Counts runs, and stops the comparison when so many have ended."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.ended: list[tuple[str, int]] = []
        self.planned = (0, 0)
        self._stop_after = stop_after

    def plan(self, out, total, done):
        self.planned = (total, done)

    def end_run(self, run):
        self.ended.append((run.contestant, run.seed))
        if len(self.ended) == self._stop_after:
            raise KeyboardInterrupt


def test_equal_seeds_give_equal_runs(options, tmp_path):
    options = replace(options, optimizers=("random:initial=false", "cma_es"))
    bench(options)
    again = replace(options, out=tmp_path / "again")
    bench(again)
    assert [*map(without_times, runs_of(options))] == [*map(without_times, runs_of(again))]
    first, second = (run for run in runs_of(options) if run.contestant != "cma_es")
    assert first.stops != second.stops


def test_contestants_with_one_seed_are_put_the_same_items(options):
    twins = replace(options, optimizers=("random", "random:initial=true"))
    compared = bench(twins)
    for row in compared.summary.problems[0].rows:
        if row.comparison is not None:
            assert row.comparison.p == 1.0
            assert row.comparison.judgement == "tied"
            assert (row.comparison.wins, row.comparison.losses) == (0, 0)


def test_a_stop_is_what_a_search_of_that_length_comes_to(options, tmp_path):
    bench(replace(options, budgets=(9,)))
    bench(replace(options, candidates=9, out=tmp_path / "short"))
    short = runs_of(replace(options, out=tmp_path / "short"))
    for long_run, short_run in zip(runs_of(options), short, strict=True):
        assert {s.candidates: s for s in long_run.stops}[9] == short_run.stops[-1]


@pytest.mark.parametrize("objectives", ["mean", "each"])
def test_the_last_stop_is_what_the_searchs_own_final_phase_chooses(
    options, tmp_path, objectives
):
    name = "cma_es" if objectives == "mean" else "nsga2"
    asked = replace(
        options, optimizers=(name,), items=None, objectives=objectives, seeds=1, candidates=30
    )
    bench(asked)
    landscape = FrozenLandscape.read(Path(options.problems[0]))
    aims = landscape_objectives(objectives, TASKS)
    space = GridSpace(landscape)
    with StudyStore.create(tmp_path, {}) as store:
        initial = [space.encode(baseline.recipe) for baseline in space.baselines()]
        seed = derived_seed(1, "optimizer", name)
        parts = Parts(
            space,
            make_optimizer(name, {}, SearchProblem(space.genes, len(aims), seed, initial)),
            Scoring(
                aims,
                MeanEstimator(dict.fromkeys(TASKS, SIZES["search"])),
                landscape.splits,
                dict.fromkeys(TASKS, "v"),
                "s",
            ),
            InlineWorkers(lambda _: Evaluation(landscape)),
            store,
            Observer(),
        )
        Search(parts, Budget(candidates=30)).run()
        tested = [store.trial(n) for n in store.meta("finalists")["test"]]
    test = landscape.splits["test"]
    expected = {landscape.values(t.recipe, test, aims) for t in tested if t.kind == "candidate"}
    assert set(runs_of(asked)[0].stops[-1].chosen) == expected


def test_without_noise_the_search_finds_the_best_there_is(options):
    quiet = replace(options, optimizers=("cma_es",), items=None, seeds=1, candidates=120)
    part = bench(quiet).summary.problems[0]
    assert part.rows[-1].median >= part.problem.best - 0.02
    assert part.rows[-1].median <= part.problem.best + 1e-12


def test_finished_runs_are_kept_and_only_missing_ones_are_run(options):
    stopped = Counting(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        bench(options, stopped)
    with (options.out / "runs.jsonl").open("a") as file:
        file.write('{"problem": "small", "conte')  # killed while writing
    on = Counting()
    bench(options, on)
    assert on.planned == (4, 3)
    assert on.ended == [("cma_es", 2)]
    grown = Counting()
    more = replace(options, optimizers=("random", "cma_es", "nsga2"), seeds=3)
    summary = bench(more, grown).summary
    assert grown.planned == (9, 4)
    assert summary.seeds == (1, 2, 3)
    nothing = Counting()
    bench(options, nothing)
    assert nothing.ended == []


def test_results_of_another_setting_are_not_mixed_in(options, tmp_path):
    bench(options)
    before = runs_of(options)
    for change in ({"items": 12}, {"candidates": 14}, {"objectives": "one"}):
        with pytest.raises(StoreError, match="results of another setting") as error:
            bench(replace(options, **change))
        assert "then" in str(error.value)
        assert "--out" in str(error.value)
    assert runs_of(options) == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds other things \(thesis.txt\)"):
        bench(replace(options, out=foreign))


def test_every_mistake_is_told_at_once_and_before_anything_runs(options):
    wrong = replace(
        options,
        problems=(*options.problems, "quikstart"),
        optimizers=("nsga", "cma_es", "nsga2:popsize=4", "random:initial=maybe"),
        objectives="each",
        seeds=0,
        budgets=(99,),
        against="nobody",
    )
    with pytest.raises(ConfigError) as error:
        bench(wrong)
    text = "\n".join(error.value.problems)
    for expected in (
        "initial is true or false",
        "--seeds 0",
        "did you mean 'quickstart'",
        "--budgets 99",
    ):
        assert expected in text
    assert not options.out.exists()
    named = replace(wrong, problems=options.problems, optimizers=wrong.optimizers[:3])
    with pytest.raises(ConfigError) as error:
        bench(replace(named, budgets=()))
    text = "\n".join(error.value.problems)
    for expected in (
        "--optimizers nsga: unknown optimizer 'nsga'; did you mean 'nsga",
        "--optimizers cma_es: cma_es takes one objective, found 2",
        "--optimizers nsga2:popsize=4",
        "--against: unknown one of --optimizers 'nobody'",
    ):
        assert expected in text
    assert not options.out.exists()


def test_what_only_experiments_or_only_landscapes_have_is_refused_elsewhere(options, tmp_path):
    with pytest.raises(ConfigError, match="only keys of experiment files"):
        bench(replace(options, overrides=("seed=3",)))
    with pytest.raises(ConfigError, match="has 40 search items of a task"):
        bench(replace(options, items=41))
    with pytest.raises(ConfigError, match="no frozen landscape"):
        bench(replace(options, problems=(str(Path(__file__)),)))
    with pytest.raises(ConfigError, match="unknown task 'tree'"):
        bench(replace(options, objectives="one,tree"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [("a", "b", "c")]),
        ("mean", [("a", "b", "c")]),
        ("each", [("a",), ("b",), ("c",)]),
        ("first", [("a",), ("b", "c")]),
        ("c,a+b", [("c",), ("a", "b")]),
    ],
)
def test_objectives_are_named_by_a_word_or_a_list(given, expected):
    found = landscape_objectives(given, ("a", "b", "c"))
    assert [tuple(o.tasks) for o in found] == expected
    assert all(sum(o.tasks.values()) == pytest.approx(1) for o in found)


def test_options_follow_a_contestants_name():
    plain, changed = read_contestants(["cma_es", "nsga2:population=12:initial=false"])
    assert (plain.name, plain.options, plain.initial) == ("cma_es", {}, True)
    assert (changed.name, changed.options, changed.initial) == (
        "nsga2",
        {"population": 12},
        False,
    )
    with pytest.raises(ConfigError, match="named twice"):
        read_contestants(["random", "random"])
    with pytest.raises(ConfigError, match="OPTION=VALUE"):
        read_contestants(["nsga2:population"])


def test_hypervolume_is_measured_from_beyond_the_worst_source(options):
    asked = replace(options, optimizers=("nsga2",), objectives="each", seeds=1)
    part = bench(asked).summary.problems[0]
    (run,) = runs_of(asked)
    worst = -np.min(run.sources, axis=0)
    assert (np.array(run.reference) > worst).all()
    assert 0 < part.rows[-1].median <= part.problem.best * 1.02
    assert part.attainment[0].surfaces.keys() == {"best", "median", "worst"}


# ---- the optimizers of other tools


def asked_of(name, genes, loss, count, objectives=1):
    """The points that an optimizer proposes, told their losses."""
    optimizer = make_optimizer(name, {}, SearchProblem(genes, objectives, 3))
    points = []
    while len(points) < count and not optimizer.finished:
        for candidate in optimizer.ask(1):
            points.append(np.array(list(candidate.genome.values())))
            optimizer.tell({candidate.id: loss(points[-1])})
    return points, optimizer


@pytest.fixture
def peers():
    pytest.importorskip("pymoo")
    use_plugins([str(PEERS)])


def test_mergekit_evolve_begins_at_equal_weights_with_a_sixth_as_first_step(peers):
    from evomerge.core.outcomes import Scored
    from evomerge.spaces.genes import FloatGene

    genes = [FloatGene(f"{name}.weight", 0.0, 2.0) for name in "abcd"]
    points, _ = asked_of("mergekit_evolve", genes, lambda x: Scored((float(x.sum()),)), 8)
    first = np.array(points)  # one generation of 4 + 3 ln 4
    assert np.abs(first.mean(axis=0) - 0.25).max() < 0.25
    assert 0.08 < first.std() < 0.3
    assert (first >= 0).all()


def test_mergekit_evolve_ends_when_pycma_has_converged(peers):
    from evomerge.core.outcomes import Scored
    from evomerge.spaces.genes import FloatGene

    genes = [FloatGene(f"{name}.weight", 0.0, 1.0) for name in "ab"]
    target = np.array([0.3, 0.6])
    points, optimizer = asked_of(
        "mergekit_evolve", genes, lambda x: Scored((float(((x - target) ** 2).sum()),)), 2000
    )
    assert len(points) < 2000
    assert "converged" in (optimizer.finished or "")
    assert np.abs(points[-1] - target).max() < 1e-3


@pytest.mark.parametrize(("name", "objectives"), [("ga", 1), ("nsga2", 2)])
def test_mergenetic_proposes_what_pymoos_own_loop_does(peers, name, objectives):
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    from evomerge.core.outcomes import Scored
    from evomerge.spaces.genes import FloatGene

    centres = np.array([[0.2, 0.7, 0.5], [0.8, 0.1, 0.5]])[:objectives]

    def losses(x):
        return ((x[:, None, :] - centres) ** 2).sum(axis=2)

    seen = []

    class Plain(Problem):
        def __init__(self):
            super().__init__(n_var=3, n_obj=objectives, xl=0.0, xu=1.0)

        def _evaluate(self, x, out, *_args, **_kwargs):
            seen.extend(x.copy())
            out["F"] = losses(x)

    minimize(
        Plain(),
        {"ga": GA, "nsga2": NSGA2}[name](pop_size=10, eliminate_duplicates=True),
        ("n_gen", 6),
        seed=derived_seed(3, "peer", "pymoo"),
    )
    genes = [FloatGene(f"{k}.weight", 0.0, 1.0) for k in range(3)]
    points, _ = asked_of(
        f"mergenetic_{name}_10",
        genes,
        lambda x: Scored(tuple(losses(x[None])[0].tolist())),
        60,
        objectives,
    )
    # Genomes are rounded to six digits, which may turn later comparisons of near-equal losses.
    assert np.allclose(points[:20], seen[:20], atol=1e-6)
    assert np.allclose(points, seen[:60], atol=1e-3)
