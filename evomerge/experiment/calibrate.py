"""Calibrate: make a calibration file from a response matrix, sample logs, or a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Objective
from evomerge.experiment.places import moved
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.experiment.session import ResumeOptions, RunOptions, resume, start
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.study import Study
from evomerge.fitness.calibration_file import CalibrationFile, write_calibration
from evomerge.fitness.harness_task import HarnessTask
from evomerge.fitness.matrix_files import read_matrix
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.sample_logs import read_sample_logs
from evomerge.fitness.scale import Scale
from evomerge.report.study_facts import known_responses, read_facts
from evomerge.search.observer import Observer
from evomerge.store.study_store import FILE_NAME, StudyStore

MERGES = 24
"""Merges that answer the whole bank where nobody says how many."""

_DESIGN = (
    "fitness={estimator: mean, finalists: 1, items: {search: all, validation: 2, test: 2}}"
)
"""A study that is run for its responses: every candidate answers the whole search split."""

_OF_NO_CONSEQUENCE = ("name", "budget", "workers")
"""Keys of an experiment that change no response."""


@dataclass(frozen=True)
class CalibrateOptions:
    """What a calibration is made from."""

    out: Path
    matrices: Mapping[str, Path] = field(default_factory=dict)
    """Response matrix by task; its items are the item numbers of the task's bank."""

    samples: tuple[Path, ...] = ()
    """Folders of lm-eval sample logs."""

    merges: int = MERGES
    """Without matrices and samples: merges that a study scores, besides its sources."""

    overrides: tuple[str, ...] = ()
    offline: bool = False
    observer: Observer = field(default_factory=Observer)


def calibrate(experiment: Path, options: CalibrateOptions) -> CalibrationFile:
    """Make and write the calibration of an experiment's tasks.

    Matrices and sample logs are read if there are any; otherwise the study's own sources,
    baselines and a designed set of merges answer every search item. That study stays beside
    the file, in a run directory ``OUT.study``, and is resumed if it was interrupted.

    Raises:
        ConfigError: A task, matrix or log does not fit the experiment.
        EvomergeError: As ``run`` and ``resume`` raise.
    """
    if not options.out.parent.is_dir():
        raise ConfigError(f"--out {options.out}: the folder {options.out.parent} is not there.")
    if options.matrices or options.samples:
        made = _from_files(_prepared(experiment, options), options)
    else:
        made = _from_study(_calibration_study(experiment, options))
    if not made.matrices:
        raise ConfigError(
            f"{experiment}: no objective is a mean of item scores; there is nothing to "
            "calibrate."
        )
    write_calibration(options.out, made)
    return made


def _prepared(experiment: Path, options: CalibrateOptions) -> Prepared:
    """The experiment, whose own fitness may name the calibration that is not made yet."""
    _, prepared = prepare_file(
        experiment, (*options.overrides, _DESIGN), offline=options.offline
    )
    return prepared


def _from_files(prepared: Prepared, options: CalibrateOptions) -> CalibrationFile:
    pairs = _task_metrics(prepared.quantities)
    problems = _matrix_problems(prepared, options, pairs)
    if problems:
        raise ConfigError(problems)
    matrices: dict[tuple[str, str], ResponseMatrix] = {}
    for task, metric in pairs:
        bank = prepared.tasks[task].bank
        found: ResponseMatrix | None = None
        try:
            if task in options.matrices:
                found = read_matrix(options.matrices[task])
                _check_items(task, found, bank.count)
            elif options.samples:
                known = prepared.tasks[task]
                found = read_sample_logs(
                    options.samples,
                    task,
                    metric,
                    known if isinstance(known, HarnessTask) else None,
                )
        except ConfigError as error:
            problems += error.problems
        if found is not None:
            matrices[task, metric] = found
    if problems:
        raise ConfigError(problems)
    versions = {task: prepared.tasks[task].bank.version for task, _ in matrices}
    return CalibrationFile(matrices, versions)


def _task_metrics(objectives: Sequence[Objective]) -> list[tuple[str, str]]:
    """Every task and metric of which an objective is the mean."""
    means = [objective for objective in objectives if objective.kind == "mean"]
    return list(dict.fromkeys((task, o.metric) for o in means for task in o.tasks))


def _matrix_problems(
    prepared: Prepared, options: CalibrateOptions, pairs: Sequence[tuple[str, str]]
) -> list[str]:
    problems = [
        f"--matrix {task}: {unknown('task', task, prepared.tasks)}"
        for task in options.matrices
        if task not in prepared.tasks
    ]
    for task in dict.fromkeys(task for task, _ in pairs):
        metrics = [metric for other, metric in pairs if other == task]
        if task in options.matrices and len(metrics) > 1:
            problems.append(
                f"--matrix {task}: holds one metric, and objectives are made of "
                f"{' and '.join(metrics)}; calibrate by a study, or score one of them."
            )
        if task not in options.matrices and not options.samples:
            problems.append(
                f"--matrix: none for task {task}, of which an objective is made; name one "
                f"with --matrix {task}=FILE."
            )
    return problems


def _check_items(task: str, matrix: ResponseMatrix, count: int) -> None:
    numbers = {str(item) for item in range(count)}
    strange = [item for item in matrix.items if item not in numbers]
    if strange:
        raise ConfigError(
            f"--matrix {task}: item {strange[0]!r} is none of the task's ({len(strange)} "
            f"such); items are named by their number in the task's documents, 0 to {count - 1}."
        )


def _calibration_study(experiment: Path, options: CalibrateOptions) -> Study:
    run_dir = options.out.with_name(f"{options.out.name}.study")
    if (run_dir / FILE_NAME).exists():
        more = _merges_to_add(run_dir, _prepared(experiment, options), options.merges)
        return resume(
            run_dir,
            ResumeOptions(add=more, offline=options.offline, observer=options.observer),
        )
    overrides = (*options.overrides, _DESIGN, f"budget={{candidates: {options.merges}}}")
    return start(
        experiment,
        RunOptions(run_dir, overrides, options.offline, observer=options.observer),
    )


def _merges_to_add(run_dir: Path, prepared: Prepared, merges: int) -> int:
    """How many merges a study of the same experiment lacks.

    Raises:
        StoreError: It is the study of another experiment.
    """
    with StudyStore.open(run_dir, read_only=True) as store:
        spec = ExperimentSpec.model_validate(store.meta("experiment"))
        recorded = moved(spec, run_dir, store.meta("relative_places") or {})
        planned = int(store.meta("budget")["candidates"])
    then, now = recorded.model_dump(mode="json"), prepared.spec.model_dump(mode="json")
    changed = [key for key in now if key not in _OF_NO_CONSEQUENCE and then[key] != now[key]]
    if changed:
        raise StoreError(
            f"{run_dir}: is the calibrating study of another experiment, which differs in "
            f"{', '.join(changed)}; remove that folder or choose another --out."
        )
    return max(0, merges - planned)


def _from_study(study: Study) -> CalibrationFile:
    with StudyStore.open(study.path, read_only=True) as store:
        facts = read_facts(store)
        complete = facts.complete("source", "baseline", "candidate")
        asked = facts.items["search"]
        pairs = _task_metrics(facts.objectives)
        rows: dict[tuple[str, str], list[Sequence[float]]] = {pair: [] for pair in pairs}
        names: list[str] = []
        seen: set[str] = set()
        for trial in complete:
            if trial.recipe.digest in seen:
                continue
            seen.add(trial.recipe.digest)
            names.append(
                trial.name if trial.kind == "candidate" else f"{trial.kind} {trial.name}"
            )
            known = known_responses(store, facts, trial)
            for task, metric in rows:
                rows[task, metric].append(known[task].only(asked[task]).values[metric])
    if not names:
        raise StoreError(f"{study.path}: no model has answered the whole bank.")
    values = {pair: np.array(of_pair, dtype=np.float64) for pair, of_pair in rows.items()}
    scales = {pair: Scale.of(of_pair) for pair, of_pair in values.items()}
    matrices = {
        (task, metric): ResponseMatrix(
            tuple(names),
            tuple(map(str, asked[task])),
            scales[task, metric].applied(values[task, metric]),
        )
        for task, metric in pairs
    }
    versions = {task: str(facts.banks[task]["version"]) for task in asked}
    return CalibrationFile(matrices, versions, scales)
