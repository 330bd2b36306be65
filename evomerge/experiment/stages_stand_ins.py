"""What exists already in place of what earlier stages of a chain are yet to find."""

from collections.abc import Sequence
from dataclasses import replace

from evomerge.core.errors import ConfigError
from evomerge.core.model_spelling import map_parts, model_parts
from evomerge.experiment.load import Experiment
from evomerge.experiment.places import with_places
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.stages_fix import with_fixed
from evomerge.experiment.stages_spec import Fix, Stage, StageModel
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.space import SearchSpace


def models_of_stages(spec: ExperimentSpec) -> dict[str, str]:
    """The models of a stage that earlier stages make, as they are spelled."""
    return {
        name: model
        for name, model in spec.models.all.items()
        if any(StageModel.read(part) for part in model_parts(model))
    }


def with_stand_ins(stages: Sequence[Stage], stage: Stage) -> Experiment | None:
    """The stage's experiment with what exists already in place of models yet to be made.

    A model that a stage is yet to make is stood in for by that stage's reference. None where
    an earlier stage is named that there is not.
    """
    by_name = {each.name: each for each in stages if each.place < stage.place}
    missing = False

    def place(part: str) -> str:
        nonlocal missing
        model = StageModel.read(part)
        if model is None:
            return part
        if model.stage not in by_name:
            missing = True
            return part
        earlier = by_name[model.stage].experiment.spec.models.all
        reference = next(iter(earlier.values()))
        return map_parts(reference, place)

    spec = stage.experiment.spec
    places = {name: map_parts(model, place) for name, model in models_of_stages(spec).items()}
    if missing:
        return None
    return replace(stage.experiment, spec=with_places(spec, places))


def fixed_in_the_middle(
    experiment: Experiment, fix: Fix, earlier: ExperimentSpec, space: SearchSpace
) -> Experiment:
    """The experiment with the middle of the earlier space in place of its best candidate.

    Args:
        experiment: A later stage.
        fix: What it takes.
        earlier: The stage that it takes from.
        space: That stage's.

    Raises:
        ConfigError: The stages have other models, or there is no such parameter.
    """
    if experiment.spec.models.all.keys() != earlier.models.all.keys():
        raise ConfigError(
            f"fix: the models must be those of stage {fix.stage}, "
            f"{[*earlier.models.all]}; found {[*experiment.spec.models.all]}."
        )
    middle = genome_from_unit(space.genes, [0.5] * len(space.genes))
    spec = with_fixed(experiment.spec, space, middle, fix.parameters)
    return replace(experiment, spec=spec)
