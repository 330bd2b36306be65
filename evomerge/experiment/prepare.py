"""From a checked experiment file to opened models, loaded tasks and a search space."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.objectives import Objective
from evomerge.core.recipe import Source
from evomerge.core.responses import Items
from evomerge.core.streams import derived_seed, stream
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.load import Experiment, load_experiment, load_remains
from evomerge.experiment.presets import find_folder
from evomerge.experiment.spec import BASE, ExperimentSpec, ItemsSpec, TokenizerMismatch
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.harness_task import HarnessTask
from evomerge.fitness.item_bank import SPLITS, choose
from evomerge.fitness.reply_values import metric_problems
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.compatibility import check_tensors, check_vocabularies
from evomerge.merging.compatibility import notes as differences
from evomerge.merging.operators.registry import OPERATORS
from evomerge.optimizers.registry import check_options
from evomerge.spaces.parameter import ParameterSpace, check_parameter_space
from evomerge.spaces.space import OperatorSignature, SearchSpace, SourceModels


@dataclass(frozen=True)
class Prepared:
    """Everything an experiment names, found and checked, with no weights read yet."""

    spec: ExperimentSpec
    """With model and task folders made absolute."""

    sources: Mapping[str, SourceModel]
    models: SourceModels
    space: SearchSpace
    tasks: Mapping[str, HarnessTask]
    objectives: tuple[Objective, ...]
    items: Mapping[str, Items]
    """Chosen items by split, then task."""

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
    spec = located(experiment)
    sources = _open_sources(experiment, spec, problems, offline=offline)
    models = _source_models(spec, sources)
    space = _space(experiment, spec, models, sources, problems)
    tasks = _tasks(experiment, spec, problems, offline=offline)
    objectives = tuple(
        Objective(o.metric, o.weights, "maximize" if o.maximize else "minimize")
        for o in spec.objectives
    )
    _check_objectives(experiment, objectives, tasks, problems)
    for problem in check_options(
        spec.optimizer.name,
        spec.optimizer.options,
        len(space.genes) if space else 1,
        len(objectives),
    ):
        keys = problem.partition(":")[0].split(".")
        where = experiment.where(*keys).removesuffix(f": {'.'.join(keys)}")
        problems.config.append(f"{where}: {problem}")
    items = _items(experiment, spec, tasks, problems)
    problems.raise_any()
    if space is None:
        raise ConfigError("the search space could not be built.")
    notes = [note for task in tasks.values() for note in task.bank.overlap]
    notes += differences(sources, models.sources[0].name)
    return Prepared(spec, sources, models, space, tasks, objectives, items, tuple(notes))


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


class _Problems:
    def __init__(self) -> None:
        self.config: list[str] = []
        self.models: list[str] = []

    def raise_any(self) -> None:
        if self.config:
            raise ConfigError([*self.models, *self.config])
        if self.models:
            raise CheckpointError("\n".join(self.models))


def located(experiment: Experiment) -> ExperimentSpec:
    """The specification with folders made absolute; what is no folder here stays as it is."""
    spec = experiment.spec

    def place(given: str) -> str:
        for folder in (experiment.folder / given, Path(given).expanduser()):
            if folder.is_dir():
                return str(folder.resolve())
        return given

    include = tuple(
        str(find_folder(given, experiment.folder) or given) for given in spec.tasks.include
    )
    models = {name: place(given) for name, given in spec.models.all.items()}
    return with_places(spec, models, include)


def with_places(
    spec: ExperimentSpec, models: Mapping[str, str], include: Sequence[str] | None = None
) -> ExperimentSpec:
    """The specification with other places.

    Args:
        spec: What to change.
        models: By name, the base under ``base``; those not named stay where they are.
        include: Task folders; None keeps them.
    """
    places = {**spec.models.all, **models}
    base = places.pop(BASE, None)
    sources = spec.models.model_copy(update={"base": base, "experts": places})
    tasks = spec.tasks
    if include is not None:
        tasks = tasks.model_copy(update={"include": tuple(include)})
    return spec.model_copy(update={"models": sources, "tasks": tasks})


def _open_sources(
    experiment: Experiment, spec: ExperimentSpec, problems: _Problems, *, offline: bool
) -> dict[str, SourceModel]:
    opened: dict[str, SourceModel] = {}
    for name, model in spec.models.all.items():
        place = ("models", BASE) if name == BASE else ("models", "experts", name)
        try:
            opened[name] = open_source(model, offline=offline)
        except EvomergeError as error:
            problems.models.append(f"{experiment.where(*place)}: {error}")
    if len(opened) == len(spec.models.all):
        reference = BASE if BASE in opened else next(iter(opened))
        problems.models += [
            f"{experiment.where('models')}: {problem}"
            for problem in mismatches(opened, reference, spec.models.tokenizer_mismatch)
        ]
    return opened


def mismatches(
    sources: Mapping[str, SourceModel], reference: str, tokenizers: TokenizerMismatch
) -> list[str]:
    """Every reason why sources cannot be merged under a policy for differing tokenizers."""
    compared = sources if tokenizers == "error" else {reference: sources[reference]}
    return check_tensors(sources, reference) + check_vocabularies(compared, reference)


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
        seed=derived_seed(spec.seed, "operators"),
    )


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
    found = check_parameter_space(spec.space, models, known)
    for source in list(sources.values())[:1]:
        found += [
            f"space.components: no tensor's name contains {part!r}, so its genes would do "
            f"nothing; names are e.g. {list(source.tensors)[len(source.tensors) // 2]}."
            for part in spec.space.components
            if not any(part in name for name in source.tensors)
        ]
    where = experiment.where("space").removesuffix(": space")
    problems.config += [f"{where}: {problem}" for problem in found]
    complete = len(sources) == len(spec.models.all)
    return ParameterSpace(spec.space, models, known) if complete and not found else None


def _tasks(
    experiment: Experiment, spec: ExperimentSpec, problems: _Problems, *, offline: bool
) -> dict[str, HarnessTask]:
    use = [TaskSpec(task.name, task.num_fewshot) for task in spec.tasks.use]
    try:
        return load_tasks(
            use, [Path(folder) for folder in spec.tasks.include], spec.seed, offline=offline
        )
    except ConfigError as error:
        where = experiment.where("tasks")
        problems.config += [f"{where}: {problem}" for problem in error.problems]
        return {}


def _check_objectives(
    experiment: Experiment,
    objectives: Sequence[Objective],
    tasks: Mapping[str, HarnessTask],
    problems: _Problems,
) -> None:
    if not tasks:
        return
    metrics = {name: task.metrics for name, task in tasks.items()}
    for index, objective in enumerate(objectives):
        where = experiment.where("objectives", index)
        problems.config += [
            f"{where}: {problem.removeprefix('objectives: ')}"
            for problem in metric_problems([objective], metrics)
        ]


def _items(
    experiment: Experiment,
    spec: ExperimentSpec,
    tasks: Mapping[str, HarnessTask],
    problems: _Problems,
) -> dict[str, dict[str, tuple[int, ...]]]:
    chosen: dict[str, dict[str, tuple[int, ...]]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for name, task in tasks.items():
            rng = stream(spec.seed, "items", split, name)
            try:
                chosen[split][name] = choose(
                    task.bank, split, _count(spec.fitness.items, split), rng
                )
            except ConfigError as error:
                where = experiment.where("fitness", "items", split)
                problems.config += [f"{where}: {problem}" for problem in error.problems]
    return chosen


def _count(items: ItemsSpec, split: str) -> int | None:
    given: Any = getattr(items, split)
    return None if given == "all" else int(given)


def relative_places(spec: ExperimentSpec, run_dir: Path) -> dict[str, str]:
    """Path from the run directory to each local folder, so that both can move together."""
    places = [*spec.models.all.values(), *spec.tasks.include]
    return {
        place: os.path.relpath(place, run_dir.resolve())
        for place in places
        if Path(place).is_absolute()
    }


def moved(spec: ExperimentSpec, run_dir: Path, relative: Mapping[str, str]) -> ExperimentSpec:
    """The specification with folders found from where the run directory is now."""

    def place(recorded: str) -> str:
        beside = run_dir.resolve() / relative.get(recorded, recorded)
        return str(beside.resolve()) if recorded in relative and beside.is_dir() else recorded

    models = {name: place(recorded) for name, recorded in spec.models.all.items()}
    return with_places(spec, models, [place(folder) for folder in spec.tasks.include])
