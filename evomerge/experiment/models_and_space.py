"""The models that a search merges, opened, and the search space over them."""

from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.plugins import import_plugins, plugins_everywhere, use_plugins
from evomerge.core.recipe import Source
from evomerge.core.streams import derived_seed
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.load import Experiment
from evomerge.experiment.places import located
from evomerge.experiment.spec import BASE, ExperimentSpec, PluginSpaceSpec
from evomerge.experiment.statistics import with_statistics
from evomerge.experiment.varying_depth import varying_depth_problems
from evomerge.experiment.vocabularies import fitted, merged_tokenizer
from evomerge.merging.aligned_model import AlignedModel
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.residual_scaling import output_projections, scaling_problems
from evomerge.merging.seed_gram import OpenedSeeds
from evomerge.merging.vocabulary import read_chat_template
from evomerge.spaces.joint import JointSpace
from evomerge.spaces.parameter import ParameterSpace, check_parameter_space
from evomerge.spaces.parameter_checks import unmatched_parts
from evomerge.spaces.registry import make_space
from evomerge.spaces.space import OperatorSignature, SearchSpace, SourceModels


class Problems:
    """What is wrong with an experiment, found in any order and told together."""

    def __init__(self) -> None:
        self.config: list[str] = []
        self.models: list[str] = []

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: Every problem, each with file and line.
            CheckpointError: The same, where all problems are of source models.
        """
        if self.config:
            raise ConfigError([*self.models, *self.config])
        if self.models:
            raise CheckpointError("\n".join(self.models))


@dataclass(frozen=True)
class ModelsAndSpace:
    """The part of an experiment that says what recipes there are."""

    spec: ExperimentSpec
    """With model and task folders made absolute, and the plugins of the command line."""

    sources: Mapping[str, SourceModel]
    models: SourceModels
    space: SearchSpace | None
    """None where it could not be built; the problems then say why."""


def open_models_and_space(
    experiment: Experiment, problems: Problems, *, offline: bool
) -> ModelsAndSpace:
    """Open the models and build the space; headers are read, no weights.

    Args:
        experiment: The checked file.
        problems: Takes what is wrong.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: A plugin cannot be imported; nothing else can be judged then.
    """
    spec = _with_plugins(experiment, located(experiment))
    sources = _open_sources(experiment, spec, problems, offline=offline)
    models, unmeasured = with_statistics(spec, _source_models(spec, sources), sources)
    problems.models += [f"{experiment.where('models')}: {problem}" for problem in unmeasured]
    space = _space(experiment, spec, models, sources, problems)
    if space is not None and not problems.models:
        found = varying_depth_problems(spec, models, sources, space)
        problems.config += [f"{experiment.where(*keys)}: {problem}" for keys, problem in found]
        if space.folds_scales and not found:
            unfit = scaling_problems(sources, models.sources[0].name)
            problems.config += [f"{experiment.where('space')}: {each}" for each in unfit]
    return ModelsAndSpace(spec, sources, models, space)


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


def _open_sources(
    experiment: Experiment, spec: ExperimentSpec, problems: Problems, *, offline: bool
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
    reference = next(iter(sources.values()), None)
    return SourceModels(
        base=source(BASE, base) if base else None,
        experts=tuple(source(name, model) for name, model in spec.models.experts.items()),
        layers=layers[0] if layers else 0,
        tokenizer=_tokenizer(spec, sources),
        seed=derived_seed(spec.seed, "operators"),
        weights=OpenedSeeds(sources, BASE if base else next(iter(sources)))
        if len(sources) == len(spec.models.all)
        else None,
        output_projections=output_projections(reference) if reference else (),
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
    problems: Problems,
) -> SearchSpace | None:
    known = signatures()
    complete = len(sources) == len(spec.models.all)
    if isinstance(spec.space, PluginSpaceSpec):
        try:
            options = spec.space.options
            space = make_space(spec.space.kind, options, models, known) if complete else None
        except ConfigError as error:
            problems.config += [_located(experiment, problem) for problem in error.problems]
            return None
        if isinstance(space, JointSpace):
            names = next(iter(sources.values())).tensors
            problems.config += [
                _located(experiment, problem.replace("space.", "space.merge.", 1))
                for problem in unmatched_parts(space.merge, names)
            ]
        return space
    found = check_parameter_space(spec.space, models, known)
    for source in list(sources.values())[:1]:
        found += unmatched_parts(spec.space, source.tensors)
    problems.config += [_located(experiment, problem) for problem in found]
    return ParameterSpace(spec.space, models, known) if complete and not found else None


def _located(experiment: Experiment, problem: str) -> str:
    """A problem that begins with keys, with the file and line of the deepest known one."""
    keys, _, said = problem.partition(": ")
    return f"{experiment.where(*keys.split('.'))}: {said}"
