"""Equal identities of layers mean equal tensors, and the other way round where it matters."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from merging.tiny_architectures import make_model
from merging.tiny_llamas import make_llama, recipe_of

from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.core.tensor_names import layer_of
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.layer_identities import layer_identities
from evomerge.merging.safetensors_header import TensorInfo
from evomerge.merging.source_model import SourceModel

NAMES = ("base", "a", "b")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return {
        name: open_source(str(make_llama(folder / name, seed=k, layers=3, tied=False)))
        for k, name in enumerate(NAMES)
    }


def stacked(*layers: tuple[str, int], base="base", **changes) -> Recipe:
    """Layers of sources as they are, embeddings and head of ``a``."""
    rules = [
        Rule("passthrough", {name: {}}, {}, (k, k + 1)) for k, (name, _) in enumerate(layers)
    ]
    slices = tuple(Slice({name: (at, at + 1)}) for name, at in layers)
    every = tuple(Source(name, name) for name in NAMES)
    recipe = Recipe(every, (*rules, Rule("passthrough", {"a": {}})), base, slices=slices)
    return replace(recipe, **changes)


def ties(a: float, layers=None, **whole) -> Rule:
    return Rule("ties", {"a": {"weight": a, "density": 0.5}, "b": {}}, whole, layers)


def tensors_by_layer(recipe: Recipe, sources) -> tuple[dict, list[dict]]:
    """Those outside of layers, and each layer's under the names of the first."""
    outside, layers = {}, {}
    for name, tensor in MergeEngine(sources).tensors(recipe):
        layer = layer_of(name)
        if layer is None:
            outside[name] = tensor
        else:
            own = name.replace(f"layers.{layer}.", "layers.")
            layers.setdefault(layer, {})[own] = tensor
    return outside, [layers[k] for k in sorted(layers)]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def recipes() -> list[Recipe]:
    plain = recipe_of({"a": {"weight": 0.3}, "b": {"weight": 0.7}}, "linear", base="base")
    last = (Rule("passthrough", {"b": {}}, {}, (2, 3)),)
    return [
        stacked(("a", 0), ("a", 1), ("b", 2)),
        stacked(("a", 0), ("b", 2), ("a", 1), ("a", 0)),
        stacked(("b", 2)),
        plain,
        replace(plain, rules=last + plain.rules),
        replace(plain, rules=(ties(1.0),)),
        replace(plain, rules=(ties(1.0, lines=0.5),)),
        replace(plain, rules=(ties(0.5, (1, 3)), ties(1.0))),
        recipe_of({"a": {"density": 0.5}, "b": {}}, "dare_ties", base="base"),
        recipe_of({"a": {"density": 0.5}, "b": {}}, "dare_ties", base="base", seed=1),
        replace(stacked(("a", 0), ("a", 1), ("b", 2)), dtype="bfloat16"),
    ]


def test_layers_with_equal_identities_are_equal_bit_for_bit(sources):
    made = []
    for recipe in recipes():
        identities = layer_identities(recipe, sources)
        _, layers = tensors_by_layer(recipe, sources)
        assert len(identities.layers) == len(layers)
        made += zip(identities.layers, layers, strict=True)
    shared = 0
    for (one, left), (other, right) in combinations(made, 2):
        if one == other:
            assert same(left, right)
        shared += one == other
    equal = sum(same(left, right) for (_, left), (_, right) in combinations(made, 2))
    assert 10 < shared <= equal <= shared + 3  # LiNeS adds nothing to the first layer


def test_a_layer_is_the_same_wherever_it_stands_and_in_models_of_any_depth(sources):
    one = layer_identities(stacked(("a", 0), ("a", 1), ("b", 2)), sources)
    other = layer_identities(stacked(("b", 2), ("a", 1)), sources)
    assert other.layers == (one.layers[2], one.layers[1])
    assert one.before == other.before


def test_where_an_operator_looks_at_the_place_the_place_counts(sources):
    """LiNeS scales by the depth of the layer among all."""
    rule = ties(1.0, lines=0.5)
    plain = recipe_of({"a": {}, "b": {}}, "linear", base="base")
    one = layer_identities(replace(plain, rules=(rule,)), sources).layers
    longer = (Slice(dict.fromkeys(NAMES, (0, 3))), Slice(dict.fromkeys(NAMES, (0, 1))))
    other = layer_identities(replace(plain, rules=(rule,), slices=longer), sources).layers
    assert one[1] != other[1]
    assert other[0] != other[3]


def test_a_scaled_layer_is_another(sources):
    recipe = stacked(("a", 0), ("a", 1))
    first, *others = recipe.rules
    scaled = replace(recipe, rules=(replace(first, scale=0.5), *others))
    plain, other = (layer_identities(each, sources) for each in (recipe, scaled))
    assert plain.layers[0] != other.layers[0]
    assert plain.layers[1] == other.layers[1]
    assert plain.before == other.before


def of_part(part: str) -> Recipe:
    """All of ``a``, but what has that part in its name is of ``b``."""
    recipe = recipe_of({"a": {}}, "passthrough")
    every = tuple(Source(name, name) for name in ("a", "b"))
    other = Rule("passthrough", {"b": {}}, contains=(part,))
    return replace(recipe, sources=every, rules=(other, *recipe.rules))


@pytest.mark.parametrize("part", ["lm_head", "model.norm"])
def test_head_and_final_norm_come_after_the_layers(sources, part):
    whole = layer_identities(of_part("no such part"), sources)
    other = layer_identities(of_part(part), sources)
    assert whole == other


def test_embeddings_come_before_the_layers(sources):
    whole = layer_identities(of_part("no such part"), sources)
    other = layer_identities(of_part("embed_tokens"), sources)
    assert whole.before != other.before
    assert whole.layers == other.layers


def test_a_head_that_is_the_embedding_comes_before_the_layers(tmp_path):
    tied = {
        name: open_source(str(make_llama(tmp_path / name, seed=k)))
        for k, name in enumerate(("a", "b"))
    }
    whole = layer_identities(of_part("no such part"), tied)
    assert whole.before != layer_identities(of_part("embed_tokens"), tied).before


@pytest.mark.parametrize(
    ("kind", "after"), [("gpt2", "ln_f"), ("qwen2", "model.norm"), ("gemma3", "model.norm")]
)
def test_other_architectures_end_in_a_norm_too(tmp_path, kind, after):
    opened = {
        name: open_source(str(make_model(kind, tmp_path / name, seed)))
        for seed, name in enumerate(("a", "b"))
    }
    whole = layer_identities(of_part("no such part"), opened)
    assert layer_identities(of_part(after), opened) == whole
    positions = "wpe" if kind == "gpt2" else "embed_tokens"
    assert layer_identities(of_part(positions), opened).before != whole.before


def test_a_norm_of_the_embeddings_comes_before_the_layers():
    def model(name: str) -> SourceModel:
        parts = ("embeddings.tok_embeddings", "embeddings.norm", "layers.0.mlp.Wo", "norm")
        tensors = [f"model.{part}.weight" for part in parts]
        infos = {each: TensorInfo(each, "F32", (4,), None) for each in tensors}
        return SourceModel(Path(name), {}, infos)

    opened = {name: model(name) for name in NAMES}
    whole = layer_identities(of_part("no such part"), opened)
    assert layer_identities(of_part("embeddings.norm"), opened).before != whole.before
    assert layer_identities(of_part("model.norm"), opened) == whole
