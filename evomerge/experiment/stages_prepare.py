"""A chain checked as a whole before any work; models yet to be made have stand-ins."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.model_spelling import model_parts
from evomerge.experiment.build import make_study_optimizer
from evomerge.experiment.places import with_places
from evomerge.experiment.plan import plan
from evomerge.experiment.prepare import Prepared, prepare
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.stages_reader import read_chain
from evomerge.experiment.stages_spec import Chain, Stage, StageModel
from evomerge.experiment.stages_stand_ins import (
    fixed_in_the_middle,
    models_of_stages,
    with_stand_ins,
)
from evomerge.experiment.varying_depth import resident_entries, resident_recipe
from evomerge.search.budget import Budget
from evomerge.spaces.first_genomes import first_genomes


@dataclass(frozen=True)
class PreparedChain:
    """A chain of which everything is found and checked that exists before it is run."""

    chain: Chain
    specs: tuple[ExperimentSpec, ...]
    """One a stage, with folders made absolute; models of stages stay ``stage:NAME``."""

    first: Prepared
    """The first stage, ready to begin."""

    summary: tuple[str, ...]
    """The chain's stages, budget and disk use, a line each."""

    plans: tuple[tuple[str, ...], ...]
    """What each stage will do, in sentences."""


def prepare_chain(
    path: Path, overrides: Sequence[str] = (), *, offline: bool = False
) -> PreparedChain:
    """Read a chain and check every stage of it; nothing is written.

    A model that a stage is yet to make has the tensors, headers and tokenizer of that stage's
    reference, so that is what later stages are checked with. Where a stage varies depth, how
    many layers its models have is known only when they are made.

    Raises:
        ConfigError: Every problem of every stage, each with file and line.
        CheckpointError: The same, where all problems are of source models.
    """
    chain = read_chain(path, overrides)
    found = _Found(len(chain.stages), list(chain.problems))
    prepared = [found.prepared(chain, stage, offline=offline) for stage in chain.stages]
    found.raise_any()
    whole = [each for each in prepared if each is not None]
    specs = tuple(
        with_places(
            each.spec.model_copy(update={"space": stage.experiment.spec.space}),
            models_of_stages(stage.experiment.spec),
        )
        for each, stage in zip(whole, chain.stages, strict=True)
    )
    plans = tuple(plan(each, Budget(**each.spec.budget.model_dump())) for each in whole)
    return PreparedChain(chain, specs, whole[0], _summary(chain, whole), plans)


class _Found:
    """Problems of all stages together; those that all stages share are told once."""

    def __init__(self, stages: int, config: list[str]) -> None:
        self._stages = stages
        self._read = config
        self._whole: dict[str, Prepared] = {}
        """Stages that nothing is wrong with, by name."""

        self._config: dict[str, list[str]] = {}
        self._models: dict[str, list[str]] = {}

    def prepared(self, chain: Chain, stage: Stage, *, offline: bool) -> Prepared | None:
        """A stage prepared with stand-ins; None where something is wrong, which is noted."""
        experiment = with_stand_ins(chain.stages, stage)
        if experiment is None:
            return None  # it names a stage that there is not, which is said already
        try:
            if stage.fix is not None and (earlier := self._whole.get(stage.fix.stage)):
                # otherwise what is wrong with that stage is said
                experiment = fixed_in_the_middle(
                    experiment, stage.fix, earlier.spec, earlier.space
                )
            prepared = prepare(experiment, offline=offline)
            make_study_optimizer(prepared, first_genomes(prepared.space))
        except ConfigError as error:
            self._note(self._config, stage, error.problems)
        except CheckpointError as error:
            self._note(self._models, stage, str(error).splitlines())
        else:
            self._whole[stage.name] = prepared
            return prepared
        return None

    def raise_any(self) -> None:
        """Raise what was found."""
        config = [*self._read, *self._told(self._config)]
        models = self._told(self._models)
        if config:
            raise ConfigError(list(dict.fromkeys([*models, *config])))
        if models:
            raise CheckpointError("\n".join(models))

    @staticmethod
    def _note(kind: dict[str, list[str]], stage: Stage, problems: Sequence[str]) -> None:
        for problem in problems:
            kind.setdefault(problem, []).append(stage.name)

    def _told(self, kind: Mapping[str, Sequence[str]]) -> list[str]:
        return [
            problem if len(names) == self._stages else f"{problem} (stage {', '.join(names)})"
            for problem, names in kind.items()
        ]


def _summary(chain: Chain, prepared: Sequence[Prepared]) -> tuple[str, ...]:
    """Stages, budget and disk use of the chain."""
    names = [stage.name for stage in chain.stages]
    lines = [f"{chain.name}: {len(names)} stages, {' then '.join(names)}; {_budget(prepared)}"]
    needed = 0
    for stage, each in zip(chain.stages[:-1], prepared, strict=False):
        if not stage.keep:
            continue
        size = _largest(each)
        needed += stage.keep * size
        models = "1 model" if stage.keep == 1 else f"{stage.keep} models"
        lines.append(
            f"stage {stage.name} keeps {models}, at most {_megabytes(size)} each on disk, in "
            f"{stage.folder}/kept"
        )
    free = shutil.disk_usage(Path.cwd()).free
    if needed > free:
        lines.append(
            f"note: all kept models may take {_megabytes(needed)}, and the disk of this folder "
            f"has {_megabytes(free)} free."
        )
    return (*lines, *_depth_notes(chain, prepared))


def _budget(prepared: Sequence[Prepared]) -> str:
    """The sum of the stages' budgets, as far as all have the same limit."""
    budgets = [each.spec.budget for each in prepared]
    parts = []
    for key, words in (
        ("candidates", "candidates"),
        ("minutes", "minutes"),
        ("item_evaluations", "item evaluations"),
    ):
        limits = [getattr(budget, key) for budget in budgets]
        if all(limit is not None for limit in limits):
            parts.append(f"{sum(limits):,g} {words}")
    return " or ".join(parts) + " in all" if parts else "each with a budget of its own"


def _largest(prepared: Prepared) -> int:
    """Bytes of the largest model that a stage can keep."""
    reference = prepared.sources[prepared.models.sources[0].name]
    deepest = resident_recipe(prepared.models, prepared.space)
    entries = sum(info.entries for info in reference.tensors.values())
    return round(reference.size * resident_entries(deepest, prepared.sources) / entries)


def _depth_notes(chain: Chain, prepared: Sequence[Prepared]) -> list[str]:
    """Which stages cannot be sure of what they will be given."""
    varying = {
        stage.name
        for stage, each in zip(chain.stages, prepared, strict=True)
        if each.space.most_layers is not None
    }
    notes = []
    for stage in chain.stages:
        spec = stage.experiment.spec
        parts = [p for model in spec.models.all.values() for p in model_parts(model)]
        given = [model.stage for part in parts if (model := StageModel.read(part))]
        doubtful = [name for name in dict.fromkeys(given) if name in varying]
        if doubtful and len(spec.models.all) > 1:
            notes.append(
                f"note: stage {' and '.join(doubtful)} may keep models of another depth than "
                f"its sources; stage {stage.name} needs as many layers in all of its models, "
                "and ends the chain where they differ."
            )
    return notes


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
