"""Comparisons on an experiment: every run really merges and evaluates, and no answer twice."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import ConfigError, EvomergeError, TrialError
from evomerge.core.objectives import losses
from evomerge.core.pareto import reference_point
from evomerge.experiment.bench_contestants import Contestant
from evomerge.experiment.bench_options import DEFAULT_CANDIDATES, BenchOptions
from evomerge.experiment.bench_problem import Problem, RunOne, Stops
from evomerge.experiment.build import make_scoring, search_problem, study_meta, versions
from evomerge.experiment.crew import make_workers
from evomerge.experiment.load import Experiment, load_experiment
from evomerge.experiment.objectives import objective
from evomerge.experiment.places import relative_places
from evomerge.experiment.prepare import Prepared, prepare, prepare_file
from evomerge.experiment.session import COPY, RESOLVED
from evomerge.experiment.shared_answers import SharedAnswers
from evomerge.experiment.spec import ExperimentSpec, OptimizerSpec
from evomerge.optimizers.registry import OPTIMIZERS
from evomerge.recipes.yaml_text import dump_yaml
from evomerge.report.bench_results import BenchProblem, BenchRun, Point, Stop
from evomerge.report.write import write_report
from evomerge.search.asking import Asking, only
from evomerge.search.budget import Budget
from evomerge.search.final_scoring import FinalScoring
from evomerge.search.loop import Parts, Search
from evomerge.search.measuring import Measuring
from evomerge.search.observer import Observer, Phase
from evomerge.spaces.first_genomes import first_genomes
from evomerge.store.run_lock import RunLock
from evomerge.store.study_store import FILE_NAME, StudyStore
from evomerge.store.trials import Trial
from evomerge.workers.contract import Workers

ANSWERS, STUDIES = "answers", "studies"

_NOT_COMPARED = {"name", "seed", "optimizer", "budget", "workers", "loggers"}
"""Keys of the experiment file that do not decide what two contestants are compared in."""


def open_experiment(path: Path, options: BenchOptions) -> "ExperimentProblem":
    """An experiment file as a problem.

    Raises:
        ConfigError: Every problem found in it.
        CheckpointError: The same, where all problems are of source models.
    """
    experiment = load_experiment(path, options.overrides)
    candidates = options.candidates or experiment.spec.budget.candidates or DEFAULT_CANDIDATES
    return ExperimentProblem(experiment, options, Stops.of(candidates, options.budgets))


@dataclass(frozen=True)
class _Bench:
    """What all runs with one seed share."""

    prepared: Prepared
    experiment: Experiment
    seed: int
    workers: Workers
    folder: Path


class ExperimentProblem(Problem):
    """Searches of an experiment, each in a run directory of its own.

    Seeds stand for the experiment's seed, so that they decide its items too; contestants with
    the same seed put the same ones. An unfinished run is taken up where it stands.

    Args:
        experiment: The file.
        options: Overrides and where results go.
        stops: When runs are judged; the last ends them.
    """

    def __init__(self, experiment: Experiment, options: BenchOptions, stops: Stops) -> None:
        self._experiment = experiment
        self._options = options
        self._stops = stops
        self._name = experiment.spec.name

    @cached_property
    @override
    def facts(self) -> BenchProblem:
        spec = self._experiment.spec
        return BenchProblem(
            name=self._name,
            objectives=tuple(objective(each) for each in spec.objectives),
            budgets=self._stops.budgets,
            facts=(
                f"The experiment {self._name}: merges of {', '.join(spec.models.experts)}, "
                "evaluated as its file says; sources and baselines are scored besides.",
                "What the final phase chooses is judged on the test items; they, like the "
                "search items, go by the seed.",
            ),
        )

    @property
    @override
    def identity(self) -> Mapping[str, Any]:
        prepared = self._first
        spec = prepared.spec.model_dump(mode="json", exclude=_NOT_COMPARED)
        return {
            "experiment": {key: spec[key] for key in sorted(spec)},
            "models": {name: s.fingerprint for name, s in prepared.sources.items()},
            "tasks": list(prepared.tasks),
            "budgets": list(self._stops.budgets),
        }

    @override
    def check(self, contestants: Sequence[Contestant]) -> list[str]:
        try:
            genes, objectives = self._first.space.genes, self._first.objectives
        except ConfigError as error:
            return error.problems
        problems = []
        for contestant in contestants:
            found = contestant.problems(len(genes), len(objectives))
            entry = OPTIMIZERS.get(contestant.name)
            if not found and entry is not None and entry.learns_from_items:
                found = self._uneven(contestant)
            problems += found
        return problems

    @override
    @contextmanager
    def seeded(self, seed: int) -> Iterator[RunOne]:
        experiment, prepared = self._prepared(seed)
        folder = self._folder
        with make_workers(prepared, offline=self._options.offline) as workers:
            tasks = {name: task.bank.version for name, task in prepared.tasks.items()}
            with _opened(folder / ANSWERS, {"name": self._name}) as answers:
                shared = SharedAnswers(workers, answers, tasks)
                parts = _Bench(prepared, experiment, seed, shared, folder)
                yield lambda contestant, observer: self._run(parts, contestant, observer)

    @property
    def _folder(self) -> Path:
        out = self._options.out
        if out is None:
            raise ConfigError("--out: an experiment's runs need a folder.")
        return out / STUDIES / self._name

    @cached_property
    def _first(self) -> Prepared:
        return self._prepared(1)[1]

    def _prepared(self, seed: int) -> tuple[Experiment, Prepared]:
        changes = (
            *self._options.overrides,
            "optimizer={name: random}",  # takes any genes and objectives
            f"seed={seed}",
            f"budget={{candidates: {self._stops.budgets[-1]}}}",
        )
        return prepare_file(self._experiment.path, changes, offline=self._options.offline)

    def _uneven(self, contestant: Contestant) -> list[str]:
        """Why a contestant that learns from items cannot search with this fitness."""
        try:
            prepare(
                replace(self._experiment, spec=_with(self._experiment.spec, contestant)),
                offline=self._options.offline,
            )
        except ConfigError as error:
            return [f"--optimizers {contestant.label}: {p}" for p in error.problems]
        return []

    def _run(self, bench: _Bench, contestant: Contestant, observer: Observer) -> BenchRun:
        begun = time.perf_counter()
        run_dir = bench.folder / contestant.folder / f"seed-{bench.seed:03d}"
        prepared = replace(bench.prepared, spec=_with(bench.prepared.spec, contestant))
        run_dir.mkdir(parents=True, exist_ok=True)
        with RunLock(run_dir), _study(run_dir, bench, prepared, contestant) as store:
            reason = _searched(store, bench, prepared, contestant, observer)
            judged = _Judged(store, bench, prepared, observer)
            stops = tuple(judged.stop(count) for count in self._stops.budgets)
            sources = judged.sources()
            write_report(store, run_dir)
            trials = store.trials()
        points = np.array([losses(prepared.objectives, point) for point in sources])
        return BenchRun(
            problem=self._name,
            contestant=contestant.label,
            seed=bench.seed,
            stops=stops,
            candidates=sum(trial.kind == "candidate" for trial in trials),
            ended=reason,
            seconds=time.perf_counter() - begun,
            item_evaluations=sum(trial.item_evaluations for trial in trials),
            reference=tuple(reference_point(points).tolist()),
            sources=sources,
        )


class _Judged:
    """What the final phase makes of the first candidates of a finished study.

    Args:
        store: The study; its note of finalists is that of the last stop.
        bench: What its runs share.
        prepared: The run's.
        observer: Told of workers.
    """

    def __init__(
        self, store: StudyStore, bench: _Bench, prepared: Prepared, observer: Observer
    ) -> None:
        self._store = store
        self._genes = prepared.space.smooth_genes
        self._scoring = make_scoring(prepared, bench.workers.settings)
        self._asking = Asking(bench.workers, store, self._scoring, observer.workers)
        self._trials = {trial.number: trial for trial in store.trials()}
        self._measuring = Measuring(
            self._scoring,
            self._scoring.whole,
            lambda: {t.name: self._asking.known(t) for t in self._of_kind("source")},
        )

    def stop(self, count: int) -> Stop:
        """The choice after so many candidates, on test items."""
        plain = [t for t in self._trials.values() if t.kind != "candidate"]
        first = self._of_kind("candidate")[:count]
        FinalScoring(
            self._asking, self._scoring, self._measuring, self._genes, _ignore_phase, _ignore
        ).run({trial.number: trial for trial in [*plain, *first]})
        return Stop(count, self._tested("candidate"))

    def sources(self) -> tuple[Point, ...]:
        """Test values of the source models.

        Raises:
            TrialError: None could be scored on the test items.
        """
        found = self._tested("source")
        if not found:
            raise TrialError(
                f"{self._store.path}: no source model has answered the test items."
            )
        return found

    def _tested(self, kind: str) -> tuple[Point, ...]:
        """Values of the trials of a kind that were put to the test at the last stop.

        Of candidates only what kept the constraints on validation items: the rest is no result.
        """
        numbers = self._store.meta("finalists")["test"]
        trials = [self._trials[n] for n in numbers if self._trials[n].kind == kind]
        if kind == "candidate":
            trials = [t for t in trials if self._measured(t, "validation").violation == 0]
        return tuple(self._measured(trial, "test").values for trial in trials)

    def _measured(self, trial: Trial, split: str) -> Trial:
        answered = only(self._asking.known(trial), self._scoring.items[split])
        return self._measuring.measured(trial, answered)

    def _of_kind(self, kind: str) -> list[Trial]:
        return [trial for _, trial in sorted(self._trials.items()) if trial.kind == kind]


def _searched(
    store: StudyStore,
    bench: _Bench,
    prepared: Prepared,
    contestant: Contestant,
    observer: Observer,
) -> str:
    """Search to the end of the budget, from wherever the study stands; gives the reason."""
    store.sessions.start(versions())
    parts = Parts(
        space=prepared.space,
        optimizer=contestant.optimizer(
            search_problem(prepared, bench.seed, store.meta("initial"))
        ),
        scoring=make_scoring(prepared, bench.workers.settings),
        workers=bench.workers,
        store=store,
        observer=observer,
    )
    try:
        reason = Search(parts, Budget(**store.meta("budget"))).run()
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with suppress(EvomergeError, OSError):  # what went wrong first is what to report
            store.set_meta("state", "interrupted")
            store.sessions.end("interrupted" if stopped else f"error: {error}")
        raise
    store.sessions.end(reason)
    return reason


@contextmanager
def _study(
    run_dir: Path, bench: _Bench, prepared: Prepared, contestant: Contestant
) -> Iterator[StudyStore]:
    """The run's study, begun or as it stands."""
    if not (run_dir / FILE_NAME).exists():
        initial = first_genomes(prepared.space) if contestant.initial else []
        meta = study_meta(prepared, bench.workers.settings, initial)
        meta["relative_places"] = relative_places(prepared.spec, run_dir)
        asked = bench.experiment.path.read_text(encoding="utf-8")
        note = (
            f"# a run of 'evomerge bench optimizers': {contestant.label}, seed {bench.seed}\n"
        )
        write_text(run_dir / COPY, note + asked)
        write_text(run_dir / RESOLVED, dump_yaml(prepared.spec.model_dump(mode="json")))
        with StudyStore.create(run_dir, meta) as store:
            yield store
    else:
        with StudyStore.open(run_dir) as store:
            yield store


@contextmanager
def _opened(folder: Path, meta: Mapping[str, Any]) -> Iterator[StudyStore]:
    folder.mkdir(parents=True, exist_ok=True)
    exists = (folder / FILE_NAME).exists()
    with StudyStore.open(folder) if exists else StudyStore.create(folder, meta) as store:
        yield store


def _with(spec: ExperimentSpec, contestant: Contestant) -> ExperimentSpec:
    """An experiment with the contestant as its optimizer."""
    named = OptimizerSpec(name=contestant.name, **contestant.options)
    return spec.model_copy(update={"optimizer": named})


def _ignore_phase(_phase: Phase, _total: int) -> None:
    """Nobody follows the final phase of a stop."""


def _ignore(_trial: Trial) -> None:
    """Nobody follows the final phase of a stop."""
