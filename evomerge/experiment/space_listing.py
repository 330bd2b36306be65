"""What a search space holds: of an experiment's models, or of made-up ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Source
from evomerge.core.streams import stream
from evomerge.experiment.load import Experiment, load_experiment
from evomerge.experiment.models_and_space import (
    Problems,
    open_models_and_space,
    signatures,
)
from evomerge.experiment.presets import find_yaml, preset_root
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.stages_reader import read_chain
from evomerge.experiment.stages_stand_ins import fixed_in_the_middle, with_stand_ins
from evomerge.experiment.yaml_lines import YamlFile, override, parse_override, read_yaml
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene, genome_from_unit
from evomerge.spaces.registry import PARAMETER, SPACES, make_space
from evomerge.spaces.space import SearchSpace, SourceModels

_PROJECTIONS = ("o_proj", "down_proj")
"""Of made-up models: those of Llama and most architectures since."""


@dataclass(frozen=True)
class MadeUpModels:
    """Models to show a space over where no experiment names any."""

    experts: int | None = None
    """None: three, or two for spaces over pairs."""

    layers: int = 24
    base: bool = True

    def models(self, experts: int) -> SourceModels:
        """Experts ``a``, ``b`` …, and a base.

        Raises:
            ConfigError: There cannot be so many.
        """
        if not 1 <= experts <= 100 or not 1 <= self.layers <= 1000:
            raise ConfigError(
                f"--experts {experts}, --layers {self.layers}: expected 1 to 100 experts "
                "and 1 to 1000 layers."
            )
        letters = "abcdefghijklmnopqrstuvwxyz"
        names = letters if experts <= len(letters) else [f"m{k}" for k in range(1, 101)]
        return SourceModels(
            Source("base", "base") if self.base else None,
            tuple(Source(name, name) for name in names[:experts]),
            self.layers,
            output_projections=_PROJECTIONS,
        )


@dataclass(frozen=True)
class ListedSpace:
    """A search space with what it was built from."""

    place: Path
    """The file that was read."""

    kind: str
    comment: str
    """What the space's file says on top, without the signs of a comment."""

    space: SearchSpace
    models: SourceModels
    made_up: bool
    """Whether the models stand for others."""

    stage: str | None = None
    """Of a chain; models that earlier stages are yet to make have stand-ins."""

    fixed: str = ""
    """What it takes from an earlier stage, in words."""

    def sample(self, count: int, seed: int) -> list[tuple[Genome, Recipe]]:
        """Uniformly drawn genomes with their recipes; the same for the same seed."""
        random = stream(seed, "space", "sample")
        genes = self.space.genes
        genomes = [
            genome_from_unit(genes, random.random(len(genes)).tolist()) for _ in range(count)
        ]
        return [(genome, self.space.decode(genome)) for genome in genomes]

    def middle(self) -> tuple[Genome, Recipe]:
        """The genome in the middle of every range, with its recipe."""
        genes = self.space.genes
        genome = genome_from_unit(genes, [0.5] * len(genes))
        return genome, self.space.decode(genome)


def list_space(
    given: str,
    made_up: MadeUpModels,
    overrides: Sequence[str] = (),
    *,
    offline: bool = False,
) -> ListedSpace:
    """Build the space of an experiment file, a space's file, or a preset.

    Args:
        given: A path, or a preset's name.
        made_up: Models to take where the file is no experiment.
        overrides: ``KEY=VALUE`` assignments, as for the file on the command line.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: There is no such file, or the space is wrong; every problem at once.
        CheckpointError: Source models of the experiment cannot be read.
    """
    path = find_yaml(given, "search_spaces", Path())
    file = read_yaml(path)
    if "models" in file.data or "tasks" in file.data:
        return _of_opened(load_experiment(path, overrides), offline=offline)
    data = _overridden(file.data, overrides)
    kind = str(data.pop("kind", PARAMETER))
    known = signatures()
    first: ConfigError | None = None
    for experts in (3, 2) if made_up.experts is None else (made_up.experts,):
        models = made_up.models(experts)
        try:
            space = make_space(kind, data, models, known)
        except ConfigError as error:
            first = first or error
            continue
        return ListedSpace(path, kind, _comment(path), space, models, made_up=True)
    wrong = first.problems if first else []
    raise ConfigError([_placed(problem, file) for problem in wrong]) from first


def list_stages(
    path: Path,
    overrides: Sequence[str] = (),
    stage: str | None = None,
    *,
    offline: bool = False,
) -> list[ListedSpace]:
    """Build the spaces of a chain's stages, each over its own models.

    Models that earlier stages are yet to make have the stand-ins that ``validate`` checks
    with, and values that they are yet to find are the middle of their ranges.

    Args:
        path: The chain's file.
        overrides: As for ``evomerge run``.
        stage: Of which alone; None is all of them.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: There is no such stage, or something is wrong with the chain.
        CheckpointError: Source models cannot be read.
    """
    chain = read_chain(path, overrides)
    if chain.problems:
        raise ConfigError(list(chain.problems))
    names = [each.name for each in chain.stages]
    if stage is not None and stage not in names:
        raise ConfigError(f"--stage: {unknown('stage', stage, names)}.")
    needed = chain.stages if stage is None else chain.stages[: names.index(stage) + 1]
    opened: dict[str, tuple[ExperimentSpec, SearchSpace]] = {}
    listed = []
    for each in needed:
        experiment = with_stand_ins(chain.stages, each)
        if experiment is None:
            raise ConfigError(f"stage {each.name}: names a model of no earlier stage.")
        fixed = ""
        if each.fix is not None:
            experiment = fixed_in_the_middle(experiment, each.fix, *opened[each.fix.stage])
            fixed = (
                f"{', '.join(each.fix.parameters)} as the best candidate of stage "
                f"{each.fix.stage} will have it; here the middle of its range there"
            )
        shown = _of_opened(experiment, offline=offline)
        opened[each.name] = (experiment.spec, shown.space)
        listed.append(replace(shown, stage=each.name, fixed=fixed))
    return listed if stage is None else listed[-1:]


def presets() -> dict[str, tuple[str, str]]:
    """Kind and first sentence of the comment of every ready search space, by name."""
    found = {}
    for path in sorted((preset_root() / "search_spaces").glob("*.yaml")):
        kind = str(read_yaml(path).data.get("kind", PARAMETER))
        found[path.stem] = (kind, _first_sentence(_comment(path)))
    return found


def kinds() -> dict[str, str]:
    """The kinds of search spaces, evomerge's own and plugins', with a line each."""
    return {name: kind.summary for name, kind in SPACES.items()}


def gene_range(gene: Gene) -> str:
    """What a gene may be, in a few words."""
    if isinstance(gene, FloatGene):
        return f"[{gene.low:g}, {gene.high:g}]" + (", by ratio" if gene.log else "")
    if isinstance(gene, IntGene):
        return f"{gene.low} to {gene.high}, whole"
    if isinstance(gene, ChoiceGene):
        return " | ".join(map(str, gene.options))
    return "a table"


def _of_opened(experiment: Experiment, *, offline: bool) -> ListedSpace:
    """The space of an experiment over its own models."""
    problems, path = Problems(), experiment.path
    opened = open_models_and_space(experiment, problems, offline=offline)
    problems.raise_any()
    if opened.space is None:
        raise ConfigError(f"{path}: the search space could not be built.")
    kind = getattr(opened.spec.space, "kind", PARAMETER)
    preset = experiment.files.get("space")
    comment = _comment(Path(preset.path)) if preset else ""
    return ListedSpace(path, kind, comment, opened.space, opened.models, made_up=False)


def _overridden(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A space's keys with ``space.KEY=VALUE`` assignments."""
    within: dict[str, Any] = {"space": data}
    for change in map(parse_override, overrides):
        if change.path[0] != "space" or len(change.path) == 1:
            raise ConfigError(
                f"{change.shown}: the file is a search space alone; expected space.KEY=VALUE."
            )
        within = override(within, change)
    return dict(within["space"])


def _placed(problem: str, file: YamlFile) -> str:
    """A problem with file and line in place of ``space.``."""
    keys, colon, said = problem.removeprefix("space.").partition(":")
    return f"{file.where(keys.split('.'))}: {keys}{colon}{said}"


def _comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _first_sentence(text: str) -> str:
    for end in (". ", ": "):
        first, found, _ = text.partition(end)
        if found and len(first) > 20:
            return first.rstrip(".")
    return text.rstrip(".")
