"""Whether a recipe's rules fit their operators, told without tensors or models."""

from evomerge.core.near_names import unknown
from evomerge.core.recipe import Recipe, Rule
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
    return problems


def _rule_problems(rule: Rule, base: str | None) -> list[str]:
    if rule.operator not in OPERATORS:
        return [unknown("operator", rule.operator, OPERATORS)]
    operator = OPERATORS[rule.operator]
    problems = operator.parameter_problems(rule.models, rule.parameters)
    if operator.needs_base and base is None:
        problems.append(
            f"{operator.name} merges differences to a base; give the recipe a base."
        )
    count = len(operator.merged(rule, base))
    most = operator.max_models
    if count < operator.min_models or (most is not None and count > most):
        wanted = str(most) if most == operator.min_models else f"{operator.min_models} or more"
        besides = " besides the base" if operator.needs_base else ""
        problems.append(f"{operator.name} merges {wanted} models{besides}, got {count}.")
    return problems
