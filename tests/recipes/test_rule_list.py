"""Lists of rules: every tensor is merged as asked for, by few rules."""

from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.llama_names import llama_names

from evomerge.core.recipe import Rule
from evomerge.recipes.rule_list import rules_for, same_merge

NAMES = llama_names(4)
PARTS = ("self_attn", "mlp", "proj", "q_proj", "attn.q")


def scaled(scale: float) -> Rule:
    return Rule("passthrough", {"a": {"scale": scale}})


def resolved(rules, name) -> Rule:
    return next(rule for rule in rules if rule.selects(name))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=len(NAMES), max_size=len(NAMES)),
    st.lists(st.sampled_from(PARTS), unique=True),
)
def test_any_way_to_merge_tensors_is_found_again(scales, parts):
    merges = {name: scaled(k / 2) for name, k in zip(NAMES, scales, strict=True)}
    rules = rules_for(merges, parts)
    assert all(same_merge(resolved(rules, name), rule) for name, rule in merges.items())
    assert rules[-1].layers is None
    assert rules[-1].contains == ()


@settings(deadline=None)
@given(st.dictionaries(st.text("ab.01", min_size=1, max_size=6), st.integers(0, 2), min_size=1))
def test_tensors_of_any_names_are_told_apart(scales):
    merges = {name: scaled(k / 2) for name, k in scales.items()}
    rules = rules_for(merges, ["a"])
    assert all(same_merge(resolved(rules, name), rule) for name, rule in merges.items())


def test_what_is_merged_alike_everywhere_takes_one_rule():
    assert rules_for(dict.fromkeys(NAMES, scaled(0.5)), PARTS) == (scaled(0.5),)


def test_a_part_that_is_alike_in_all_layers_takes_one_rule_without_layers():
    merges = {name: scaled(0.5 if "mlp" in name else 1.0) for name in NAMES}
    assert rules_for(merges, ["self_attn", "mlp"]) == (
        Rule("passthrough", {"a": {"scale": 0.5}}, contains=("mlp",)),
        scaled(1.0),
    )


def test_neighbouring_layers_that_are_merged_alike_share_a_rule():
    merges = {name: scaled(0.5 if ".0." in name or ".1." in name else 1.0) for name in NAMES}
    first, last = rules_for(merges, [])
    assert (first.layers, first.contains) == ((0, 2), ())
    assert last == scaled(1.0)


def test_a_lone_tensor_is_named_where_no_part_tells_it_apart():
    merges = {name: scaled(0.5 if "embed" in name else 1.0) for name in NAMES}
    assert [rule.contains for rule in rules_for(merges, PARTS)] == [
        ("model.embed_tokens.weight",),
        (),
    ]


def test_a_rule_is_kept_where_a_list_without_it_may_not_be_taken():
    merges = {name: scaled(0.5 if "mlp" in name else 1.0) for name in NAMES}
    every_layer = rules_for(
        merges, ["mlp"], lambda rules: any(r.layers == (0, 4) and not r.contains for r in rules)
    )
    assert [(rule.layers, rule.contains) for rule in every_layer] == [
        (None, ("mlp",)),
        ((0, 4), ()),
        (None, ()),
    ]
