"""Run and resume: one session of a study, from the experiment file to the report."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import ConfigError, EvomergeError, StoreError
from evomerge.core.outcomes import Genome
from evomerge.experiment.build import (
    calibration_digest,
    gene_facts,
    make_scoring,
    make_study_optimizer,
    statistics_of,
    study_meta,
    versions,
)
from evomerge.experiment.crew import make_workers
from evomerge.experiment.load import Experiment, with_other_workers
from evomerge.experiment.loggers import with_loggers
from evomerge.experiment.places import moved, relative_places, with_places
from evomerge.experiment.plan import plan
from evomerge.experiment.prepare import Prepared, prepare, prepare_file
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.study import Study
from evomerge.experiment.yaml_lines import YamlFile
from evomerge.recipes.yaml_text import dump_yaml
from evomerge.report.write import write_report
from evomerge.search.budget import Budget, Spent, exhausted
from evomerge.search.loop import Parts, Search
from evomerge.search.observer import Announcement, Observer
from evomerge.search.standings import Standings
from evomerge.spaces.first_genomes import first_genomes
from evomerge.store.run_lock import FILE_NAME as LOCK_NAME
from evomerge.store.run_lock import RunLock
from evomerge.store.study_store import FILE_NAME, StudyStore
from evomerge.workers.contract import Workers

COPY, RESOLVED = "experiment.yaml", "resolved.yaml"


@dataclass(frozen=True)
class RunOptions:
    """What a run may be told besides its experiment file."""

    out: Path | None = None
    """The run directory; None takes the first free ``runs/NAME``."""

    overrides: tuple[str, ...] = ()
    """``key.path=value`` assignments that win over the file."""

    offline: bool = False
    """Ask no hub for anything."""

    warm_start: Path | None = None
    """A run directory whose front is proposed first."""

    observer: Observer = field(default_factory=Observer)


def start(path: Path, options: RunOptions) -> Study:
    """Run an experiment from its beginning.

    Raises:
        EvomergeError: See the tree in ``evomerge.core.errors``.
        KeyboardInterrupt: Stopped; the study is whole and can be resumed.
    """
    if options.out is not None:
        refuse_used(options.out)
    experiment, prepared = prepare_file(path, options.overrides, offline=options.offline)
    run_dir = options.out or free_run_dir(experiment.spec.name)
    return begin(prepared, as_asked(experiment.path, experiment.overrides), run_dir, options)


def begin(prepared: Prepared, asked: str, run_dir: Path, options: RunOptions) -> Study:
    """Run a prepared experiment in a new run directory.

    Args:
        prepared: What to do.
        asked: Text of the directory's ``experiment.yaml``.
        run_dir: New or empty.
        options: The rest; ``out`` and ``overrides`` are not looked at.

    Raises:
        EvomergeError, KeyboardInterrupt: As ``start``.
    """
    initial = first_genomes(prepared.space) + _front_genomes(options.warm_start, prepared)
    make_study_optimizer(prepared, initial)  # what it refuses, it refuses before any work
    with make_workers(prepared, offline=options.offline) as workers:
        settings = workers.settings
        make_run_dir(run_dir)
        with RunLock(run_dir):
            meta = study_meta(prepared, settings, initial)
            meta["relative_places"] = relative_places(prepared.spec, run_dir)
            write_text(run_dir / COPY, asked)
            write_text(run_dir / RESOLVED, dump_yaml(prepared.spec.model_dump(mode="json")))
            with (
                _created(run_dir, meta) as store,
                with_loggers(
                    options.observer, prepared.spec, run_dir, store, offline=options.offline
                ) as observer,
            ):
                _session(store, prepared, workers, observer)
    return Study(run_dir)


def _created(run_dir: Path, meta: Mapping[str, Any]) -> StudyStore:
    """A new study; where that fails, nothing that would be in the way of another try stays."""
    try:
        return StudyStore.create(run_dir, meta)
    except BaseException:
        for name in (COPY, RESOLVED):
            with suppress(OSError):
                (run_dir / name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class ResumeOptions:
    """What a resumed run may be told."""

    add: int = 0
    """Further candidates, beyond the budget so far."""

    models: Mapping[str, str] = field(default_factory=dict)
    """New places of source models by name, where they have moved."""

    overrides: tuple[str, ...] = ()
    """``workers.KEY=value`` assignments: other workers than the run was begun with."""

    offline: bool = False
    observer: Observer = field(default_factory=Observer)


def resume(run_dir: Path, options: ResumeOptions) -> Study:
    """Continue a study from wherever it stands.

    Raises:
        StoreError: In use, no study, or models, tasks or versions are no longer the same.
        EvomergeError: See the tree in ``evomerge.core.errors``.
        KeyboardInterrupt: Stopped; the study is whole and can be resumed.
    """
    with StudyStore.open(run_dir, read_only=True):
        pass  # a clear message before a lock file appears in a folder that is not a run
    with RunLock(run_dir), StudyStore.open(run_dir) as store:
        spec = _recorded_spec(run_dir, store, options.models)
        spec = with_other_workers(spec, run_dir / RESOLVED, options.overrides)
        file = YamlFile(str(run_dir / RESOLVED), {})
        prepared = prepare(
            Experiment(spec, run_dir / RESOLVED, {"": file}), offline=options.offline
        )
        _check_unchanged(run_dir, store, prepared)
        with make_workers(prepared, offline=options.offline) as workers:
            _check_settings(run_dir, store, workers.settings)
            if options.models or options.overrides:
                store.set_meta("experiment", prepared.spec.model_dump(mode="json"))
                store.set_meta("relative_places", relative_places(prepared.spec, run_dir))
            if options.add:
                _extend(store, options.add)
            with with_loggers(
                options.observer, prepared.spec, run_dir, store, offline=options.offline
            ) as observer:
                _session(store, prepared, workers, observer)
    return Study(run_dir)


def _session(
    store: StudyStore, prepared: Prepared, workers: Workers, observer: Observer
) -> None:
    run_dir = store.path.parent
    store.sessions.start(versions())
    try:
        budget = Budget(**store.meta("budget"))
        observer.announce(
            Announcement(
                run_dir, prepared.objectives, plan(prepared, budget, workers.plan, run_dir)
            )
        )
        parts = Parts(
            space=prepared.space,
            optimizer=make_study_optimizer(prepared, store.meta("initial")),
            scoring=make_scoring(prepared, workers.settings),
            workers=workers,
            store=store,
            observer=observer,
        )
        reason = Search(parts, budget).run()
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"error: {error}"
        with suppress(EvomergeError, OSError):  # what went wrong first is what to report
            _stopped(store, reason, run_dir)
        raise
    store.sessions.end(reason)
    write_report(store, run_dir)


def _stopped(store: StudyStore, reason: str, run_dir: Path) -> None:
    store.set_meta("state", "interrupted")
    store.sessions.end(reason)
    write_report(store, run_dir)


# ---- a new run directory


def refuse_used(out: Path) -> None:
    """Make sure that a folder can become a run directory.

    Raises:
        StoreError: It holds a study, or anything else.
    """
    if (out / FILE_NAME).exists():
        raise StoreError(
            f"{out} holds a study already; continue it with 'evomerge resume {out}', "
            "or choose another folder with --out."
        )
    if out.is_dir() and {f.name for f in out.iterdir()} - {LOCK_NAME}:
        raise StoreError(f"{out} is not empty; choose a new or empty folder with --out.")


def free_run_dir(name: str) -> Path:
    """The first of ``runs/NAME``, ``runs/NAME-2`` … that does not exist."""
    numbered = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in range(1, 10_000))
    return next(path for path in numbered if not path.exists())


def make_run_dir(run_dir: Path) -> None:
    """Make a run directory.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{run_dir}: cannot be made: {error.strerror}; choose another with --out."
        ) from error


def as_asked(path: Path, overrides: Sequence[str]) -> str:
    """An experiment file's text, below the overrides as comments."""
    changes = "".join(f"# -o {line}\n" for text in overrides for line in text.splitlines())
    return changes + path.read_text(encoding="utf-8")


def _front_genomes(warm_start: Path | None, prepared: Prepared) -> list[Genome]:
    if warm_start is None:
        return []
    names = {gene.name for gene in prepared.space.genes}
    with StudyStore.open(warm_start, read_only=True) as store:
        trials = {trial.number: trial for trial in store.trials()}
    if any(len(t.estimates) not in (0, len(prepared.objectives)) for t in trials.values()):
        raise ConfigError(f"--warm-start {warm_start}: that study has other objectives.")
    front = Standings(prepared.objectives, list(trials.values())).front
    genomes = [trials[number].genome or {} for number in front]
    if any(set(genome) != names for genome in genomes):
        raise ConfigError(
            f"--warm-start {warm_start}: its genes are not those of this experiment's space."
        )
    return genomes


# ---- a study taken up again


def _recorded_spec(
    run_dir: Path, store: StudyStore, models: Mapping[str, str]
) -> ExperimentSpec:
    spec = ExperimentSpec.model_validate(store.meta("experiment"))
    spec = moved(spec, run_dir, store.meta("relative_places") or {})
    unknown = sorted(set(models) - set(spec.models.all))
    if unknown:
        raise ConfigError(
            f"--model: the study has no model {unknown}; it has {[*spec.models.all]}."
        )
    return with_places(spec, models)


def _check_unchanged(run_dir: Path, store: StudyStore, prepared: Prepared) -> None:
    recorded = store.meta("sources")
    problems = [
        f"the weights of model {name!r} ({prepared.spec.models.all[name]}) have changed"
        for name, source in prepared.sources.items()
        if source.fingerprint != recorded[name]["fingerprint"]
    ]
    problems += [
        f"the statistics of model {name!r} have changed"
        for name in prepared.sources
        if statistics_of(prepared, name) != recorded[name].get("statistics")
    ]
    banks = store.meta("banks")
    problems += [
        f"task {name!r} has changed (its documents, its configuration or its code)"
        for name, task in prepared.tasks.items()
        if task.bank.version != banks[name]["version"]
    ]
    if calibration_digest(prepared) != store.meta("calibration"):
        problems.append("the calibration file has changed")
    if [gene_facts(gene) for gene in prepared.space.genes] != store.meta("genes"):
        problems.append("the search space has other genes")
    if [each.to_plain() for each in prepared.constraints] != (store.meta("constraints") or []):
        problems.append("the constraints are others")
    if problems:
        raise StoreError(
            f"{run_dir}: cannot be resumed, its scores would not be comparable: "
            + "; ".join(problems)
            + ". Bring back what the run was begun with, or begin a new run."
        )


def _check_settings(run_dir: Path, store: StudyStore, settings: Mapping[str, Any]) -> None:
    recorded: Mapping[str, Any] = store.meta("settings")
    changed = [
        f"{key}: {recorded.get(key)!r} then, {settings.get(key)!r} now"
        for key in sorted({*recorded, *settings})
        if recorded.get(key) != settings.get(key)
    ]
    if changed:
        raise StoreError(
            f"{run_dir}: cannot be resumed, scores would not be comparable: "
            + "; ".join(changed)
            + ". Resume with what it was begun with, or begin a new run with "
            f"'evomerge run EXPERIMENT --warm-start {run_dir}'."
        )


def _extend(store: StudyStore, add: int) -> None:
    """Raise the candidate limit; where another limit ended the search, lift that one.

    ``--add N`` means N further candidates, whatever ended the search before.
    """
    trials = store.trials()
    asked = sum(trial.kind == "candidate" for trial in trials)
    items = sum(trial.item_evaluations for trial in trials)
    budget = Budget(**store.meta("budget"))
    others = replace(budget, candidates=None)
    if exhausted(others, Spent(asked, store.sessions.seconds_worked() / 60, items)):
        budget = Budget(candidates=asked)
    total = (budget.candidates or asked) + add
    store.set_meta("budget", asdict(replace(budget, candidates=total)))
