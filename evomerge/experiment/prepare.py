"""From a checked experiment file to opened models, loaded tasks and a search space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.objectives import Objective
from evomerge.core.plugins import import_plugins, plugins_everywhere, use_plugins
from evomerge.core.recipe import Source
from evomerge.core.responses import Items
from evomerge.core.streams import derived_seed, stream
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.custom_tasks import load_custom_tasks
from evomerge.experiment.fitness import (
    check_calibration_file,
    chosen_banks,
    fitness_problems,
    plain_items,
)
from evomerge.experiment.load import Experiment, load_experiment, load_remains
from evomerge.experiment.loggers import logger_problems
from evomerge.experiment.objectives import objective, objective_problems, size_findings
from evomerge.experiment.places import located
from evomerge.experiment.question_files import task_spec
from evomerge.experiment.spec import (
    BASE,
    ExperimentSpec,
    PluginSpaceSpec,
)
from evomerge.experiment.statistics import with_statistics
from evomerge.experiment.varying_depth import varying_depth_problems
from evomerge.experiment.vocabularies import fitted, merged_tokenizer
from evomerge.fitness.calibration_file import CalibrationFile, read_calibration
from evomerge.fitness.harness import load_tasks
from evomerge.fitness.item_bank import SPLITS, choose
from evomerge.fitness.task_contract import Task
from evomerge.merging.aligned_model import AlignedModel
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.compatibility import notes as differences
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.seed_gram import OpenedSeeds
from evomerge.merging.vocabulary import read_chat_template
from evomerge.optimizers.registry import check_options, default_optimizer, learns_from_items
from evomerge.spaces.parameter import ParameterSpace, check_parameter_space
from evomerge.spaces.registry import make_space
from evomerge.spaces.space import OperatorSignature, SearchSpace, SourceModels


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
    items: Mapping[str, Items]
    """Chosen items by split, then task; of the search split those that sources and baselines
    answer."""

    banks: Items
    """Items of the search split whose mean is the score that the search is after."""

    calibration: CalibrationFile | None = None
    """Answers of other models, where the fitness names a file of them."""

    notes: tuple[str, ...] = ()
    """What is worth knowing and stops nothing."""


def prepare(experiment: Experiment, *, offline: bool = False) -> Prepared:
    """Find and check what an experiment names; model headers and task files are read.

    Args:
        experiment: The checked file.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: Every problem found, each with file and line.
        CheckpointError: The same, where all problems are of source models.
    """
    problems = _Problems()
    spec = _with_plugins(experiment, located(experiment))
    sources = _open_sources(experiment, spec, problems, offline=offline)
    models, unmeasured = with_statistics(spec, _source_models(spec, sources), sources)
    problems.models += [f"{experiment.where('models')}: {problem}" for problem in unmeasured]
    space = _space(experiment, spec, models, sources, problems)
    if space is not None and not problems.models:
        found = varying_depth_problems(spec, models, sources, space)
        problems.config += [f"{experiment.where(*keys)}: {problem}" for keys, problem in found]
    tasks = _tasks(experiment, spec, problems, offline=offline)
    objectives = tuple(objective(each) for each in spec.objectives)
    size_notes = _check_objectives(experiment, spec, tasks, (sources, space), problems)
    spec = _with_optimizer(experiment, spec, space, objectives, problems)
    calibration = _fitness(experiment, spec, tasks, objectives, problems)
    banks, items = _items(experiment, spec, tasks, problems)
    problems.config += [
        f"{experiment.where('loggers', place)}: {problem}"
        for place, problem in logger_problems(spec.loggers)
    ]
    problems.raise_any()
    if space is None:
        raise ConfigError("the search space could not be built.")
    notes = [note for task in tasks.values() for note in task.bank.overlap]
    notes += differences(sources, models.sources[0].name) + size_notes
    return Prepared(
        spec, sources, models, space, tasks, objectives, items, banks, calibration, tuple(notes)
    )


def _with_optimizer(
    experiment: Experiment,
    spec: ExperimentSpec,
    space: SearchSpace | None,
    objectives: Sequence[Objective],
    problems: "_Problems",
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


def _with_plugins(experiment: Experiment, spec: ExperimentSpec) -> ExperimentSpec:
    """The specification with the plugins that the command line names, all imported.

    Raises:
        ConfigError: One cannot be imported; nothing else can be judged then.
    """
    use_plugins(spec.plugins)
    try:
        import_plugins()
    except ConfigError as error:
        where = experiment.where("plugins")
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from error
    both = tuple(dict.fromkeys([*spec.plugins, *plugins_everywhere()]))
    return spec.model_copy(update={"plugins": both})


class _Problems:
    def __init__(self) -> None:
        self.config: list[str] = []
        self.models: list[str] = []

    def raise_any(self) -> None:
        if self.config:
            raise ConfigError([*self.models, *self.config])
        if self.models:
            raise CheckpointError("\n".join(self.models))


def _open_sources(
    experiment: Experiment, spec: ExperimentSpec, problems: _Problems, *, offline: bool
) -> dict[str, SourceModel]:
    opened: dict[str, SourceModel] = {}
    for name, model in spec.models.all.items():
        place = ("models", BASE) if name == BASE else ("models", "experts", name)
        try:
            opened[name] = open_source(
                model, offline=offline, allow_pickle=spec.models.allow_pickle
            )
        except EvomergeError as error:
            problems.models.append(f"{experiment.where(*place)}: {error}")
    if len(opened) < len(spec.models.all):
        return opened
    base = BASE if BASE in opened else None
    reference = base or next(iter(opened))
    policy = spec.models.tokenizer_mismatch
    tokenizer = merged_tokenizer(policy, opened, reference)
    try:
        opened, found = fitted(opened, reference, base, policy, tokenizer)
    except CheckpointError as error:
        found = str(error).splitlines()
    where = experiment.where("models")
    problems.models += [f"{where}: {problem}" for problem in found]
    folder = opened[reference].tokenizer_folder
    if spec.evaluation.apply_chat_template and read_chat_template(folder) is None:
        where = experiment.where("evaluation", "apply_chat_template")
        problems.config.append(f"{where}: {reference}'s tokenizer has no chat template.")
    return opened


def _source_models(spec: ExperimentSpec, sources: Mapping[str, SourceModel]) -> SourceModels:
    def source(name: str, model: str) -> Source:
        opened = sources.get(name)
        return Source(name, model, opened.fingerprint if opened else None)

    layers = [count_layers(list(opened.tensors)) for opened in sources.values()]
    base = spec.models.base
    return SourceModels(
        base=source(BASE, base) if base else None,
        experts=tuple(source(name, model) for name, model in spec.models.experts.items()),
        layers=layers[0] if layers else 0,
        tokenizer=_tokenizer(spec, sources),
        seed=derived_seed(spec.seed, "operators"),
        weights=OpenedSeeds(sources, BASE if base else next(iter(sources)))
        if len(sources) == len(spec.models.all)
        else None,
    )


def _tokenizer(spec: ExperimentSpec, sources: Mapping[str, SourceModel]) -> str | None:
    """What recipes say of their tokenizer: the one that the opened sources are aligned by."""
    aligned = [s for s in sources.values() if isinstance(s, AlignedModel)]
    return aligned[0].tokenizer if aligned and len(sources) == len(spec.models.all) else None


def signatures() -> dict[str, OperatorSignature]:
    """What search spaces must know of each merge operator."""
    return {
        name: OperatorSignature(
            name=name,
            model_parameters=tuple(p.name for p in operator.parameters if p.per_model),
            merge_parameters=tuple(p.name for p in operator.parameters if not p.per_model),
            needs_base=operator.needs_base,
            max_models=operator.max_models,
            value_problems={p.name: p.problem for p in operator.parameters},
            takes_base=operator.takes_base,
            min_models=operator.min_models,
        )
        for name, operator in OPERATORS.items()
    }


def _space(
    experiment: Experiment,
    spec: ExperimentSpec,
    models: SourceModels,
    sources: Mapping[str, SourceModel],
    problems: _Problems,
) -> SearchSpace | None:
    known = signatures()
    complete = len(sources) == len(spec.models.all)
    where = experiment.where("space").removesuffix(": space")
    if isinstance(spec.space, PluginSpaceSpec):
        try:
            options = spec.space.options
            return make_space(spec.space.kind, options, models, known) if complete else None
        except ConfigError as error:
            problems.config += [f"{where}: {problem}" for problem in error.problems]
            return None
    found = check_parameter_space(spec.space, models, known)
    for source in list(sources.values())[:1]:
        found += [
            f"space.components: no tensor's name contains {part!r}, so its genes would do "
            f"nothing; names are e.g. {list(source.tensors)[len(source.tensors) // 2]}."
            for part in spec.space.components
            if not any(part in name for name in source.tensors)
        ]
    problems.config += [f"{where}: {problem}" for problem in found]
    return ParameterSpace(spec.space, models, known) if complete and not found else None


def _tasks(
    experiment: Experiment, spec: ExperimentSpec, problems: _Problems, *, offline: bool
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
    problems: _Problems,
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


def _fitness(
    experiment: Experiment,
    spec: ExperimentSpec,
    tasks: Mapping[str, Task],
    objectives: Sequence[Objective],
    problems: _Problems,
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
    problems: _Problems,
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
