"""Parameters that a later stage holds at what an earlier stage's best candidate chose."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.outcomes import Genome
from evomerge.experiment.spec import ExperimentSpec
from evomerge.report.ranking import ranked
from evomerge.report.study_facts import read_facts
from evomerge.spaces.parameter import ParameterSpace
from evomerge.spaces.parameter_fixing import fixed_to
from evomerge.spaces.parameter_spec import ParameterSpaceSpec
from evomerge.spaces.space import SearchSpace
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


def with_fixed(
    spec: ExperimentSpec, earlier: SearchSpace, genome: Genome, parameters: Sequence[str]
) -> ExperimentSpec:
    """A stage in which some parameters are what a genome of an earlier stage's space says.

    Raises:
        ConfigError: One of the spaces is no parameter space, or has no such parameter.
    """
    if not isinstance(spec.space, ParameterSpaceSpec) or not isinstance(
        earlier, ParameterSpace
    ):
        raise ConfigError("fix: both stages need a parameter space (kind: parameter).")
    space = fixed_to(spec.space, earlier, genome, parameters)
    return spec.model_copy(update={"space": space})


def best_candidate(stage_dir: Path) -> Trial:
    """The candidate that ranks first, also where a source ranks before it.

    Raises:
        StoreError: No candidate has been validated.
    """
    with StudyStore.open(stage_dir, read_only=True) as store:
        best = ranked(store, read_facts(store))
    for trial in best:
        if trial.kind == "candidate" and trial.genome is not None:
            return trial
    raise StoreError(f"{stage_dir}: no candidate was scored whose values could be fixed.")
