import pytest
from merging.tiny_llamas import recipe_of

from evomerge.core.recipe import Slice
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.recipe_check import spelled_out, validate_recipe

TWO = {"a": {}, "b": {}}


@pytest.mark.parametrize(
    "recipe",
    [
        recipe_of(TWO, "linear"),
        recipe_of(TWO, "slerp"),
        recipe_of(TWO, "ties", base="base"),
        recipe_of({"base": {}, **TWO}, "dare_ties", base="base"),
        recipe_of({"base": {}}, "passthrough", base="base", dtype="bfloat16"),
    ],
    ids=lambda recipe: recipe.rules[0].operator,
)
def test_a_sound_recipe_has_no_problems(recipe):
    assert validate_recipe(recipe) == []


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (recipe_of(TWO, "tise", base="base"), "rule 1: unknown operator 'tise'; did you mean"),
        (recipe_of(TWO, "ties"), "give the recipe a base"),
        (recipe_of({"a": {}}, "slerp"), "slerp merges 2 models, got 1"),
        (recipe_of({**TWO, "c": {}}, "slerp"), "slerp merges 2 models, got 3"),
        (recipe_of({"base": {}}, "ties", base="base"), "1 or more models besides the base"),
        (recipe_of(TWO, "passthrough"), "passthrough merges 1 models, got 2"),
        (recipe_of({"a": {"weigth": 1}}, "linear"), "did you mean 'weight'"),
        (
            recipe_of(TWO, "slerp", parameters={"t": 1.5}),
            "t must be a finite number from 0 to 1",
        ),
        (recipe_of(TWO, "linear", dtype="bfloat"), "did you mean 'bfloat16'"),
    ],
    ids=range(9),
)
def test_each_mistake_is_named(recipe, message):
    (problem,) = validate_recipe(recipe)
    assert message in problem


def test_slices_give_the_layers_of_the_base_whose_differences_are_merged():
    without = (
        Slice({"base": (0, 2), "a": (0, 2), "b": (0, 2)}),
        Slice({"a": (1, 2), "b": (1, 2)}),
    )
    (problem,) = validate_recipe(recipe_of(TWO, "ties", base="base", slices=without))
    assert problem == (
        "slice 2: give the layers of the base 'base' too; differences to it are merged."
    )
    assert validate_recipe(recipe_of(TWO, "linear", base="base", slices=without)) == []


def test_a_recipe_spelled_out_has_every_parameter_of_its_operators():
    short = recipe_of(
        {"base": {}, "a": {"weight": 0.3}, "b": {}},
        "ties",
        base="base",
        parameters={"density": 0.4, "normalize": False},
    )
    (rule,) = spelled_out(short).rules
    assert rule.models == {
        "base": {},
        "a": {"weight": 0.3, "density": 0.4},
        "b": {"weight": 1.0, "density": 0.4},
    }
    assert rule.parameters == {"lambda": 1.0, "normalize": False} | {
        p.name: p.default
        for p in OPERATORS["ties"].parameters
        if not p.per_model and p.name not in ("lambda", "normalize")
    }
    assert spelled_out(spelled_out(short)) == spelled_out(short)
