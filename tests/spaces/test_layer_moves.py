"""Stacks of layers written as moves of a cursor."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.spaces.layer_moves import LayerMovesSpace, LayerMovesSpec
from evomerge.spaces.registry import make_space
from evomerge.spaces.space import SourceModels

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "experiments" / "quickstart" / "zoo"


def space_of(models: SourceModels | None = None, **spec: object) -> LayerMovesSpace:
    written = LayerMovesSpec.model_validate({"operators": ["linear", "ties"]} | spec)
    return LayerMovesSpace(written, models or source_models(), SIGNATURES)


def genome_of(space: LayerMovesSpace, *moves: str) -> dict[str, str]:
    """The moves, and skips after them."""
    names = [gene.name for gene in space.genes]
    return dict(zip(names, [*moves, *["skip"] * (len(names) - len(moves))], strict=True))


def layers_of(recipe) -> list[dict[str, int]]:
    """For each layer of the merged model the layers that it is made of, by source."""
    names = [source.name for source in recipe.sources]
    return [
        {n: own for n in names if (own := recipe.source_layer(n, k)) is not None}
        for k in range(recipe.layer_count)
    ]


@st.composite
def spaces_with_genomes(draw):
    models = source_models(draw(st.integers(1, 3)), draw(st.integers(1, 6)))
    space = space_of(
        models,
        operators=draw(st.sampled_from([["linear"], ["linear", "ties"], ["dare_ties"], []])),
        base=draw(st.booleans()),
        spare=draw(st.integers(0, 4)),
        most_layers=draw(st.none() | st.integers(1, 7)),
    )
    return space, {g.name: draw(st.sampled_from(g.options)) for g in space.genes}


def test_a_source_or_an_operator_appends_the_layer_at_the_cursor():
    space = space_of()
    recipe = space.decode(genome_of(space, "e2", "linear", "ties", "e1"))
    made_of = [[*recipe.rule_for(f"layers.{k}.mlp").models] for k in range(4)]
    assert made_of == [["e2"], ["e1", "e2", "e3"], ["e1", "e2", "e3"], ["e1"]]
    for layer, models in enumerate(made_of):
        assert [recipe.source_layer(model, layer) for model in models] == [layer] * len(models)
    # Only where TIES takes differences to it.
    assert [recipe.source_layer("base", layer) for layer in range(4)] == [None, None, 2, None]
    operators = [recipe.rule_for(f"layers.{k}.mlp").operator for k in range(4)]
    assert operators == ["passthrough", "linear", "ties", "passthrough"]


def test_skip_leaves_a_layer_out_and_back_takes_a_depth_twice():
    space = space_of()
    recipe = space.decode(genome_of(space, "e1", "skip", "e1", "back", "e2", "e1"))
    assert layers_of(recipe) == [{"e1": 0}, {"e1": 2}, {"e2": 2}, {"e1": 3}]


def test_back_at_the_first_layer_stays_there():
    space = space_of()
    assert layers_of(space.decode(genome_of(space, "back", "back", "e1")))[0] == {"e1": 0}


def test_where_moves_run_out_the_first_expert_gives_the_rest():
    space = space_of(spare=1)
    recipe = space.decode(genome_of(space, "e2", "e2", "skip", "back", "e2"))
    assert layers_of(recipe) == [{"e2": 0}, {"e2": 1}, {"e2": 2}, {"e1": 3}]


def test_a_model_of_skips_alone_keeps_one_layer():
    space = space_of()
    assert layers_of(space.decode(genome_of(space))) == [{"e1": 3}]


def test_the_deepest_model_is_an_option():
    space = space_of(most_layers=3)
    recipe = space.decode(genome_of(space, "e1", "e1", "back", "back", "e2", "e2"))
    assert layers_of(recipe) == [{"e1": 0}, {"e1": 1}, {"e2": 0}]


def test_tensors_outside_of_layers_are_the_mean_of_the_experts():
    space = space_of()
    rule = space.decode(genome_of(space, "e1")).rule_for("model.embed_tokens.weight")
    assert (rule.operator, [*rule.models]) == ("linear", ["e1", "e2", "e3"])


@given(spaces_with_genomes())
def test_every_genome_is_a_recipe_of_at_least_one_layer_and_not_too_many(drawn):
    space, genome = drawn
    recipe = space.decode(genome)
    assert 1 <= recipe.layer_count <= space.most_layers
    assert recipe.digest == space.decode(genome).digest


@given(spaces_with_genomes())
def test_encoding_gives_back_every_recipe_that_was_decoded(drawn):
    space, genome = drawn
    recipe = space.decode(genome)
    encoded = space.encode(recipe)
    assert encoded is not None
    assert space.decode(encoded).digest == recipe.digest


def test_sources_and_plain_merges_are_encoded_as_all_of_their_layers():
    space = space_of(base=True)
    encoded = {b.name: space.encode(b.recipe) for b in space.baselines()}
    for name in ("base", "e1", "e2", "e3"):
        assert encoded[name] == genome_of(space, *[name] * 4)
    assert encoded["uniform average"] == genome_of(space, *["linear"] * 4)
    assert encoded["task arithmetic"] is None


@pytest.mark.parametrize(
    ("spec", "models", "message"),
    [
        ({"operators": ["tise"]}, source_models(), "unknown operator 'tise'"),
        ({"operators": ["slerp"]}, source_models(3), "slerp merges 2 to 2 models"),
        ({"operators": "linear"}, source_models(layers=0), "no numbered layers"),
        (
            {"base": True, "operators": ["ties"]},
            SourceModels(None, source_models().experts, 4),
            "(?s)there is no base.*ties takes differences",
        ),
        (
            {"operators": []},
            SourceModels(None, (Source("skip", "/s"), Source("e", "/e")), 4),
            "call the models otherwise",
        ),
    ],
)
def test_what_does_not_suit_is_said(spec, models, message):
    with pytest.raises(ConfigError, match=message):
        make_space("layer_moves", spec, models, SIGNATURES)


@pytest.fixture(scope="module")
def zoo() -> MergeEngine:
    return MergeEngine(
        {name: open_source(str(ZOO / name)) for name in ("base", "sort", "town")}
    )


def zoo_space(zoo: MergeEngine) -> LayerMovesSpace:
    sources = {n: Source(n, str(ZOO / n), s.fingerprint) for n, s in zoo.sources.items()}
    models = SourceModels(sources["base"], (sources["sort"], sources["town"]), 5)
    given = yaml.safe_load((ROOT / "search_spaces" / "layer_moves.yaml").read_text())
    return space_of(models, **given | {"operators": ["linear", "ties"]})


@pytest.mark.parametrize(
    "moves",
    [
        ("sort", "town", "linear", "ties", "sort"),
        ("sort", "skip", "linear", "skip", "town"),
        ("sort", "sort", "back", "town", "ties", "back", "ties", "sort", "sort"),
    ],
    ids=["as deep", "shallower", "deeper"],
)
def test_real_models_merge_and_run_at_the_depth_of_the_recipe(zoo, moves):
    import torch

    space = zoo_space(zoo)
    recipe = space.decode(genome_of(space, *moves))
    model = zoo.resident_model(recipe, dtype=torch.float32)
    zoo.apply(recipe, model)
    assert model.config.num_hidden_layers == recipe.layer_count
    assert torch.isfinite(model(torch.tensor([[1, 5, 9]])).logits).all()
    own = dict(zoo.tensors(recipe))
    taken = zoo.sources["sort"].read("model.layers.0.mlp.up_proj.weight")
    assert torch.equal(own["model.layers.0.mlp.up_proj.weight"], taken)
