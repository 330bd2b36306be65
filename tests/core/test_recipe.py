"""Recipes: which rule holds for a tensor, what is refused, and identity."""

import json
from dataclasses import FrozenInstanceError

import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Source

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
        (Rule("linear", {"sum": {}}, layers=(1, 1)), []),
        (Rule("linear", {"sum": {}}, contains="attn"), ["l0.attn", "l1.attn"]),
        (Rule("linear", {"sum": {}}, layers=(1, 9), contains="mlp"), ["l1.mlp", "l2.mlp"]),
    ],
    ids=["all", "layers", "no layers", "contains", "layers and contains"],
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
        ({"rules": (Rule("linear", {"sum": {}}, layers=(0, 3)),)}, "last rule must select"),
        ({"rules": (Rule("linear", {"sum": {}}, contains="mlp"),)}, "last rule must select"),
    ],
)
def test_what_could_not_be_merged_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        recipe(base="bass", rules=(Rule("linear", {"other": {}}, contains="mlp"),))
    assert len(caught.value.problems) == 3


def test_the_reference_is_the_base_or_else_the_first_source():
    assert recipe().reference == "base"
    assert recipe(base=None, sources=SOURCES[1:]).reference == "sum"


def test_a_recipe_comes_back_from_plain_json():
    original = recipe(
        rules=(Rule("slerp", {"sum": {}, "sort": {"t": 0.5}}, {}, (0, 4), "mlp"), TIES),
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
        recipe(rules=(Rule("linear", {"sum": {}}, contains="mlp"), TIES)),
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
