"""Finished model folders, from recipe files and from trials of a study."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.plugins import use_plugins
from evomerge.core.recipe import Recipe, Source
from evomerge.experiment.places import moved
from evomerge.experiment.recipe_files import read_any_recipe, tensor_names
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.vocabularies import POLICIES, fitted, merged_tokenizer
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.merge_plan import idle_rules
from evomerge.merging.model_card import model_card
from evomerge.merging.recipe_check import validate_recipe
from evomerge.merging.statistics_files import SourceStatistics
from evomerge.merging.study_memory import StudyMemory
from evomerge.recipes.recipe_yaml import recipe_to_yaml
from evomerge.report.final_phase import trial_scores
from evomerge.store.study_store import StudyStore


@dataclass(frozen=True)
class MergeOptions:
    """What a merge to disk may be told."""

    models: Mapping[str, str] = field(default_factory=dict)
    """New places of source models by name."""

    statistics: Mapping[str, str] = field(default_factory=dict)
    """Statistics files, or folders of them, by the name of the source model."""

    tokenizer_mismatch: str = "error"
    """As in an experiment file."""

    offline: bool = False
    """Ask no hub for anything."""

    allow_pickle: bool = False
    """Whether PyTorch's pickle files may be read where a source has no safetensors."""


def merge_recipe(path: Path, out: Path, options: MergeOptions = MergeOptions()) -> None:
    """Materialise a recipe file as a Hugging Face model folder.

    Args:
        path: The recipe's YAML, or a mergekit configuration.
        out: The folder to make; it must not exist, or be empty.
        options: See there.

    Raises:
        ConfigError: The recipe is wrong.
        CheckpointError: A source model is, or is not the one that the recipe was made with.
        StoreError: ``out`` is in use or cannot be written; nothing is left behind.
    """
    names = tensor_names(offline=options.offline, allow_pickle=options.allow_pickle)
    recipe = read_any_recipe(path, options.models, names)
    statistics = {n: str(Path(place).resolve()) for n, place in options.statistics.items()}
    recipe = _placed(recipe, {}, statistics)
    _materialise(recipe, out, {}, options, by_hand=True)


def export_trial(
    run_dir: Path, number: int, out: Path, options: MergeOptions = MergeOptions()
) -> None:
    """Materialise a trial of a study, with its scores in the model card.

    Raises:
        StoreError: No study, or no such trial; or ``out`` cannot be written.
        ConfigError: The trial failed, so that there is nothing to export.
        CheckpointError: A source model has changed or moved.
    """
    with StudyStore.open(run_dir, read_only=True) as store:
        trial = store.trial(number)
        spec = ExperimentSpec.model_validate(store.meta("experiment"))
        spec = moved(spec, run_dir, store.meta("relative_places") or {})
        use_plugins(spec.plugins)
        scores = trial_scores(store, trial)
    if trial.failure is not None:
        raise ConfigError(f"trial {number} failed ({trial.failure.reason}); nothing to export.")
    statistics = {**spec.models.statistics, **options.statistics}
    recipe = _placed(trial.recipe, {**spec.models.all, **options.models}, statistics)
    options = replace(
        options,
        tokenizer_mismatch=spec.models.tokenizer_mismatch,
        allow_pickle=spec.models.allow_pickle,
    )
    _materialise(recipe, out, scores, options)


def _placed(recipe: Recipe, models: Mapping[str, str], statistics: Mapping[str, str]) -> Recipe:
    names = [source.name for source in recipe.sources]
    problems = [
        f"{option}: the recipe has no source {unknown}; it has {names}."
        for option, given in (("--model", models), ("--statistics", statistics))
        if (unknown := [name for name in given if name not in names])
    ]
    if problems:
        raise ConfigError(problems)
    return recipe.with_sources(
        {
            source.name: replace(
                source,
                model=models.get(source.name, source.model),
                statistics=statistics.get(source.name, source.statistics),
            )
            for source in recipe.sources
        }
    )


def _materialise(
    recipe: Recipe,
    out: Path,
    scores: Mapping[str, Mapping[str, str]],
    options: MergeOptions,
    *,
    by_hand: bool = False,
) -> None:
    """Merge; in a recipe written by hand a rule that is for nothing is a mistake."""
    problems = validate_recipe(recipe)
    if problems:
        raise ConfigError(problems)
    sources, tokenizer = _open(recipe, options)
    recipe = replace(recipe, tokenizer=tokenizer)
    text = recipe_to_yaml(recipe)
    card = model_card(text, recipe, scores)
    engine = MergeEngine(sources, memory=StudyMemory(0, 0))  # nothing is asked for twice
    idle = idle_rules(recipe, engine.plan(recipe)) if by_hand else []
    if idle:
        raise ConfigError(idle)
    export(engine, recipe, out, card=card, recipe_text=text)


def _open(recipe: Recipe, options: MergeOptions) -> tuple[dict[str, SourceModel], str | None]:
    """The sources that the rules use, checked to be the ones the recipe was made with.

    Beside them by which tokenizer they are aligned. A recipe that says so was made with all
    of its sources aligned, since any may have tokens that the others lack.
    """
    used = {name for rule in recipe.rules for name in rule.models} | {recipe.reference}
    policy, known = options.tokenizer_mismatch, [source.name for source in recipe.sources]
    if policy not in (*POLICIES, *known):
        raise ConfigError(
            f"--tokenizer-mismatch: expected {', '.join(POLICIES)} or a source "
            f"({', '.join(known)}), got {policy!r}."
        )
    if recipe.tokenizer is not None or policy not in POLICIES[:2]:
        used = set(known)
    sources: dict[str, SourceModel] = {}
    problems: list[str] = []
    for source in recipe.sources:
        if source.name not in used:
            continue
        try:
            sources[source.name] = _opened(source, options)
        except EvomergeError as error:
            problems.append(f"source {source.name}: {error}")
    if not problems:
        problems = SourceStatistics(sources).problems(recipe)
    tokenizer = recipe.tokenizer
    if not problems:
        tokenizer = tokenizer or merged_tokenizer(policy, sources, recipe.reference)
        base = recipe.base if recipe.base in sources else None
        sources, problems = fitted(sources, recipe.reference, base, policy, tokenizer)
    if problems:
        raise CheckpointError("\n".join(problems))
    return sources, tokenizer


def _opened(source: Source, options: MergeOptions) -> SourceModel:
    opened = open_source(
        source.model, offline=options.offline, allow_pickle=options.allow_pickle
    )
    if source.fingerprint not in (None, opened.fingerprint):
        raise CheckpointError(
            f"{source.model} holds other weights than the recipe was made with; give the right "
            "folder with --model, or delete its 'fingerprint' from the recipe to merge what is "
            "there."
        )
    return opened
