"""The ready parameter spaces over few and many models, shallow and deep."""

import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES, points, space_of

from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.recipe_check import validate_recipe
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.parameter import ParameterSpaceSpec, check_parameter_space
from evomerge.spaces.parameter_fixing import fixed_to

FOLDER = Path(__file__).parents[2] / "search_spaces"
PRESETS = {
    path.stem: ParameterSpaceSpec.model_validate(yaml.safe_load(path.read_text()))
    for path in sorted(FOLDER.glob("*.yaml"))
    if yaml.safe_load(path.read_text()).get("kind", "parameter") == "parameter"
}
EACH = pytest.mark.parametrize("name", PRESETS)


def refused_rightly(spec, models):
    """Whether operators that need a base or a pair, or too few layers, explain a refusal."""
    operators = [SIGNATURES[name] for name in spec.operator]
    count = len(models.experts)
    return (
        any(each.needs_base and models.base is None for each in operators)
        or any(count > (each.max_models or count) for each in operators)
        or any(count < each.min_models and models.base is None for each in operators)
        or spec.layer_groups > models.layers
    )


@EACH
@given(data=st.data(), experts=st.integers(1, 5), layers=st.integers(1, 40), base=st.booleans())
@settings(max_examples=12)
def test_a_preset_gives_valid_recipes_or_says_what_its_models_lack(
    name, data, experts, layers, base
):
    spec, models = PRESETS[name], source_models(experts, layers)
    models = models if base else replace(models, base=None)
    problems = check_parameter_space(spec, models, SIGNATURES)
    assert bool(problems) == refused_rightly(spec, models)
    if problems:
        return
    space = space_of(spec, models)
    recipe = space.decode(genome_from_unit(space.genes, data.draw(points(space))))
    assert validate_recipe(recipe) == []
    assert space.decode(space.encode(recipe)) is not None
    for baseline in space.baselines():
        assert validate_recipe(baseline.recipe) == []


@EACH
def test_the_overview_tells_a_presets_genes_for_three_experts(name):
    spec = PRESETS[name]
    pair = any(SIGNATURES[own].max_models == 2 for own in spec.operator)
    space = space_of(spec, source_models(2 if pair else 3, layers=12))
    rows = {}
    for row in re.findall(r"^\| (`.+?) \|.*?\| ([\d, ]+) \|", overview(), re.MULTILINE):
        rows |= dict(zip(re.findall(r"`(\w+)`", row[0]), row[1].split(", "), strict=True))
    assert rows[name] == str(len(space.genes))


def overview():
    return (FOLDER / "README.md").read_text()


# ---- pools of many checkpoints


def test_a_pool_of_24_checkpoints_has_one_weight_each_and_is_quick():
    models = replace(source_models(experts=24, layers=40), base=None)
    space = space_of(PRESETS["checkpoint_pool"], models)
    assert [gene.name for gene in space.genes] == [f"e{k}.weight" for k in range(1, 25)]
    rng = torch.Generator().manual_seed(3)
    start = time.process_time()
    for units in torch.rand((200, 24), generator=rng).tolist():
        recipe = space.decode(genome_from_unit(space.genes, units))
        (rule,) = recipe.rules
        assert math.fsum(own["weight"] for own in rule.models.values()) == pytest.approx(1)
        assert space.decode(space.encode(recipe)).digest == recipe.digest
    assert time.process_time() - start < 4  # 200 genomes there and back; measured 0.1 s
    assert len(space.baselines()) == 25
    average = space.baselines()[-1].recipe
    assert set(space.encode(average).values()) == {space.encode(average)["e1.weight"]}


def test_messages_about_24_checkpoints_stay_short():
    models = source_models(experts=24)
    for spec in (
        {"operator": "slerp"},
        {"operator": "linear", "only": "mlp", "rest_from": "e99"},
        {"operator": "linear", "experts": {"weight": {"per_expert": {"e99": 1}}}},
        {"operator": "linear", "experts": {"weight": [0, 1]}, "fixed": {"e99.weight": 1}},
    ):
        found = check_parameter_space(
            ParameterSpaceSpec.model_validate(spec), models, SIGNATURES
        )
        assert found
        assert max(map(len, found)) < 420


# ---- pools of adapters


def change_by(rule, changes):
    """What the rule adds to a base of zeros."""
    operator, base = OPERATORS[rule.operator], torch.zeros_like(changes[0])
    key = MaskKey(7, "layers.0.q_proj.weight", tuple(rule.models))
    inputs = Inputs(changes, base, operator.rule_settings(rule, "base"), key)
    return operator(inputs)


def largest_entries(change, density):
    """All but the largest share of entries set to 0."""
    kept = int(density * change.numel())
    order = change.abs().flatten().argsort(descending=True)[:kept]
    mask = torch.zeros(change.numel()).index_fill(0, order, 1.0)
    return change * mask.reshape(change.shape)


def test_a_pool_of_adapters_is_the_weighted_sum_of_their_largest_entries():
    rng = torch.Generator().manual_seed(1)
    changes = [torch.randn(20, 15, generator=rng) for _ in range(4)]
    names = [f"e{k}" for k in range(1, 5)]
    densities, weights = [0.0, 0.13, 0.5, 1.0], [-1.5, 0.4, 1.2, -0.3]
    models = source_models(experts=4)
    first = space_of(PRESETS["adapter_pool_denoise"], models)
    chosen = {f"{n}.density": d for n, d in zip(names, densities, strict=True)}
    (rule,) = first.decode(chosen).rules
    trimmed = [largest_entries(c, d) for c, d in zip(changes, densities, strict=True)]
    torch.testing.assert_close(change_by(rule, changes), sum(trimmed) / 4)

    held = fixed_to(PRESETS["adapter_pool_signs"], first, chosen, ["density"])
    second = space_of(held, models)
    assert [(g.name, g.low, g.high) for g in second.genes] == [
        (f"{name}.weight", -1.5, 1.5) for name in names
    ]
    signed = {f"{n}.weight": w for n, w in zip(names, weights, strict=True)}
    (rule,) = second.decode(signed).rules
    wanted = sum(w * t for w, t in zip(weights, trimmed, strict=True))
    torch.testing.assert_close(change_by(rule, changes), wanted)
