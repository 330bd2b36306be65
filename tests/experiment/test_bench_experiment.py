"""Comparisons that really merge and evaluate: nothing twice, and taken up where they stood."""

import sqlite3

import pytest
from quickstart import ZOO, write_experiment

from evomerge.core.errors import ConfigError, StoreError
from evomerge.experiment.bench import BenchObserver, bench
from evomerge.experiment.bench_options import BenchOptions
from evomerge.experiment.study import Study

pytestmark = pytest.mark.skipif(
    not (ZOO / "base").is_dir(), reason="needs the embedded models of experiments/quickstart"
)


class Stopping(BenchObserver):
    """Stops the second run in its middle."""

    def __init__(self) -> None:
        self._left = 10**6

    def begin_run(self, problem, contestant, seed):
        self._left = 6 if contestant.startswith("random:") else 10**6

    def check(self):
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def rows(path, sql):
    with sqlite3.connect(path) as db:
        return db.execute(sql).fetchall()


def test_an_experiments_runs_share_answers_and_are_taken_up_where_they_stood(tmp_path):
    path = write_experiment(
        tmp_path,
        fitness={"items": {"search": 4, "validation": 4, "test": 4}, "finalists": 2},
        budget={"candidates": 4},
    )
    options = BenchOptions(
        problems=(str(path),),
        optimizers=("random", "random:initial=true"),  # one and the same search, twice
        seeds=1,
        out=tmp_path / "out",
    )
    with pytest.raises(KeyboardInterrupt):
        bench(options, Stopping())
    summary = bench(options).summary
    first, second = summary.problems[0].at(4)
    assert first.scores == second.scores
    assert summary.problems[0].problem.budgets == (1, 2, 4)

    studies = tmp_path / "out" / "studies" / "small"
    run_dirs = sorted(studies.glob("random*/seed-001"))
    assert len(run_dirs) == 2
    for run_dir in run_dirs:
        trials = Study(run_dir).trials()
        assert (trials["kind"] == "candidate").sum() == 4
        assert (run_dir / "report.html").is_file()
    put = "SELECT sum(json_array_length(items)) FROM responses"
    computed = rows(studies / "answers" / "study.db", put)
    assert computed == rows(run_dirs[0] / "study.db", put)

    with pytest.raises(StoreError, match="results of another setting"):
        bench(BenchOptions(**{**vars(options), "overrides": ("fitness.items.search=5",)}))
    with pytest.raises(ConfigError) as error:
        bench(BenchOptions(**{**vars(options), "optimizers": ("cma_es", "nsga2:ahead=x")}))
    assert "--optimizers cma_es: cma_es takes one objective" in str(error.value)
    assert "--optimizers nsga2:ahead=x" in str(error.value)
    with pytest.raises(ConfigError, match="an experiment file names its own"):
        bench(BenchOptions(**{**vars(options), "objectives": "each"}))
