"""Whether a recipe's rules fit their operators, told without tensors or models."""

from dataclasses import replace

from evomerge.core.near_names import unknown
from evomerge.core.recipe import Recipe, Rule
from evomerge.merging.operators.contract import Operator
from evomerge.merging.operators.registry import OPERATORS

OUTPUT_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Dtypes that a recipe may ask for, and how safetensors spells them."""


def validate_recipe(recipe: Recipe) -> list[str]:
    """Every problem of a recipe in plain words; empty if it can be merged."""
    problems = []
    if recipe.dtype is not None and recipe.dtype not in OUTPUT_DTYPES:
        problems.append(f"recipe: {unknown('dtype', recipe.dtype, OUTPUT_DTYPES)}")
    for number, rule in enumerate(recipe.rules, 1):
        problems += [f"rule {number}: {p}" for p in _rule_problems(rule, recipe.base)]
    return problems + _slices_without_base(recipe)


def count_problem(operator: Operator, count: int, base: str | None) -> str | None:
    """Why an operator cannot merge so many models, or None.

    Args:
        operator: What merges.
        count: How many models, without a base to which differences are taken.
        base: The base, if there is one.
    """
    fewest, most = operator.min_models, operator.max_models
    if count >= fewest and (most is None or count <= most):
        return None
    wanted = str(most) if most == fewest else f"{fewest} or more"
    besides = " besides the base" if operator.base_taken(base) is not None else ""
    return f"{operator.name} merges {wanted} models{besides}, got {count}."


def spelled_out(recipe: Recipe) -> Recipe:
    """The same recipe with every default written out, each model's with the model.

    Rules of unknown operators stay as they are.

    Raises:
        ConfigError: A rule's parameters are not those of its operator.
    """
    rules = tuple(_spelled_out(rule, recipe.base) for rule in recipe.rules)
    return replace(recipe, rules=rules)


def _spelled_out(rule: Rule, base: str | None) -> Rule:
    if rule.operator not in OPERATORS:
        return rule
    operator = OPERATORS[rule.operator]
    settings = operator.rule_settings(rule, base)
    merged = dict(zip(operator.merged(rule, base), settings.models, strict=True))
    return replace(rule, models={**rule.models, **merged}, parameters=settings.whole)


def _slices_without_base(recipe: Recipe) -> list[str]:
    """Where differences to a base are merged, its layers must stand beside the models'."""
    slices = [number for number, part in enumerate(recipe.slices) for _ in range(part.size)]
    left = set(range(len(slices)))  # layers some tensors of which no rule so far selects
    lacking: dict[int, str] = {}
    for rule in recipe.rules:
        first, stop = rule.layers or (0, len(slices))
        held = {layer for layer in left if first <= layer < stop}
        known = OPERATORS.get(rule.operator)
        taken = known.base_taken(recipe.base) if known else None
        for number in {slices[layer] for layer in held}:
            if taken is not None and taken not in recipe.slices[number].layers:
                lacking[number] = taken
        if not rule.contains:
            left -= held
    return [
        f"slice {number + 1}: give the layers of the base {lacking[number]!r} too; differences "
        "to it are merged."
        for number in sorted(lacking)
    ]


def _rule_problems(rule: Rule, base: str | None) -> list[str]:
    if rule.operator not in OPERATORS:
        return [unknown("operator", rule.operator, OPERATORS)]
    operator = OPERATORS[rule.operator]
    problems = operator.parameter_problems(rule.models, rule.parameters)
    if operator.needs_base and base is None:
        problems.append(
            f"{operator.name} merges differences to a base; give the recipe a base."
        )
    count = count_problem(operator, len(operator.merged(rule, base)), base)
    return problems if count is None else [*problems, count]
