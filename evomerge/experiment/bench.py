"""Comparisons of optimizers at equal budgets: every contestant, every problem, every seed."""

import importlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.near_names import unknown
from evomerge.core.plugins import import_plugins
from evomerge.experiment.bench_contestants import Contestant, read_contestants
from evomerge.experiment.bench_files import BenchFiles
from evomerge.experiment.bench_landscape import LandscapeProblem, landscape_objectives
from evomerge.experiment.bench_options import DEFAULT_CANDIDATES, BenchOptions
from evomerge.experiment.bench_problem import Problem, Stops
from evomerge.experiment.landscape import FrozenLandscape
from evomerge.experiment.presets import landscapes
from evomerge.report.bench_results import BenchRun
from evomerge.report.bench_summary import BenchSummary, summarize_bench
from evomerge.search.observer import Observer
from evomerge.store.run_lock import RunLock

_EXPERIMENT_SUFFIXES = frozenset({".yaml", ".yml"})
_RECORDED = ("evomerge", "numpy", "scipy", "scikit-learn", "moocore", "pymoo", "cma", "cmaes",
             "nevergrad")  # fmt: skip


class BenchObserver(Observer):
    """Hears of a comparison's progress; this one ignores it."""

    def plan(self, out: Path, total: int, done: int) -> None:
        """So many runs are wanted, so many are known from before."""

    def begin_run(self, problem: str, contestant: str, seed: int) -> None:
        """A search begins."""

    def end_run(self, run: BenchRun) -> None:
        """It has ended and is kept."""


@dataclass(frozen=True)
class Compared:
    """A finished comparison."""

    folder: Path
    summary: BenchSummary


@dataclass(frozen=True)
class _Plan:
    contestants: tuple[Contestant, ...]
    problems: Mapping[str, Problem]
    against: str
    seeds: range
    folder: Path
    settings: tuple[tuple[str, str], ...]


def bench(options: BenchOptions, observer: BenchObserver | None = None) -> Compared:
    """Compare optimizers; what an earlier call has found in the same folder is not run again.

    Raises:
        ConfigError: Every problem with what is asked, before anything is run.
        StoreError: The folder holds something else.
        EvomergeError: An experiment cannot be evaluated.
        KeyboardInterrupt: Stopped; finished runs are kept, and the same call goes on.
    """
    watcher = observer or BenchObserver()
    names = [Path(given).stem for given in options.problems]
    folder = options.out or Path("runs") / "-".join(["bench", *names])
    plan = _checked(replace(options, out=folder), folder)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{plan.folder}: cannot be made: {error.strerror}; choose another with --out."
        ) from error
    with RunLock(plan.folder):
        files = BenchFiles(plan.folder)
        files.begin({name: problem.identity for name, problem in plan.problems.items()})
        _run_missing(plan, files, watcher)
        runs = [run for run in files.runs() if _wanted(plan, run)]
        summary = summarize_bench(
            [problem.facts for problem in plan.problems.values()],
            [contestant.label for contestant in plan.contestants],
            plan.against,
            runs,
        )
        files.write(summary, runs, plan.settings, options.command)
    return Compared(plan.folder, summary)


def _run_missing(plan: _Plan, files: BenchFiles, observer: BenchObserver) -> None:
    done = {(run.problem, run.contestant, run.seed) for run in files.runs()}
    labels = [contestant.label for contestant in plan.contestants]
    wanted = [(p, c, s) for p in plan.problems for s in plan.seeds for c in labels]
    observer.plan(plan.folder, len(wanted), sum(key in done for key in wanted))
    versions = _versions()
    for name, problem in plan.problems.items():
        for seed in plan.seeds:
            waiting = [c for c in plan.contestants if (name, c.label, seed) not in done]
            if not waiting:
                continue
            with problem.seeded(seed) as run_one:
                for contestant in waiting:
                    observer.begin_run(name, contestant.label, seed)
                    run = replace(run_one(contestant, observer), versions=versions)
                    files.add(run)
                    observer.end_run(run)


def _wanted(plan: _Plan, run: BenchRun) -> bool:
    labels = {contestant.label for contestant in plan.contestants}
    return run.problem in plan.problems and run.contestant in labels and run.seed in plan.seeds


# ---- what is asked


def _checked(options: BenchOptions, folder: Path) -> _Plan:
    """What is to be done.

    Raises:
        ConfigError: Every problem with what is asked.
    """
    import_plugins()
    problems: list[str] = []
    contestants: tuple[Contestant, ...] = ()
    try:
        contestants = read_contestants(options.optimizers)
    except ConfigError as error:
        problems += error.problems
    if options.seeds < 1:
        problems.append(f"--seeds {options.seeds}: at least 1; 10 tell more.")
    if options.candidates is not None and options.candidates < 1:
        problems.append(f"--candidates {options.candidates}: at least 1.")
    labels = [contestant.label for contestant in contestants]
    against = options.against or (labels[0] if labels else "")
    if labels and against not in labels:
        problems.append(f"--against: {unknown('one of --optimizers', against, labels)}")
    found = _found_problems(options, contestants, problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    seeds = range(1, options.seeds + 1)
    return _Plan(contestants, found, against, seeds, folder, _settings(options, found, seeds))


def _found_problems(
    options: BenchOptions, contestants: Sequence[Contestant], problems: list[str]
) -> dict[str, Problem]:
    """The problems by name; notes what is wrong with them, and who cannot search them."""
    found: dict[str, Problem] = {}
    kinds = {Path(given).suffix in _EXPERIMENT_SUFFIXES for given in options.problems}
    if not options.problems:
        problems.append("EXPERIMENT: none named; give an experiment file or a landscape.")
    if options.objectives is not None and False not in kinds:
        problems.append("--objectives: an experiment file names its own; use -o objectives=….")
    if options.overrides and True not in kinds:
        problems.append("-o: only keys of experiment files can be overridden.")
    for given in options.problems:
        try:
            problem = _problem(options, given)
        except ConfigError as error:
            problems += error.problems
            continue
        name = problem.facts.name
        if name in found:
            problems.append(
                f"{given}: a second problem called {name!r}; compare one at a time."
            )
        found[name] = problem
        problems += problem.check(contestants)
    if not found:  # names and options can be wrong whatever is searched
        problems += [problem for each in contestants for problem in each.problems(1, 1)]
    return found


def _problem(options: BenchOptions, given: str) -> Problem:
    if Path(given).suffix in _EXPERIMENT_SUFFIXES:
        # Loaded by name: a comparison on landscapes loads no model framework.
        module = importlib.import_module("evomerge.experiment.bench_experiment")
        made: Problem = module.open_experiment(Path(given), options)
        return made
    path = _landscape_path(given)
    landscape = FrozenLandscape.read(path)
    stops = Stops.of(options.candidates or DEFAULT_CANDIDATES, options.budgets)
    objectives = landscape_objectives(options.objectives, landscape.tasks)
    return LandscapeProblem(path.stem, landscape, objectives, options.items, stops)


def _landscape_path(given: str) -> Path:
    path = Path(given).expanduser()
    presets = landscapes()
    if path.is_file() or given.endswith(".npz"):
        return path
    if given not in presets:
        raise ConfigError(
            f"{unknown('landscape', given, presets)}; no such file either. An experiment is a "
            ".yaml file."
        )
    return presets[given]


def _settings(
    options: BenchOptions, problems: Mapping[str, Problem], seeds: range
) -> tuple[tuple[str, str], ...]:
    budgets = {
        name: ", ".join(map(str, problem.facts.budgets)) for name, problem in problems.items()
    }
    return (
        ("seeds", f"{seeds[0]} to {seeds[-1]}"),
        *((f"candidates, {name}", text) for name, text in budgets.items()),
        *(
            (f"objectives, {name}", "; ".join(o.name for o in problem.facts.objectives))
            for name, problem in problems.items()
        ),
        ("optimizers", ", ".join(options.optimizers)),
        *((("overrides", " ".join(options.overrides)),) if options.overrides else ()),
    )


def _versions() -> dict[str, str]:
    """Versions of what can change a run on a landscape."""
    found = {"python": platform.python_version()}
    for package in _RECORDED:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
