"""Recipes as mergekit configurations, where mergekit can say the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import UNION, Recipe, Rule, Value, number_of
from evomerge.recipes.filter_list import setting_for
from evomerge.recipes.from_mergekit import TensorNames
from evomerge.recipes.merged_runs import Run, runs_of
from evomerge.recipes.mergekit_methods import METHODS, MergekitMethod

_NEUTRAL: Mapping[str, Value] = {"lambda": 1.0, "lines": 0.0}
"""Parameters that mergekit lacks, and where they change nothing."""

_PAIR = 2
_STOCHASTIC = ("dare_linear", "dare_ties", "della", "della_linear")


def recipe_to_mergekit(recipe: Recipe, tensor_names: TensorNames) -> dict[str, Any]:
    """The configuration by which mergekit merges as the recipe does.

    Args:
        recipe: With every parameter spelled out: what a rule leaves to a default would be left
            to mergekit's, which is another one here and there.
        tensor_names: The names of a source's tensors, given its ``model``.

    Raises:
        ConfigError: With every reason why mergekit cannot say it.
        EvomergeError: As ``tensor_names`` does.
    """
    problems = _method_problems(recipe) + _source_problems(recipe)
    if not problems:
        recipe = replace(recipe, rules=tuple(map(_with_scale_of_models, recipe.rules)))
        merged = {name for rule in recipe.rules for name in rule.models} | {recipe.reference}
        tensors = {s.name: tensor_names(s.model) for s in recipe.sources if s.name in merged}
        runs = runs_of(recipe, tensors)
        problems = _model_problems(recipe, runs)
        if not problems:
            return _config(recipe, runs)
    raise ConfigError([f"not expressible in mergekit: {problem}" for problem in problems])


def mergekit_notes(recipe: Recipe) -> list[str]:
    """What a mergekit configuration does not carry over, though it merges by the same rules."""
    notes = []
    if any(rule.operator in _STOCHASTIC for rule in recipe.rules):
        notes.append(
            f"mergekit draws other random masks than seed {recipe.seed} gives, and without "
            "--random-seed new ones on each run; only their distribution is the same."
        )
    if recipe.dtype is None:
        notes.append(
            "mergekit computes in the sources' dtype where none is named; evomerge computes in "
            "float32 and rounds once. Add 'dtype: float32' and an out_dtype for the same."
        )
    return notes


def _method_problems(recipe: Recipe) -> list[str]:
    operators = list(dict.fromkeys(rule.operator for rule in recipe.rules))
    problems = [
        f"{unknown('merge_method', name, METHODS)}."
        for name in operators
        if name not in METHODS
    ]
    if len(operators) > 1:
        problems.append(f"it has one merge_method for all tensors; the recipe has {operators}.")
    for number, rule in enumerate(recipe.rules, 1):
        if rule.operator in METHODS:
            found = _parameter_problems(rule, METHODS[rule.operator])
            problems += [f"rule {number}: {problem}" for problem in found]
    if recipe.base is None and any(
        METHODS[name].base == "required" for name in operators if name in METHODS
    ):
        problems.append("differences to a base are merged; give the recipe a base.")
    return problems


def _parameter_problems(rule: Rule, method: MergekitMethod) -> list[str]:
    given = [
        *rule.parameters.items(),
        *(i for own in rule.models.values() for i in own.items()),
    ]
    known = (*method.per_model, *method.whole)
    foreign = dict.fromkeys(
        name
        for name, value in given
        if name not in known and (name not in _NEUTRAL or value != _NEUTRAL[name])
    )
    problems = [f"{rule.operator} has no parameter {name!r} there." for name in foreign]
    if rule.scale != 1 and "scale" not in method.per_model:
        problems.append(
            f"{rule.operator} cannot scale the merged tensor there (scale: {rule.scale}); only "
            "passthrough can."
        )
    for name, default in {**method.per_model, **method.whole}.items():
        everywhere = name in rule.parameters or (
            name in method.per_model and all(name in own for own in rule.models.values())
        )
        if default is None and not everywhere:
            problems.append(f"{rule.operator} needs {name!r}, which the rule does not give.")
    return problems


def _with_scale_of_models(rule: Rule) -> Rule:
    """A rule whose scale is in the models' parameter of that name, which mergekit has."""
    if rule.scale == 1:
        return rule
    models = {
        model: {
            **own,
            "scale": rule.scale
            * number_of(own.get("scale", rule.parameters.get("scale", 1.0))),
        }
        for model, own in rule.models.items()
    }
    return replace(rule, models=models, scale=1.0)


def _source_problems(recipe: Recipe) -> list[str]:
    by_place: dict[str, list[str]] = {}
    for source in recipe.sources:
        by_place.setdefault(source.model, []).append(source.name)
    return [
        f"the sources {names} are one model, {place}; give each a copy of its own."
        for place, names in by_place.items()
        if len(names) > 1
    ]


def _model_problems(recipe: Recipe, runs: Sequence[Run]) -> list[str]:
    """Runs whose tensors are merged from models, or in an order, that one slice cannot have."""
    method = METHODS[recipe.rules[-1].operator]
    problems = []
    for run in runs:
        lists = sorted({tuple(_of_merge(rule, recipe)) for rule in run.merges.values()})
        one_set = len({frozenset(names) for names in lists}) == 1
        needs_pairs = method.base == "used" and len(run.models) > _PAIR
        if len(lists) == 1 or (one_set and method.base != "first"):
            continue
        if "weight" not in method.per_model or needs_pairs:
            last = run.first + run.size - 1
            problems.append(
                f"layers {run.first} to {last} and what lies outside of layers are merged from "
                f"{' and '.join(map(str, lists))}; all of a slice is merged from the same."
            )
    counts = [len(names) for names in _models(recipe, runs)]
    if counts[-1] > counts[0]:
        problems.append(
            f"the last layers are merged from {counts[-1]} models, the first from {counts[0]}; "
            "mergekit would leave models out of the tensors after the last layer."
        )
    return problems


def _models(recipe: Recipe, runs: Sequence[Run]) -> list[list[str]]:
    """The models of each run, in order, without a base to which differences are taken.

    mergekit takes no more models for the tensors after the last layer than the first slice
    has, so that models which weigh nothing there are added to it.
    """
    method = METHODS[recipe.rules[-1].operator]
    lists = [
        list(dict.fromkeys(n for rule in run.merges.values() for n in _of_merge(rule, recipe)))
        for run in runs
    ]
    if "weight" in method.per_model and method.base != "used":
        further = [
            name
            for name in lists[-1]
            if name not in lists[0] and recipe.source_layer(name, runs[0].first) is not None
        ]
        lists[0] += further[: max(0, len(lists[-1]) - len(lists[0]))]
    return lists


def _of_merge(rule: Rule, recipe: Recipe) -> list[str]:
    """The models of a rule, without a base to which differences are taken."""
    differences = METHODS[rule.operator].base in ("required", "used")
    return [name for name in rule.models if not (differences and name == recipe.base)]


def _config(recipe: Recipe, runs: Sequence[Run]) -> dict[str, Any]:
    name = recipe.rules[-1].operator
    method = METHODS[name]
    parts = list(dict.fromkeys(part for rule in recipe.rules for part in rule.contains))
    whole = [_whole(run, method, parts) for run in runs]
    shared = {k: v for k, v in whole[0].items() if all(own.get(k) == v for own in whole)}
    base = recipe.base if method.base in ("required", "used") else recipe.reference
    places = {source.name: source.model for source in recipe.sources}
    plain: dict[str, Any] = {"merge_method": name}
    if base is not None:
        plain["base_model"] = places[base]
    models = _models(recipe, runs)
    slices = [_slice(run, m, recipe, parts) for run, m in zip(runs, models, strict=True)]
    for part, own in zip(slices, whole, strict=True):
        rest = {k: v for k, v in own.items() if k not in shared}
        if rest:
            part["parameters"] = rest
    if _may_be_models(recipe, slices):
        plain["models"] = [
            {k: v for k, v in each.items() if k != "layer_range"}
            for each in slices[0]["sources"]
        ]
    else:
        plain["slices"] = slices
    if shared:
        plain["parameters"] = shared
    return plain | _dtypes(recipe) | _tokenizer(recipe, places)


def _whole(run: Run, method: MergekitMethod, parts: Sequence[str]) -> dict[str, Any]:
    """Settings of the merge as a whole."""
    return {
        parameter: setting_for(
            {name: _plain(rule.parameters.get(parameter, default))
             for name, rule in run.merges.items()}, parts,
        )
        for parameter, default in method.whole.items()
    }  # fmt: skip


def _slice(
    run: Run, models: Sequence[str], recipe: Recipe, parts: Sequence[str]
) -> dict[str, Any]:
    method = METHODS[recipe.rules[-1].operator]
    places = {source.name: source.model for source in recipe.sources}
    differences = method.base in ("required", "used") and recipe.base is not None
    base = [recipe.base] if differences and recipe.base is not None else []
    sources = []
    for model in [*base, *models]:
        first = recipe.source_layer(model, run.first) or 0
        source: dict[str, Any] = {
            "model": places[model],
            "layer_range": [first, first + run.size],
        }
        own = _of_model(run, model, method, parts) if model in models else {}
        sources.append(source | ({"parameters": own} if own else {}))
    part: dict[str, Any] = {"sources": sources}
    if method.base == "first" and models[0] != recipe.reference:
        part["base_model"] = places[models[0]]
    return part


def _of_model(
    run: Run, model: str, method: MergekitMethod, parts: Sequence[str]
) -> dict[str, Any]:
    """Settings of one model; it weighs nothing where it is not merged."""
    settings = {}
    for parameter, default in method.per_model.items():
        values = {
            name: _plain(
                rule.models[model].get(parameter, rule.parameters.get(parameter, default))
            )
            for name, rule in run.merges.items()
            if model in rule.models
        }
        if parameter == "weight":
            values = {name: values.get(name, 0.0) for name in run.merges}
        setting = setting_for(values, parts) if values else default
        if setting != default:
            settings[parameter] = setting
    return settings


def _plain(value: Value | None) -> Value:
    return 0.0 if value is None else value


def _may_be_models(recipe: Recipe, slices: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all layers of all models are merged in one way, by mergekit's shorter form."""
    (first, *others) = slices
    listed = [each["model"] for each in first["sources"]]
    if recipe.slices or others or "base_model" in first or "parameters" in first:
        return False
    place = next(s.model for s in recipe.sources if s.name == recipe.reference)
    # mergekit would merge a base that is not listed, as one model more.
    return METHODS[recipe.rules[-1].operator].base in ("required", "used") or place in listed


def _dtypes(recipe: Recipe) -> dict[str, str]:
    """The arithmetic's dtype, which is always float32, and the result's."""
    if recipe.dtype is None:
        return {}
    rounded = {} if recipe.dtype == "float32" else {"out_dtype": recipe.dtype}
    return {"dtype": "float32", **rounded}


def _tokenizer(recipe: Recipe, places: Mapping[str, str]) -> dict[str, str]:
    if recipe.tokenizer is None:
        return {}
    return {"tokenizer_source": places.get(recipe.tokenizer, UNION)}
