"""From a checked experiment file to opened models, loaded tasks and a search space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.constraints import Constraint
from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.responses import Items
from evomerge.core.streams import stream
from evomerge.experiment.constraints import (
    ConstraintFindings,
    OpenedModels,
    find_constraints,
)
from evomerge.experiment.custom_tasks import load_custom_tasks
from evomerge.experiment.fitness import (
    check_calibration_file,
    chosen_banks,
    fitness_problems,
    plain_items,
)
from evomerge.experiment.load import Experiment, load_experiment, load_remains
from evomerge.experiment.loggers import logger_problems
from evomerge.experiment.models_and_space import (
    ModelsAndSpace,
    Problems,
    open_models_and_space,
)
from evomerge.experiment.objectives import objective, objective_problems, size_findings
from evomerge.experiment.question_files import task_spec
from evomerge.experiment.spec import (
    ExperimentSpec,
)
from evomerge.fitness.calibration_file import CalibrationFile, read_calibration
from evomerge.fitness.harness import load_tasks
from evomerge.fitness.item_bank import SPLITS, choose
from evomerge.fitness.task_contract import Task
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.compatibility import notes as differences
from evomerge.optimizers.registry import check_options, default_optimizer, learns_from_items
from evomerge.spaces.space import SearchSpace, SourceModels


@dataclass(frozen=True)
class Prepared:
    """Everything an experiment names, found and checked, with no weights read yet."""

    spec: ExperimentSpec
    """With model and task folders made absolute."""

    sources: Mapping[str, SourceModel]
    models: SourceModels
    space: SearchSpace
    tasks: Mapping[str, Task]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    items: Mapping[str, Items]
    """Chosen items by split, then task; of the search split those that sources and baselines
    answer."""

    banks: Items
    """Items of the search split whose mean is the score that the search is after."""

    calibration: CalibrationFile | None = None
    """Answers of other models, where the fitness names a file of them."""

    notes: tuple[str, ...] = ()
    """What is worth knowing and stops nothing."""

    @property
    def quantities(self) -> tuple[Objective, ...]:
        """Everything that is estimated: the objectives, and what constraints bound."""
        return (*self.objectives, *(each.quantity for each in self.constraints))


def prepare(experiment: Experiment, *, offline: bool = False) -> Prepared:
    """Find and check what an experiment names; model headers and task files are read.

    Args:
        experiment: The checked file.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: Every problem found, each with file and line.
        CheckpointError: The same, where all problems are of source models.
    """
    problems = Problems()
    opened = open_models_and_space(experiment, problems, offline=offline)
    spec, sources, models, space = opened.spec, opened.sources, opened.models, opened.space
    tasks = _tasks(experiment, spec, problems, offline=offline)
    objectives = tuple(objective(each) for each in spec.objectives)
    size_notes = _check_objectives(experiment, spec, tasks, (sources, space), problems)
    constraints = _constraints(experiment, opened, tasks, problems)
    spec = _with_optimizer(experiment, spec, space, objectives, problems)
    bounded = tuple(constraint.quantity for constraint in constraints.constraints)
    calibration = _fitness(experiment, spec, tasks, (*objectives, *bounded), problems)
    banks, items = _items(experiment, spec, tasks, problems)
    problems.config += [
        f"{experiment.where('loggers', place)}: {problem}"
        for place, problem in logger_problems(spec.loggers)
    ]
    problems.raise_any()
    if space is None:
        raise ConfigError("the search space could not be built.")
    notes = [note for task in tasks.values() for note in task.bank.overlap]
    notes += differences(sources, models.sources[0].name) + size_notes + constraints.notes
    return Prepared(
        spec=spec,
        sources=sources,
        models=models,
        space=space,
        tasks=tasks,
        objectives=objectives,
        constraints=tuple(constraints.constraints),
        items=items,
        banks=banks,
        calibration=calibration,
        notes=tuple(notes),
    )


def _with_optimizer(
    experiment: Experiment,
    spec: ExperimentSpec,
    space: SearchSpace | None,
    objectives: Sequence[Objective],
    problems: Problems,
) -> ExperimentSpec:
    """The experiment with its optimizer named and checked."""
    genes = space.genes if space is not None else ()
    asked = spec.optimizer
    name = asked.name or default_optimizer(genes, len(objectives))
    found = check_options(name, asked.options, len(genes) if space else 1, len(objectives))
    items = spec.fitness.items
    uneven = {
        "fitness.items.search: one number (no race)": len(items.search) > 1,
        "fitness.items.rotate: false": items.rotate,
        "fitness.adaptive: false": spec.fitness.adaptive,
    }
    if learns_from_items(name) and any(uneven.values()):
        needed = ", ".join(key for key, is_set in uneven.items() if is_set)
        found.append(
            f"optimizer.name: {name} compares candidates item by item, so that all must answer "
            f"the same items; needs {needed}."
        )
    if learns_from_items(name) and all(each.kind != "mean" for each in objectives):
        found.append(
            f"optimizer.name: {name} learns from single items, and no objective is a mean over "
            "items; add one such as accuracy, or use nsga2."
        )
    for problem in found:
        keys = problem.partition(":")[0].split(".")
        where = experiment.where(*keys).removesuffix(f": {'.'.join(keys)}")
        problems.config.append(f"{where}: {problem}")
    named = asked.model_copy(update={"name": name})
    return spec.model_copy(update={"optimizer": named})


def prepare_file(
    path: Path, overrides: Sequence[str] = (), *, offline: bool = False
) -> tuple[Experiment, Prepared]:
    """Read and prepare an experiment file; wrong keys and wrong models are named together.

    Raises:
        ConfigError: Every problem found, each with file and line.
        CheckpointError: The same, where all problems are of source models.
    """
    try:
        experiment = load_experiment(path, overrides)
    except ConfigError as error:
        problems = list(error.problems)
        remains = load_remains(path, overrides)
        if remains is not None:
            try:
                prepare(remains, offline=offline)
            except ConfigError as further:
                problems += further.problems
            except CheckpointError as further:
                problems += str(further).splitlines()
        raise ConfigError(list(dict.fromkeys(problems))) from error
    return experiment, prepare(experiment, offline=offline)


def _tasks(
    experiment: Experiment, spec: ExperimentSpec, problems: Problems, *, offline: bool
) -> dict[str, Task]:
    use = [task_spec(task) for task in spec.tasks.use if task.score is None]
    custom, found = load_custom_tasks(experiment, spec)
    tasks: dict[str, Task] = dict(custom)
    try:
        tasks |= load_tasks(
            use, [Path(folder) for folder in spec.tasks.include], spec.seed, offline=offline
        )
    except ConfigError as error:
        where = experiment.where("tasks")
        found += [f"{where}: {problem}" for problem in error.problems]
    problems.config += found
    return {} if found else {task.name: tasks[task.name] for task in spec.tasks.use}


def _check_objectives(
    experiment: Experiment,
    spec: ExperimentSpec,
    tasks: Mapping[str, Task],
    merged: tuple[Mapping[str, SourceModel], SearchSpace | None],
    problems: Problems,
) -> list[str]:
    """Note what is wrong with the objectives; gives what is worth knowing of them."""
    found = objective_problems(spec, {name: task.metrics for name, task in tasks.items()})
    notes: list[str] = []
    sources, space = merged
    if space is not None and not problems.models:
        wrong, notes = size_findings(spec, sources, space)
        found += wrong
    for place, problem in sorted(found, key=lambda each: each[0]):
        problems.config.append(f"{experiment.where('objectives', place)}: {problem}")
    return notes


def _constraints(
    experiment: Experiment,
    opened: ModelsAndSpace,
    tasks: Mapping[str, Task],
    problems: Problems,
) -> ConstraintFindings:
    """The constraints; notes what is wrong with them."""
    known = None
    if opened.space is not None and not problems.models:
        known = OpenedModels(opened.sources, opened.models, opened.space)
    metrics = {name: task.metrics for name, task in tasks.items()}
    found = find_constraints(opened.spec, metrics, known)
    for place, problem in sorted(found.problems, key=lambda each: each[0]):
        problems.config.append(f"{experiment.where('constraints', place)}: {problem}")
    return found


def _fitness(
    experiment: Experiment,
    spec: ExperimentSpec,
    tasks: Mapping[str, Task],
    objectives: Sequence[Objective],
    problems: Problems,
) -> CalibrationFile | None:
    """Note what is wrong with the fitness; gives its calibration file, read."""
    problems.config += [
        f"{experiment.where('fitness', *place)}: {problem}"
        for place, problem in fitness_problems(spec.fitness, objectives)
    ]
    given = spec.fitness.calibration
    if not isinstance(given, str):
        return None
    where = experiment.where("fitness", "calibration")
    try:
        file = read_calibration(Path(given))
    except ConfigError as error:
        problems.config += [f"{where}: {problem}" for problem in error.problems]
        return None
    banks = {name: task.bank for name, task in tasks.items()}
    problems.config += [
        f"{where}: {problem}" for problem in check_calibration_file(file, banks)
    ]
    return file


def _items(
    experiment: Experiment,
    spec: ExperimentSpec,
    tasks: Mapping[str, Task],
    problems: Problems,
) -> tuple[Items, dict[str, Items]]:
    """The search banks, and the chosen items of every split."""
    found: list[tuple[tuple[str, ...], str]] = []
    banks = chosen_banks(spec, tasks, found)
    chosen: dict[str, Items] = {} if found else {"search": plain_items(spec, banks)}
    for split in SPLITS[1:]:
        count = getattr(spec.fitness.items, split)
        of_split: dict[str, tuple[int, ...]] = {}
        for name, task in tasks.items():
            rng = stream(spec.seed, "items", split, name)
            try:
                of_split[name] = choose(
                    task.bank, split, None if count == "all" else count, rng
                )
            except ConfigError as error:
                found += [(("items", split), problem) for problem in error.problems]
        chosen[split] = of_split
    problems.config += [
        f"{experiment.where('fitness', *place)}: {problem}" for place, problem in found
    ]
    return banks, chosen
