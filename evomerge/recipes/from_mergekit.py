"""Recipes from mergekit configurations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.model_spelling import model_parts
from evomerge.core.recipe import UNION, Recipe, Rule, Slice, Source
from evomerge.core.tensor_names import count_layers
from evomerge.recipes.mergekit_config import Input, MergekitConfig, parse_mergekit
from evomerge.recipes.mergekit_merges import filters, merges
from evomerge.recipes.mergekit_methods import METHODS
from evomerge.recipes.rule_list import rules_for

TensorNames = Callable[[str], Sequence[str]]
"""The names of a model's tensors, given what a configuration calls the model."""


def recipe_from_mergekit(plain: Any, tensor_names: TensorNames, seed: int = 0) -> Recipe:  # noqa: ANN401
    """The recipe that merges as mergekit would.

    Every parameter is written out, those at mergekit's defaults too. Arithmetic is in float32
    whatever ``dtype`` the configuration asks for; the result is rounded once.

    Args:
        plain: The content of the YAML file.
        tensor_names: Tells the layers of models and which tensors a filter matches.
        seed: Of the random masks, which are not those that mergekit would draw.

    Raises:
        ConfigError: With everything that is wrong, or that evomerge does not do.
        EvomergeError: As ``tensor_names`` does.
    """
    config = _with_base_among_models(parse_mergekit(plain))
    models = dict.fromkeys(each.model for part in config.slices for each in part.inputs)
    tensors = {model: tensor_names(model) for model in models}
    layers = {model: count_layers(list(found)) for model, found in tensors.items()}
    problems = _base_problems(config) + _layer_problems(config, layers)
    if problems:
        raise ConfigError(problems)
    config = _with_layers(config, layers)
    names = short_names(config.models)
    found = merges(config, tensors, names)
    base = _base(config)
    recipe = Recipe(
        sources=tuple(Source(name, model) for model, name in names.items()),
        rules=rules_for(found, filters(config)),
        base=None if base is None else names[base],
        seed=seed,
        dtype=config.dtype,
        tokenizer=_tokenizer(config, names),
    )
    return recipe if _keeps_numbers(config, layers) else _sliced(recipe, config, found)


def short_names(models: Sequence[str]) -> dict[str, str]:
    """A name for each of several models: the last part of its path, more of it where needed."""
    names: dict[str, str] = {}
    for model in models:
        places = [_words(place) for place in model_parts(model)]
        tails = (
            "+".join("-".join(words[-count:]) for words in places)
            for count in range(1, max(map(len, places)) + 1)
        )
        plain = "+".join(words[-1] for words in places)
        free = [name for name in tails if name not in {*names.values(), UNION}]
        names[model] = free[0] if free else f"{plain}-{len(names) + 1}"
    return names


def _words(place: str) -> list[str]:
    parts = PurePath(place.partition("@")[0]).parts
    return [part for part in parts if part not in ("/", ".", "..", "~")] or ["model"]


def _with_base_among_models(config: MergekitConfig) -> MergekitConfig:
    """What mergekit does with a base that is not listed under ``models``."""
    (first, *others), base = config.slices, config.base
    listed = [each.model for each in first.inputs]
    if others or base is None or base in listed or any(i.layers for i in first.inputs):
        return config
    return replace(config, slices=(replace(first, inputs=(*first.inputs, Input(base))),))


def _with_layers(config: MergekitConfig, layers: Mapping[str, int]) -> MergekitConfig:
    parts = [
        replace(
            part,
            inputs=tuple(
                replace(each, layers=each.layers or (0, layers[each.model]))
                for each in part.inputs
            ),
        )
        for part in config.slices
    ]
    return replace(config, slices=tuple(parts))


def _base(config: MergekitConfig) -> str | None:
    """The recipe's base: of a method on differences that of its slices, else the file's."""
    if METHODS[config.method].base in ("required", "used"):
        return next((part.base for part in config.slices if part.base), config.base)
    return config.base


def _base_problems(config: MergekitConfig) -> list[str]:
    wanted = METHODS[config.method].base
    if wanted == "a model":
        return []
    problems = []
    bases = [part.base or config.base for part in config.slices]
    for number, (part, base) in enumerate(zip(config.slices, bases, strict=True)):
        where = f"slices[{number}]: " if len(bases) > 1 else ""
        if base is None:
            if wanted != "used":
                problems.append(f"{where}{config.method} needs a base_model.")
        elif base not in [each.model for each in part.inputs]:
            problems.append(f"{where}the base_model {base} must be among the sources.")
        if wanted == "first" and len(part.inputs) != 2:
            problems.append(
                f"{where}{config.method} merges the base_model and one more, found "
                f"{[each.model for each in part.inputs]}."
            )
    if wanted != "first" and len(set(bases)) > 1:
        found = sorted(map(str, set(bases)))
        problems.append(f"slices: {config.method} needs one base_model for all, found {found}.")
    return problems


def _layer_problems(config: MergekitConfig, layers: Mapping[str, int]) -> list[str]:
    problems = []
    for number, part in enumerate(config.slices):
        for each in part.inputs:
            if each.layers is not None and each.layers[1] > layers[each.model]:
                problems.append(
                    f"slices[{number}]: layer_range {[*each.layers]} of {each.model}, "
                    f"which has {layers[each.model]} layers."
                )
        counts = {i.model: layers[i.model] for i in part.inputs if i.layers is None}
        if len(set(counts.values())) > 1:
            problems.append(
                f"models: they differ in layers ({counts}); say with 'slices' which to merge."
            )
    return problems


def _keeps_numbers(config: MergekitConfig, layers: Mapping[str, int]) -> bool:
    """Whether every layer is made of all models' layers of its own number, none left out."""
    start = 0
    for part in config.slices:
        ranges = {each.layers for each in part.inputs}
        size = max(stop - first for first, stop in (r or (0, 0) for r in ranges))
        if ranges != {(start, start + size)}:
            return False
        start += size
    return set(layers.values()) == {start}


def _sliced(recipe: Recipe, config: MergekitConfig, found: Mapping[str, Rule]) -> Recipe:
    names = {source.model: source.name for source in recipe.sources}
    slices = tuple(
        Slice({names[i.model]: i.layers for i in part.inputs if i.layers is not None})
        for part in config.slices
    )

    def is_sound(rules: Sequence[Rule]) -> bool:
        try:
            replace(recipe, rules=tuple(rules), slices=slices)
        except ConfigError:
            return False
        return True

    return replace(recipe, rules=rules_for(found, filters(config), is_sound), slices=slices)


def _tokenizer(config: MergekitConfig, names: Mapping[str, str]) -> str | None:
    if config.tokenizer in (None, UNION):
        return config.tokenizer
    if config.tokenizer == "base":
        return names[config.base or config.models[0]]
    return names[config.tokenizer]
