"""Neighbours of a recipe: equal to the neighbouring recipe where there is one."""

from dataclasses import replace

import pytest
import torch
from merging.tiny_llamas import recipe_of

from evomerge.core.recipe import Recipe
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.neighbours import apply_neighbour, neighbour_steps

LINEAR = {"normalize": False}


def engine_of(llamas, *names: str) -> MergeEngine:
    return MergeEngine({name: open_source(str(llamas[name])) for name in names})


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def average(weights: dict[str, float], base: str | None = None) -> Recipe:
    models = {name: {"weight": weight} for name, weight in weights.items()}
    return recipe_of(models, "linear", base, parameters=LINEAR)


def stepped(recipe: Recipe, models: list[str], step: float) -> list[Recipe]:
    return [replace(recipe, rules=(rule,)) for rule in neighbour_steps(models, step)]


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")], ids=len)
def test_of_a_weighted_average_they_are_its_neighbours_on_the_grid(llamas, names):
    engine = engine_of(llamas, *names)
    shares = dict(zip(names, (0.2, 0.5, 0.3), strict=False))
    recipe = average(shares)
    model = engine.resident_model(recipe)
    for onto, step in zip(names, stepped(recipe, list(names), 0.1), strict=True):
        apply_neighbour(engine, recipe, step, model)
        found = weights_of(model)
        others = 0.1 / (len(names) - 1)
        moved = {n: w + (0.1 if n == onto else -others) for n, w in shares.items()}
        engine.apply(average(moved), model)
        for name, expected in weights_of(model).items():
            torch.testing.assert_close(found[name], expected, atol=2e-7, rtol=1e-5)


def test_every_recipe_is_equally_far_from_its_neighbours(llamas):
    """Also the uniform average, towards which no step of its own would lead."""
    engine = engine_of(llamas, "a", "b", "c", "base")
    names = ["a", "b", "c"]
    ties = recipe_of(
        {n: {"weight": 1.0, "density": 0.3} for n in names}, "ties", "base",
        parameters={"lambda": 1.0},
    )  # fmt: skip
    uniform = average(dict.fromkeys(names, 1 / 3), "base")
    distances = []
    for recipe in (ties, uniform):
        model = engine.resident_model(recipe)
        engine.apply(recipe, model)
        own = weights_of(model)
        apply_neighbour(engine, recipe, stepped(recipe, names, 0.1)[0], model)
        moved = weights_of(model)
        distances.append(float(sum(((moved[n] - own[n]) ** 2).sum() for n in own)))
    assert distances[0] > 0
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)


def test_a_step_smaller_than_bfloat16_moves_as_many_weights_as_the_exact_sum(llamas):
    """Added to weights that are rounded already, it would be lost in most of them."""
    engine = engine_of(llamas, "half_a", "half_b")
    recipe = average({"half_a": 0.5, "half_b": 0.5})
    step = stepped(recipe, ["half_a", "half_b"], 1e-4)[0]
    model = engine.resident_model(recipe)
    apply_neighbour(engine, recipe, step, model)
    found = weights_of(model)
    rounded, exact = (dict(engine.tensors(replace(recipe, dtype=d))) for d in (None, "float32"))
    steps = dict(engine.tensors(replace(step, dtype="float32")))
    moved, lost = 0, 0
    for name, own in rounded.items():
        assert torch.equal(found[name], (exact[name] + steps[name]).bfloat16())
        moved += int((found[name] != own).sum())
        lost += int(((own.float() + steps[name]).bfloat16() == own)[found[name] != own].sum())
    assert lost > 0.5 * moved > 100


def test_merging_the_recipe_again_brings_it_back_to_the_bit(llamas):
    engine = engine_of(llamas, "half_a", "half_b")
    recipe = average({"half_a": 0.3, "half_b": 0.7})
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    own = weights_of(model)
    apply_neighbour(engine, recipe, stepped(recipe, ["half_a", "half_b"], 0.1)[1], model)
    assert any(not torch.equal(own[n], t) for n, t in weights_of(model).items())
    engine.apply(recipe, model)
    assert all(torch.equal(own[n], t) for n, t in weights_of(model).items())


def test_a_tied_recipe_has_neighbours_among_untied_sources(llamas):
    engine = engine_of(llamas, "a", "untied")
    recipe = replace(
        recipe_of({"a": {}}, "passthrough"),
        sources=average({"a": 1, "untied": 1}).sources,
    )
    step = stepped(average({"a": 1, "untied": 1}), ["a", "untied"], 0.1)[1]
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    own = weights_of(model)
    apply_neighbour(engine, recipe, step, model)
    assert not torch.equal(weights_of(model)["lm_head.weight"], own["lm_head.weight"])
