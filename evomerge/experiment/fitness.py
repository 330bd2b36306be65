"""From a fitness definition to items, estimator and ladder."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Objective
from evomerge.core.streams import stream
from evomerge.experiment.fitness_spec import FitnessSpec, StudyCalibration
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.adaptive import ADAPTIVE, AdaptiveLadder, AdaptiveTask
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.calibration_file import CalibrationFile
from evomerge.fitness.estimate import BankEstimator, MeanEstimator, TaskEstimator
from evomerge.fitness.estimators.registry import ESTIMATORS, fit_estimator
from evomerge.fitness.item_bank import ItemBank, choose
from evomerge.fitness.ladder import FixedLadder, Ladder, RotatingLadder
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.scale import Scale
from evomerge.fitness.selection.random_items import random_selection
from evomerge.fitness.selection.registry import SELECTIONS, select
from evomerge.fitness.task_contract import Task
from evomerge.search.scoring import Calibration, Fitness, Reference

Place = tuple[str, ...]
"""Keys below ``fitness`` in the experiment file."""

Banks = Mapping[str, tuple[int, ...]]
"""Items of each task whose mean is the score that a search is after."""

_OF_A_SAMPLE = frozenset({"mean", "ppi", "ppi_irt", "ppi_endpoints"})
"""Estimators that rest on how the items were drawn."""

_FEWEST_MODELS = 4
"""Models that a calibration needs: with fewer, no fold can be held out of it."""


def is_calibrated(spec: FitnessSpec) -> bool:
    """Whether the fitness rests on answers of other models."""
    estimator, selection = ESTIMATORS.get(spec.estimator), spec.select
    return (estimator is not None and estimator.needs_calibration) or (
        selection not in {None, "random"}
    )


def fitness_problems(
    spec: FitnessSpec, objectives: Sequence[Objective]
) -> Iterator[tuple[Place, str]]:
    """What is wrong with a fitness definition, each with its place.

    Args:
        spec: The definition.
        objectives: What it is to score.
    """
    if spec.estimator not in ESTIMATORS:
        yield ("estimator",), unknown("estimator", spec.estimator, ESTIMATORS)
        return
    if spec.select is not None and spec.select not in SELECTIONS:
        yield ("select",), unknown("selection", spec.select, SELECTIONS)
        return
    yield from _calibration_problems(spec, objectives)
    if spec.estimator in _OF_A_SAMPLE and not SELECTIONS[_selection(spec)].random_sample:
        what = f"{spec.estimator} needs a random sample of items; use random or stratified."
        yield ("select",), what
    if spec.estimator == "anchors" and not _selection(spec).startswith("anchors"):
        what = "is a mean of items that stand for others; use anchors_responses or anchors_irt."
        yield ("select",), f"anchors {what}"
    if spec.items.rotate and _selection(spec) != "random":
        what = f"items of {_selection(spec)} cannot rotate; use select: random."
        yield ("items", "rotate"), what
    if spec.adaptive and spec.estimator not in ADAPTIVE:
        what = f"only for {', '.join(ADAPTIVE)}; the estimator is {spec.estimator}."
        yield ("adaptive",), f"items are chosen by a candidate's ability {what}"
    if spec.adaptive and spec.items.rotate:
        yield ("adaptive",), "items cannot both rotate and follow from a candidate's answers."


def _calibration_problems(
    spec: FitnessSpec, objectives: Sequence[Objective]
) -> Iterator[tuple[Place, str]]:
    calibrated = is_calibrated(spec)
    what = spec.estimator if ESTIMATORS[spec.estimator].needs_calibration else spec.select
    if calibrated and spec.calibration is None:
        need = "give a calibration, '{merges: 12}' or a file of 'evomerge calibrate'."
        yield (), f"{what} is made from the answers of other models; {need}"
    if not calibrated and spec.calibration is not None:
        yield ("calibration",), f"{spec.estimator} of random items makes no use of it."
    for objective in objectives:
        if calibrated and objective.tasks and objective.kind != "mean":
            need = f"no mean of item scores, which {what} estimates; use estimator: mean."
            yield ("estimator",), f"{objective.name} is {need}"


def chosen_banks(
    spec: ExperimentSpec, tasks: Mapping[str, Task], problems: list[tuple[Place, str]]
) -> dict[str, tuple[int, ...]]:
    """The search bank of every task; notes rungs that it has no items for."""
    asked = spec.fitness.items
    banks: dict[str, tuple[int, ...]] = {}
    for name, task in tasks.items():
        rng = stream(spec.seed, "items", "bank", name)
        count = None if asked.bank == "all" else asked.bank
        try:
            banks[name] = choose(task.bank, "search", count, rng)
        except ConfigError as error:
            problems += [(("items", "bank"), problem) for problem in error.problems]
            continue
        highest = max(rung for rung in (*asked.search, 0) if rung != "all")
        if highest > len(banks[name]) and not task.bank.whole:
            where = "search split" if asked.bank == "all" else "bank"
            problems.append(
                (
                    ("items", "search"),
                    f"task {name}: {highest} items asked of the {where}, which has "
                    f"{len(banks[name])}; ask for 2 to {len(banks[name])}, or 'all'.",
                )
            )
    return banks


def plain_items(spec: ExperimentSpec, banks: Banks) -> dict[str, tuple[int, ...]]:
    """What sources and baselines answer of the search split.

    That is the last rung, and the whole bank where an estimator is calibrated on them.
    """
    if is_calibrated(spec.fitness):
        return dict(banks)
    return _random_rungs(spec, banks)[-1]


def random_fitness(spec: ExperimentSpec, banks: Banks, mean: MeanEstimator) -> Fitness:
    """Random items and their mean, for a fitness without calibration."""
    return Fitness(mean, _ladder(spec, banks, _random_rungs(spec, banks)))


def calibration(
    spec: ExperimentSpec,
    banks: Banks,
    objectives: Sequence[Objective],
    file: CalibrationFile | None,
) -> Calibration:
    """How the study makes its estimator.

    Args:
        spec: The experiment; its fitness is calibrated.
        banks: The search banks.
        objectives: What is scored.
        file: Answers of models besides the study's own.

    Raises:
        ConfigError: The file lacks a task, a metric or items of a bank.
    """
    if file is not None:
        _check_holds(file, spec, banks, objectives)
    own = spec.fitness.calibration
    merges = own.merges if isinstance(own, StudyCalibration) else 0

    def fit(references: Sequence[Reference]) -> Fitness:
        return _fitted(spec, banks, objectives, references, file)

    return Calibration(merges, fit)


def _check_holds(
    file: CalibrationFile, spec: ExperimentSpec, banks: Banks, objectives: Sequence[Objective]
) -> None:
    """Refuse a file that an estimator could not be made from, before anything is scored."""
    problems: list[str] = []
    for task, metrics in _metrics(objectives).items():
        for metric in metrics if task not in spec.tasks.whole else ():
            try:
                file.matrix(task, metric, banks[task])
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)


def _selection(spec: FitnessSpec) -> str:
    return spec.select or ESTIMATORS[spec.estimator].selection


def _counts(spec: ExperimentSpec, task: str, bank: Sequence[int]) -> list[int]:
    """Items of each rung; one that is scored as a whole is, on every rung."""
    whole = task in spec.tasks.whole
    asked = spec.fitness.items.search
    return [len(bank) if count == "all" or whole else count for count in asked]


def _ladder(
    spec: ExperimentSpec, banks: Banks, rungs: Sequence[Mapping[str, tuple[int, ...]]]
) -> Ladder:
    if not spec.fitness.items.rotate:
        return FixedLadder(tuple(rungs))
    tasks = list(rungs[0])
    orders = {
        task: tuple(banks[task][k] for k in _order(spec, task, banks[task])) for task in tasks
    }
    counts = {task: tuple(len(rung[task]) for rung in rungs) for task in tasks}
    return RotatingLadder(orders, counts)


def _order(spec: ExperimentSpec, task: str, bank: Sequence[int]) -> list[int]:
    """A random order of the bank's items, of which rungs are prefixes."""
    rng = stream(spec.seed, "items", "search", task)
    order: list[int] = random_selection(len(bank), len(bank), rng).order.tolist()
    return order


def _random_rungs(spec: ExperimentSpec, banks: Banks) -> list[dict[str, tuple[int, ...]]]:
    rungs: list[dict[str, tuple[int, ...]]] = [{} for _ in spec.fitness.items.search]
    for name, bank in banks.items():
        order = _order(spec, name, bank)
        for rung, count in zip(rungs, _counts(spec, name, bank), strict=True):
            rung[name] = tuple(sorted(bank[k] for k in order[:count]))
    return rungs


def _fitted(
    spec: ExperimentSpec,
    banks: Banks,
    objectives: Sequence[Objective],
    references: Sequence[Reference],
    file: CalibrationFile | None,
) -> Fitness:
    rungs: list[dict[str, tuple[int, ...]]] = [{} for _ in spec.fitness.items.search]
    estimators: dict[tuple[str, str], TaskEstimator] = {}
    adaptive: dict[str, AdaptiveTask] = {}
    for task, metrics in _metrics(objectives).items():
        bank = banks[task]
        columns = {item: column for column, item in enumerate(bank)}
        counts = _counts(spec, task, bank)
        if task in spec.tasks.whole:  # nothing to predict
            for rung in rungs:
                rung[task] = bank
            continue
        selection = None
        for metric in metrics:
            made, scale = _task_calibration(task, metric, bank, references, file)
            if selection is None:  # by the first of a task's metrics, for all of them
                largest = max((c for c in counts if c < len(bank)), default=len(bank))
                rng = stream(spec.seed, "items", "search", task)
                selection = select(_selection(spec.fitness), made, largest, rng)
                for rung, count in zip(rungs, counts, strict=True):
                    order = selection.order[:count].tolist()
                    rung[task] = bank if count == len(bank) else tuple(bank[k] for k in order)
            rng = stream(spec.seed, "fitness", task, metric)
            fitted = fit_estimator(spec.fitness.estimator, made, selection, rng)
            estimators[task, metric] = TaskEstimator(fitted, columns, scale)
            if spec.fitness.adaptive and task not in adaptive:
                adaptive[task] = AdaptiveTask.fitted(metric, made, bank, scale)
    ladder = _ladder(spec, banks, rungs)
    return Fitness(
        BankEstimator(estimators),
        AdaptiveLadder(ladder, adaptive) if adaptive else ladder,
        predicts=True,
    )


def _metrics(objectives: Sequence[Objective]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for objective in objectives:
        for task in objective.tasks:
            if objective.metric not in found.setdefault(task, []):
                found[task].append(objective.metric)
    return found


def _task_calibration(
    task: str,
    metric: str,
    bank: Sequence[int],
    references: Sequence[Reference],
    file: CalibrationFile | None,
) -> tuple[TaskCalibration, Scale]:
    """The answers of the study's own models and of a file's, as one matrix."""
    names = [f"{reference.kind} {reference.name}" for reference in references]
    rows = [
        np.asarray(reference.responses[task].only(bank).values[metric], dtype=np.float64)
        for reference in references
    ]
    families = list(names)
    if file is not None:
        theirs = file.matrix(task, metric, bank)
        answers = file.scale(task, metric).raw(theirs.values)
        own = list(rows)
        for model, family, row in zip(theirs.models, theirs.families, answers, strict=True):
            if not any(np.allclose(row, known) for known in own):  # a model of this study
                names.append(f"calibration {model}")
                families.append(f"calibration {family}")
                rows.append(row)
    if len(rows) < _FEWEST_MODELS:
        raise ConfigError(
            f"fitness.calibration: {len(rows)} models have answered the bank of task {task}; "
            f"at least {_FEWEST_MODELS} are needed, so let more merges answer it."
        )
    values = np.array(rows)
    scale = Scale.of(values[np.isfinite(values)])
    matrix = ResponseMatrix(
        tuple(names), tuple(map(str, bank)), scale.applied(values), tuple(families)
    )
    endpoints = tuple(k for k, reference in enumerate(references) if reference.kind == "source")
    return TaskCalibration(matrix, endpoints), scale


def check_calibration_file(file: CalibrationFile, banks: Mapping[str, ItemBank]) -> list[str]:
    """Why a calibration file does not fit an experiment's tasks.

    Args:
        file: What was read.
        banks: Whole item bank by task.
    """
    return [
        f"it was made for another version of task {task} (its documents or configuration "
        "differ); calibrate again."
        for task, bank in banks.items()
        if task in file.versions and file.versions[task] != bank.version
    ]
