"""Recipes: which rule holds for a tensor, what is refused, and identity."""

import json
from dataclasses import FrozenInstanceError

import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Slice, Source

SOURCES = (
    Source("base", "zoo/base", "f0"),
    Source("sum", "zoo/sum", "f1"),
    Source("sort", "zoo/sort", "f2"),
)
TIES = Rule("ties", {"sum": {"weight": 0.5}, "sort": {"weight": 0.25}}, {"lambda": 1.0})
LINEAR = Rule("linear", {"sum": {"weight": 1.0}})


def recipe(**changes) -> Recipe:
    return Recipe(**({"sources": SOURCES, "rules": (TIES,), "base": "base"} | changes))


@pytest.mark.parametrize(
    ("rule", "selected"),
    [
        (Rule("linear", {"sum": {}}), ["embed", "l0.attn", "l1.attn", "l1.mlp", "l2.mlp"]),
        (Rule("linear", {"sum": {}}, layers=(0, 2)), ["l0.attn", "l1.attn", "l1.mlp"]),
        (Rule("linear", {"sum": {}}, layers=(7, 9)), []),
        (Rule("linear", {"sum": {}}, contains=("attn", "q_proj")), ["l0.attn", "l1.attn"]),
        (Rule("linear", {"sum": {}}, contains=("attn", "up")), []),
        (Rule("linear", {"sum": {}}, contains=("attn",)), ["l0.attn", "l1.attn"]),
        (Rule("linear", {"sum": {}}, layers=(1, 9), contains=("mlp",)), ["l1.mlp", "l2.mlp"]),
    ],
    ids=["all", "layers", "no layers", "parts", "parts apart", "part", "layers and part"],
)
def test_a_rule_selects_by_layer_and_part_of_the_name(rule, selected):
    tensors = {
        "embed": "model.embed_tokens.weight",
        "l0.attn": "model.layers.0.self_attn.q_proj.weight",
        "l1.attn": "model.layers.1.self_attn.q_proj.weight",
        "l1.mlp": "model.layers.1.mlp.up_proj.weight",
        "l2.mlp": "model.layers.2.mlp.up_proj.weight",
    }
    assert [short for short, name in tensors.items() if rule.selects(name)] == selected


def test_the_first_rule_that_selects_a_tensor_holds():
    first = Rule("slerp", {"sum": {}, "sort": {}}, layers=(0, 1))
    merged = recipe(rules=(first, TIES))
    assert merged.rule_for("model.layers.0.mlp.weight") is first
    assert merged.rule_for("model.layers.1.mlp.weight") is TIES
    assert merged.rule_for("lm_head.weight") is TIES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": (), "base": None, "rules": (LINEAR,)}, "no sources"),
        ({"base": "bass"}, "base 'bass' is not among"),
        ({"rules": (Rule("linear", {"other": {}}),)}, "rule 1 names \\['other'\\]"),
        ({"rules": (TIES, Rule("linear", {}))}, "rule 2 merges no models"),
        ({"rules": ()}, "last rule must select every tensor"),
        ({"rules": (Rule("linear", {"sum": {}}, layers=(-1, 3)), TIES)}, "counted from 0"),
        ({"rules": (Rule("linear", {"sum": {}}, layers=(1, 1)), TIES)}, "layers \\[1, 1\\]"),
        ({"tokenizer": "none"}, "tokenizer 'none' is neither 'union' nor among"),
        ({"rules": (Rule("linear", {"sum": {}}, layers=(0, 3)),)}, "last rule must select"),
        ({"rules": (Rule("linear", {"sum": {}}, contains=("mlp",)),)}, "last rule must select"),
    ],
)
def test_what_could_not_be_merged_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_a_bare_part_is_not_taken_for_its_letters():
    with pytest.raises(ConfigError, match="tuple of parts, got 'mlp'"):
        Rule("linear", {"sum": {}}, contains="mlp")


STACKED = (
    Slice({"base": (0, 3), "sum": (0, 3), "sort": (0, 3)}),
    Slice({"base": (1, 3), "sum": (1, 3)}),
)
"""Five layers, of which the last two are made of layers that were used before."""
OF_SUM = Rule("linear", {"sum": {}}, layers=(3, 5))


@pytest.mark.parametrize(
    ("model", "expected"),
    [("sum", [0, 1, 2, 1, 2, None]), ("sort", [0, 1, 2, None, None, None])],
)
def test_slices_say_which_layer_of_a_source_goes_where(model, expected):
    stacked = recipe(slices=STACKED, rules=(OF_SUM, TIES))
    assert [stacked.source_layer(model, layer) for layer in range(6)] == expected
    assert stacked.layer_count == 5


def test_without_slices_layers_keep_their_numbers():
    assert recipe().source_layer("sum", 7) == 7
    assert recipe().layer_count is None


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ((Slice({}),), "slice 1 has no layers"),
        ((Slice({"other": (0, 2)}),), "slice 1 names \\['other'\\]"),
        ((Slice({"sum": (2, 2)}),), "counted from 0; found {'sum': \\[2, 2\\]}"),
        ((Slice({"sum": (-1, 2)}),), "found {'sum': \\[-1, 2\\]}"),
        ((Slice({"sum": (0, 2), "sort": (0, 3)}),), "equally many layers"),
    ],
)
def test_slices_that_give_no_model_are_refused(slices, message):
    with pytest.raises(ConfigError, match=message):
        recipe(slices=slices)


def test_every_wrong_slice_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        recipe(slices=(Slice({"sum": (3, 1)}), Slice({}), Slice({"other": (0, 1)})))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ((TIES,), "rule 1 merges ['sort'] in layer 3, whose slice is made of ['base', 'sum']"),
        (
            (Rule("linear", {"sum": {}}, layers=(4, 5)), TIES),
            "rule 2 merges ['sort'] in layer 3",
        ),
        (
            (Rule("linear", {"sum": {}}, layers=(3, 5), contains=("mlp",)), TIES),
            "rule 2 merges ['sort'] in layer 3",
        ),
    ],
    ids=["all layers", "a layer left", "tensors left"],
)
def test_a_rule_merges_only_models_of_its_slice(rules, problem):
    with pytest.raises(ConfigError) as caught:
        recipe(slices=STACKED, rules=rules)
    (found,) = caught.value.problems
    assert problem in found


def test_a_sliced_recipe_comes_back_from_plain_json():
    stacked = recipe(slices=STACKED, rules=(OF_SUM, TIES), tokenizer="union")
    back = Recipe.from_plain(json.loads(json.dumps(stacked.to_plain())))
    assert back == stacked
    assert back.digest == stacked.digest


def test_the_digest_of_a_recipe_without_slices_is_that_of_earlier_versions():
    """Runs recorded before there were slices are continued."""
    narrow = Rule("ties", TIES.models, TIES.parameters, (0, 2), ("mlp",))
    assert recipe().digest == "091d58191bad7375d98fb2c6a4ea0c84"
    assert recipe(rules=(narrow, TIES)).digest == "92ef0b082c81b6a0b44440238645d373"


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        recipe(base="bass", rules=(Rule("linear", {"other": {}}, contains=("mlp",)),))
    assert len(caught.value.problems) == 3


def test_the_reference_is_the_base_or_else_the_first_source():
    assert recipe().reference == "base"
    assert recipe(base=None, sources=SOURCES[1:]).reference == "sum"


def test_a_recipe_comes_back_from_plain_json():
    original = recipe(
        rules=(Rule("slerp", {"sum": {}, "sort": {"t": 0.5}}, {}, (0, 4), ("mlp", "up")), TIES),
        seed=7,
        dtype="bfloat16",
    )
    back = Recipe.from_plain(json.loads(json.dumps(original.to_plain())))
    assert back == original
    assert back.digest == original.digest


def test_the_digest_does_not_depend_on_where_known_weights_lie():
    moved = recipe().with_sources({"sum": Source("sum", "elsewhere/sum", "f1")})
    assert moved != recipe()
    assert moved.digest == recipe().digest


def test_the_digest_depends_on_the_place_where_weights_are_not_known():
    here = recipe().with_sources({"sum": Source("sum", "zoo/sum")})
    there = recipe().with_sources({"sum": Source("sum", "elsewhere/sum")})
    assert here.digest != there.digest


def test_the_digest_depends_on_everything_that_changes_the_weights():
    changed = [
        recipe(),
        recipe(seed=1),
        recipe(dtype="bfloat16"),
        recipe(base=None),
        recipe(rules=(LINEAR,)),
        recipe(rules=(LINEAR, LINEAR)),
        recipe(rules=(Rule("ties", TIES.models, {"lambda": 0.9}),)),
        recipe(rules=(Rule("ties", {"sum": {"weight": 0.5}}, TIES.parameters),)),
        recipe().with_sources({"sum": Source("sum", "zoo/sum", "f9")}),
        recipe(rules=(Rule("linear", {"sum": {}}, layers=(0, 1)), TIES)),
        recipe(rules=(Rule("linear", {"sum": {}}, contains=("mlp",)), TIES)),
        recipe(rules=(Rule("linear", {"sum": {}}, contains=("mlp", "up")), TIES)),
        recipe(tokenizer="union"),
        recipe(tokenizer="sum"),
        recipe(slices=STACKED[:1]),
        recipe(slices=STACKED[:1] * 2),
        recipe(slices=(Slice({"base": (1, 4), "sum": (0, 3), "sort": (0, 3)}),)),
    ]
    digests = [each.digest for each in changed]
    assert len(set(digests)) == len(digests)


def test_the_digest_depends_on_the_order_of_the_models_merged():
    """Slerp from a to b is not slerp from b to a."""
    forth = Rule("slerp", {"sum": {}, "sort": {}}, {"t": 0.3})
    back = Rule("slerp", {"sort": {}, "sum": {}}, {"t": 0.3})
    assert recipe(rules=(forth,)).digest != recipe(rules=(back,)).digest


def test_the_digest_depends_on_the_reference():
    """Which source gives configuration and dtype changes the model, also without a base."""
    first = recipe(base=None, rules=(LINEAR,))
    second = recipe(base=None, rules=(LINEAR,), sources=SOURCES[::-1])
    assert first.reference != second.reference
    assert first.digest != second.digest


def test_a_recipe_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        recipe().seed = 3
