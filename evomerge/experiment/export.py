"""Finished model folders, from recipe files and from trials of a study."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.recipe import Recipe, Source
from evomerge.experiment.places import moved
from evomerge.experiment.prepare import mismatches
from evomerge.experiment.spec import ExperimentSpec, TokenizerMismatch
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.model_card import model_card
from evomerge.merging.recipe_check import validate_recipe
from evomerge.recipes.recipe_yaml import read_recipe, recipe_to_yaml
from evomerge.report.final_phase import trial_scores
from evomerge.store.study_store import StudyStore


@dataclass(frozen=True)
class MergeOptions:
    """What a merge to disk may be told."""

    models: Mapping[str, str] = field(default_factory=dict)
    """New places of source models by name."""

    tokenizer_mismatch: TokenizerMismatch = "error"
    """As in an experiment file."""

    offline: bool = False
    """Ask no hub for anything."""


def merge_recipe(path: Path, out: Path, options: MergeOptions = MergeOptions()) -> None:
    """Materialise a recipe file as a Hugging Face model folder.

    Args:
        path: The recipe's YAML.
        out: The folder to make; it must not exist, or be empty.
        options: See there.

    Raises:
        ConfigError: The recipe is wrong.
        CheckpointError: A source model is, or is not the one that the recipe was made with.
        StoreError: ``out`` is in use or cannot be written; nothing is left behind.
    """
    _materialise(_placed(read_recipe(path), options.models), out, {}, options)


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
        scores = trial_scores(store, trial)
    if trial.failure is not None:
        raise ConfigError(f"trial {number} failed ({trial.failure.reason}); nothing to export.")
    recipe = _placed(trial.recipe, {**spec.models.all, **options.models})
    options = replace(options, tokenizer_mismatch=spec.models.tokenizer_mismatch)
    _materialise(recipe, out, scores, options)


def _placed(recipe: Recipe, models: Mapping[str, str]) -> Recipe:
    names = [source.name for source in recipe.sources]
    unknown = [name for name in models if name not in names]
    if unknown:
        raise ConfigError(f"--model: the recipe has no source {unknown}; it has {names}.")
    return recipe.with_sources(
        {
            source.name: Source(source.name, models[source.name], source.fingerprint)
            for source in recipe.sources
            if source.name in models
        }
    )


def _materialise(
    recipe: Recipe, out: Path, scores: Mapping[str, Mapping[str, str]], options: MergeOptions
) -> None:
    problems = validate_recipe(recipe)
    if problems:
        raise ConfigError(problems)
    sources = _open(recipe, options)
    text = recipe_to_yaml(recipe)
    card = model_card(text, recipe, scores)
    export(MergeEngine(sources), recipe, out, card=card, recipe_text=text)


def _open(recipe: Recipe, options: MergeOptions) -> dict[str, SourceModel]:
    """The sources that the rules use, checked to be the ones the recipe was made with."""
    used = {name for rule in recipe.rules for name in rule.models} | {recipe.reference}
    sources: dict[str, SourceModel] = {}
    problems: list[str] = []
    for source in recipe.sources:
        if source.name not in used:
            continue
        try:
            sources[source.name] = opened = open_source(source.model, offline=options.offline)
        except EvomergeError as error:
            problems.append(f"source {source.name}: {error}")
            continue
        if source.fingerprint not in (None, opened.fingerprint):
            problems.append(
                f"source {source.name}: {source.model} holds other weights than the recipe was "
                "made with; give the right folder with --model, or delete its 'fingerprint' "
                "from the recipe to merge what is there."
            )
    if not problems:
        problems = mismatches(sources, recipe.reference, options.tokenizer_mismatch)
    if problems:
        raise CheckpointError("\n".join(problems))
    return sources
