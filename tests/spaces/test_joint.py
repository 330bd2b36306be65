"""A merge and a path through it, in one genome."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES, drawn_spaces, points, tensor_names

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.tensor_names import layer_of, with_layer
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.recipes.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.joint import JointSpace, JointSpec
from evomerge.spaces.registry import make_space
from evomerge.spaces.space import SourceModels

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "experiments" / "quickstart" / "zoo"
PROJECTIONS = ("o_proj", "down_proj")
TIES = {
    "operator": "ties",
    "experts": {"weight": [0, 1], "density": [0.1, 1]},
    "merge": {"lambda": [0.3, 1.5]},
}
MERGES = {
    "ties": TIES,
    "by block": TIES | {"layer_groups": 2, "components": ["self_attn", "mlp"]},
    "attention": {
        "operator": "task_arithmetic",
        "experts": {"weight": [0, 1]},
        "layer_groups": 2,
        "only": ["self_attn"],
    },
    "linear": {"operator": "linear", "experts": {"weight": [0.1, 1]}, "layer_groups": 3},
}
PATHS = {
    "data_flow": {"kind": "data_flow", "repeats": 2},
    "scaled": {"kind": "data_flow", "scales": "slots", "repeats": 2, "keep_ends": False},
    "matrix": {"kind": "data_flow", "scales": "matrix", "order": "permuted"},
    "a source first": {"kind": "data_flow", "sources": ["e1", "merged", "base"]},
    "moves": {"kind": "layer_moves", "operators": [], "base": True},
    "edit": {"kind": "layer_edit", "operator": "none", "remove": [0, 2]},
    "swap": {"kind": "layer_edit", "operator": "none", "rest": "merged"},
    "any rest": {"kind": "layer_edit", "operator": "none", "remove": [0, 2], "rest": "any"},
}


def models_of(experts: int = 2, layers: int = 4) -> SourceModels:
    return replace(source_models(experts, layers), output_projections=PROJECTIONS)


def space_of(merge: object, path: object, models: SourceModels | None = None) -> JointSpace:
    spec = JointSpec.model_validate({"merge": merge, "path": path})
    return JointSpace(spec, models or models_of(), SIGNATURES)


def pool_of(models: SourceModels) -> SourceModels:
    return replace(models, experts=(Source("merged", "merged"), *models.experts))


def parts_of(space: JointSpace, merge, path, genome) -> tuple[Recipe, Recipe]:
    """What the two spaces make of their genes, each by itself."""
    own = {part: {} for part in ("merge", "path")}
    for name, value in genome.items():
        part, _, short = name.partition(":")
        own[part][short] = value
    kind = path["kind"]
    options = {key: value for key, value in path.items() if key != "kind"}
    alone = make_space(kind, options, pool_of(space._models), SIGNATURES)
    merging = make_space("parameter", merge, space._models, SIGNATURES)
    return merging.decode(own["merge"]), alone.decode(own["path"])


def meaning(rule: Rule, layer: int | None, layers: int) -> tuple[object, ...]:
    """What a rule says of a layer's tensors; ``lambda`` with what it has grown by."""
    whole = dict(rule.parameters)
    depth = 0.0 if layer is None else layer / max(1, layers - 1)
    grown = whole.pop("lambda", 1.0) + whole.pop("lines", 0.0) * depth
    return rule.operator, [*rule.models.items()], whole, grown, rule.scale


def check_every_tensor(recipe: Recipe, merged: Recipe, path: Recipe, layers: int) -> None:
    depth = path.layer_count or layers
    assert (recipe.layer_count or layers) == depth
    for name in tensor_names(depth):
        there, found = path.rule_for(name), recipe.rule_for(name)
        layer = layer_of(name)
        if "merged" not in there.models:
            assert meaning(found, layer, depth) == meaning(there, layer, depth)
            if layer is not None:
                for model in found.models:
                    assert recipe.source_layer(model, layer) == path.source_layer(model, layer)
            continue
        own = name if layer is None else with_layer(name, path.source_layer("merged", layer))
        wanted = merged.rule_for(own)
        scale = 1.0 if layer is None else there.scale
        wanted = replace(wanted, scale=wanted.scale * scale)
        assert meaning(found, layer, depth) == meaning(wanted, layer_of(own), layers)
        if layer is not None:
            operator = SIGNATURES[found.operator]
            base = ["base"] if operator.needs_base else []
            for model in [*base, *found.models]:
                assert recipe.source_layer(model, layer) == layer_of(own)


@st.composite
def genomes(draw, space):
    return genome_from_unit(space.genes, draw(points(space)))


@st.composite
def joint_spaces(draw):
    merge, path = (draw(st.sampled_from([*known])) for known in (MERGES, PATHS))
    space = space_of(MERGES[merge], PATHS[path])
    return space, MERGES[merge], PATHS[path], draw(genomes(space))


@given(joint_spaces())
def test_every_tensor_is_as_the_path_and_the_merge_say(drawn):
    space, merge, path, genome = drawn
    recipe = space.decode(genome)
    merged, alone = parts_of(space, merge, path, genome)
    check_every_tensor(recipe, merged, alone, 4)


@given(joint_spaces())
def test_every_point_of_the_cube_is_a_recipe_over_the_models_alone(drawn):
    space, _, _, genome = drawn
    recipe = space.decode(genome)
    assert [source.name for source in recipe.sources] == ["base", "e1", "e2"]
    assert 1 <= (recipe.layer_count or 4) <= (space.most_layers or 4)
    assert recipe_from_yaml(recipe_to_yaml(recipe)).digest == recipe.digest
    assert space.decode(dict(genome)).digest == recipe.digest


@given(drawn_spaces(), st.data())
def test_any_parameter_space_can_be_the_merge(drawn, data):
    path = {"kind": "data_flow", "keep_ends": drawn.models.layers > 1, "repeats": 2}
    spec = JointSpec.model_validate({"merge": drawn.spec, "path": path})
    space = JointSpace(spec, drawn.models, SIGNATURES)
    genome = data.draw(genomes(space))
    own = {n.removeprefix("merge:"): v for n, v in genome.items() if n.startswith("merge:")}
    merged = drawn.space.decode(own)
    recipe = space.decode(genome)
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        layers = drawn.models.layers
        here, there = (made.rule_for(name) for made in (recipe, merged))
        assert meaning(here, None, layers) == meaning(there, None, layers)


@given(joint_spaces())
def test_encoding_gives_back_every_recipe_that_was_decoded(drawn):
    space, _, _, genome = drawn
    recipe = space.decode(genome)
    encoded = space.encode(recipe)
    assert encoded is not None
    assert [*encoded] == [gene.name for gene in space.genes]
    assert space.decode(encoded).digest == recipe.digest


@pytest.mark.parametrize("path", [PATHS["data_flow"], PATHS["edit"]])
def test_a_scale_that_grows_over_the_layers_is_the_merged_models_wherever_they_stand(path):
    merge = {
        "operator": "task_arithmetic",
        "layer_groups": 2,
        "components": ["mlp"],
        "merge": {"lambda": {"low": 0.1, "high": 1, "per": ["layers"]}, "lines": 0.5},
    }
    space = space_of(merge, path)
    moved = set()
    for point in range(20):
        units = np.random.default_rng(point).random(len(space.genes))
        genome = genome_from_unit(space.genes, units)
        recipe, (merged, alone) = space.decode(genome), parts_of(space, merge, path, genome)
        for layer in range(recipe.layer_count or 4):
            if "merged" not in alone.rule_for(f"{layer}.mlp").models:
                continue
            own = alone.source_layer("merged", layer)
            moved.add(own != layer)
            for part in ("mlp", "self_attn"):
                here = meaning(
                    recipe.rule_for(f"{layer}.{part}"), layer, recipe.layer_count or 4
                )
                assert here == meaning(merged.rule_for(f"{own}.{part}"), own, 4)
    assert moved == {True, False}


def test_the_merge_alone_is_one_of_the_paths_and_no_source_is_unless_it_comes_first():
    space = space_of(TIES, PATHS["data_flow"])
    encoded = {b.name: space.encode(b.recipe) for b in space.baselines()}
    assert {name for name, genome in encoded.items() if genome} == {"ties"}
    (ties,) = (b.recipe for b in space.baselines() if b.name == "ties")
    assert space.decode(encoded["ties"]).rules[0].models == ties.rules[0].models
    assert not space.decode(encoded["ties"]).slices
    other = space_of(TIES, PATHS["a source first"])
    encoded = {b.name: other.encode(b.recipe) for b in other.baselines()}
    assert {name for name, genome in encoded.items() if genome} == {"e1"}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_search_starts_at_a_few_different_candidates(path):
    space = space_of(MERGES["by block"], path)
    started = space.starting_points()
    assert 1 <= len(started) <= 12
    assert all([*genome] == [gene.name for gene in space.genes] for genome in started)
    assert len({space.decode(genome).digest for genome in started}) == len(started)


@pytest.mark.parametrize("experts", [2, 3, 4])
@pytest.mark.parametrize("layers", [2, 3, 12, 40])
def test_the_preset_suits_models_of_any_number_and_depth(layers, experts):
    written = yaml.safe_load((ROOT / "search_spaces" / "joint.yaml").read_text())
    models = models_of(experts, layers)
    space = make_space(written.pop("kind"), written, models, SIGNATURES)
    assert space.most_layers == 2 * layers
    assert space.starting_points()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"merge": {"operator": "tise"}, "path": {"kind": "data_flow", "sources": ["e9"]}},
            "(?s)path.sources: 'merged' is not among.*space.merge.operator: unknown operator "
            "'tise'; did you mean 'ties'.*space.path.sources: unknown model 'e9'",
        ),
        ({"name": "e1"}, "space.name: a model is called 'e1' too"),
        ({"path": {"kind": "layer_moves"}}, "space.path.operators: .*use 'operators: \\[]'"),
        ({"path": {"kind": "layer_edit"}}, "space.path.operator: linear .*'operator: none'"),
        ({"path": {"kind": "splits"}}, "'data_flow', 'layer_edit', 'layer_moves'"),
        ({"path": {}}, "discriminator 'kind'"),
        ({"merge": {"operator": "ties", "layer_group": 3}}, "space.merge.layer_group"),
    ],
)
def test_what_does_not_suit_is_said(changes, said):
    given_ = {"merge": TIES, "path": PATHS["data_flow"]} | changes
    with pytest.raises(ConfigError, match=said):
        make_space("joint", given_, models_of(), SIGNATURES)


@pytest.fixture(scope="module")
def zoo() -> MergeEngine:
    return MergeEngine({n: open_source(str(ZOO / n)) for n in ("base", "sort", "town")})


def test_real_layers_of_the_merge_stand_beside_those_of_its_sources(zoo):
    import torch

    sources = {n: Source(n, str(ZOO / n), s.fingerprint) for n, s in zoo.sources.items()}
    models = SourceModels(sources["base"], (sources["sort"], sources["town"]), 5)
    space = space_of(TIES | {"layer_groups": 2}, {"kind": "data_flow", "repeats": 2}, models)
    middle = genome_from_unit(space.genes, [0.5] * len(space.genes))
    on = ["1 merged.1", "1 town.2", "2 merged.1", "2 merged.3", "2 sort.4"]
    gates = (name for name in middle if name.startswith("path:gate "))
    middle |= {gate: int(gate.removeprefix("path:gate ") in on) for gate in gates}
    stacked = space.decode(middle)
    path = [("merged", 0), ("merged", 1), ("town", 2), ("merged", 1), ("merged", 3)]
    path += [("sort", 4), ("merged", 4)]
    own = {n.removeprefix("merge:"): v for n, v in middle.items() if n.startswith("merge:")}
    merged, found = dict(zoo.tensors(space._merge.decode(own))), dict(zoo.tensors(stacked))
    for k, (source, layer) in enumerate(path):
        for part in ("self_attn.o_proj", "mlp.up_proj", "input_layernorm"):
            name = f"model.layers.{layer}.{part}.weight"
            taken = merged[name] if source == "merged" else zoo.sources[source].read(name)
            assert torch.equal(found[f"model.layers.{k}.{part}.weight"], taken)
    embeddings = "model.embed_tokens.weight"
    assert torch.equal(found[embeddings], merged[embeddings])
