"""Recipe files of either kind: evomerge's own, and mergekit configurations both ways."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.recipe_check import spelled_out, validate_recipe
from evomerge.recipes.from_mergekit import TensorNames, recipe_from_mergekit, short_names
from evomerge.recipes.mergekit_config import is_mergekit, parse_mergekit
from evomerge.recipes.recipe_yaml import placed, read_recipe, recipe_to_yaml
from evomerge.recipes.to_mergekit import mergekit_notes, recipe_to_mergekit
from evomerge.recipes.yaml_text import YamlError, dump_yaml, load_yaml


def read_any_recipe(path: Path, models: Mapping[str, str], tensor_names: TensorNames) -> Recipe:
    """The recipe in a file, which may be a mergekit configuration.

    Args:
        path: The YAML file; relative places are looked for from its folder first.
        models: New places of sources by name; those of a mergekit configuration are named by
            the ends of their places.
        tensor_names: The names of a model's tensors, asked for mergekit configurations.

    Raises:
        ConfigError: With everything that is wrong in the file.
        CheckpointError: A model that has to be looked at cannot be read.
    """
    try:
        plain = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YamlError):
        plain = None
    if is_mergekit(plain):
        recipe = _from_mergekit(plain, path, models, tensor_names)
    else:
        recipe = read_recipe(path)
    unknown = [name for name in models if name not in [s.name for s in recipe.sources]]
    if unknown:
        names = [source.name for source in recipe.sources]
        raise ConfigError(f"--model: the recipe has no source {unknown}; it has {names}.")
    return recipe.with_sources(
        {
            source.name: replace(source, model=models[source.name])
            for source in recipe.sources
            if source.name in models
        }
    )


def recipe_text(path: Path, models: Mapping[str, str], *, offline: bool = False) -> str:
    """A recipe file, or a mergekit configuration, as a recipe of evomerge.

    Raises:
        ConfigError: With everything that is wrong in the file.
        CheckpointError: A model that has to be looked at cannot be read.
    """
    recipe = read_any_recipe(path, models, tensor_names(offline=offline))
    _check(recipe, path)
    return recipe_to_yaml(recipe)


def mergekit_text(path: Path, models: Mapping[str, str], *, offline: bool = False) -> str:
    """A recipe file as a mergekit configuration, with what that does not say in comments.

    Raises:
        ConfigError: The file is wrong, or with every reason why mergekit cannot say it.
        CheckpointError: A source cannot be read.
    """
    names = tensor_names(offline=offline)
    recipe = read_any_recipe(path, models, names)
    _check(recipe, path)
    plain = recipe_to_mergekit(spelled_out(recipe), names)
    comments = "".join(f"# {note}\n" for note in mergekit_notes(recipe))
    return comments + dump_yaml(plain)


def _check(recipe: Recipe, path: Path) -> None:
    problems = validate_recipe(recipe)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])


def tensor_names(*, offline: bool, allow_pickle: bool = False) -> TensorNames:
    """Names read from the headers of models, each of which is opened once."""
    known: dict[str, tuple[str, ...]] = {}

    def names(model: str) -> tuple[str, ...]:
        if model not in known:
            source = open_source(model, offline=offline, allow_pickle=allow_pickle)
            known[model] = tuple(source.tensors)
        return known[model]

    return names


def _from_mergekit(
    plain: object, path: Path, models: Mapping[str, str], names: TensorNames
) -> Recipe:
    try:
        called = short_names(parse_mergekit(plain).models)
        places = {
            model: models.get(name, placed(model, path.parent))
            for model, name in called.items()
        }
        recipe = recipe_from_mergekit(plain, lambda model: names(places[model]))
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
    return recipe.with_sources({n: Source(n, places[model]) for model, n in called.items()})
