"""Recipes written for mergekit: they say the same, or every reason why they cannot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.llama_names import LAYERS, llama_names

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.recipes.from_mergekit import recipe_from_mergekit
from evomerge.recipes.to_mergekit import mergekit_notes, recipe_to_mergekit

SOURCES = tuple(Source(name, f"zoo/{name}") for name in ("base", "a", "b", "c"))
PARTS = ("self_attn", "mlp", "q_proj", "proj", "norm", "embed_tokens", "layers")
NUMBER = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])
MODEL_PARAMETERS = {
    "linear": {"weight": NUMBER},
    "task_arithmetic": {"weight": NUMBER},
    "ties": {"weight": NUMBER, "density": NUMBER},
    "dare_ties": {"weight": NUMBER, "density": NUMBER},
    "della": {"weight": NUMBER, "density": NUMBER, "epsilon": NUMBER},
    "breadcrumbs": {"weight": NUMBER, "density": NUMBER, "gamma": NUMBER},
    "slerp": {},
    "karcher": {},
    "model_stock": {},
    "passthrough": {"scale": NUMBER},
}
WHOLE_PARAMETERS = {
    "linear": {"normalize": st.booleans()},
    "task_arithmetic": {"lambda": NUMBER, "normalize": st.booleans()},
    **{
        name: {"lambda": NUMBER, "normalize": st.booleans(), "rescale": st.booleans()}
        for name in ("ties", "dare_ties", "della", "breadcrumbs")
    },
    "slerp": {"t": NUMBER},
    "karcher": {"max_iter": st.integers(1, 9), "tol": NUMBER},
    "model_stock": {"filter_wise": st.booleans()},
    "passthrough": {},
}
NEEDS_BASE = {"task_arithmetic", "ties", "dare_ties", "della", "breadcrumbs", "model_stock"}


@st.composite
def rules(draw, operator: str, models: list[str], count: int) -> Rule:
    few = operator in ("karcher", "model_stock", "slerp", "passthrough")
    chosen = models if few else draw(st.lists(st.sampled_from(models), min_size=1, unique=True))
    first = draw(st.integers(0, count - 1))
    last = draw(st.integers(first + 1, count))
    return Rule(
        operator,
        {m: draw(st.fixed_dictionaries(MODEL_PARAMETERS[operator])) for m in chosen},
        draw(st.fixed_dictionaries(WHOLE_PARAMETERS[operator])),
        layers=draw(st.none() | st.just((first, last))),
        contains=draw(st.lists(st.sampled_from(PARTS), max_size=2, unique=True).map(tuple)),
        scale=draw(st.sampled_from([1.0, 2.0, 0.5])) if operator == "passthrough" else 1.0,
    )


@st.composite
def recipes(draw) -> Recipe:
    """Recipes that mergekit can say: one operator, one set of models where it has no weights."""
    operator = draw(st.sampled_from(sorted(MODEL_PARAMETERS)))
    fewest, most = {"slerp": (2, 2), "passthrough": (1, 1)}.get(operator, (2, 3))
    models = draw(st.lists(st.sampled_from("abc"), min_size=fewest, max_size=most, unique=True))
    base = draw(st.just("base") if operator in NEEDS_BASE else st.sampled_from([None, "base"]))
    slices = ()
    if draw(st.booleans()):
        slices = tuple(
            Slice({m: (f, f + size) for m in ([base] if base else []) + models
                   for f in [draw(st.integers(0, LAYERS - size))]})
            for size in draw(st.lists(st.integers(1, LAYERS), min_size=1, max_size=3))
        )  # fmt: skip
    count = sum(part.size for part in slices) or LAYERS
    listed = draw(st.lists(rules(operator, models, count), max_size=4))
    last = draw(rules(operator, models, count))
    return Recipe(
        sources=SOURCES,
        rules=(*listed, Rule(operator, last.models, last.parameters, scale=last.scale)),
        base=base,
        seed=draw(st.integers(0, 3)),
        dtype=draw(st.sampled_from([None, "float32", "bfloat16"])),
        slices=slices,
        tokenizer=draw(st.sampled_from([None, "union", "b"])),
    )


def merges(recipe: Recipe) -> dict[str, tuple]:
    """How each tensor is merged, by place of the models; what weighs nothing is left out."""
    places = {source.name: source.model for source in recipe.sources}
    found = {}
    for name in llama_names(recipe.layer_count or LAYERS):
        rule = recipe.rule_for(name)
        layer = int(name.split(".")[2]) if ".layers." in name else None
        models = {
            places[model]: (
                layer if layer is None else recipe.source_layer(model, layer),
                {k: v * rule.scale if k == "scale" else v for k, v in own.items()},
            )
            for model, own in rule.models.items()
            if own.get("weight", 1.0) != 0
        }
        in_order = [*models] if rule.operator == "slerp" else None
        found[name] = (rule.operator, models, in_order, dict(rule.parameters))
    return found


@settings(max_examples=150, deadline=None)
@given(recipes())
def test_a_recipe_comes_back_merging_every_tensor_alike(recipe):
    plain = recipe_to_mergekit(recipe, lambda _: llama_names())
    back = recipe_from_mergekit(plain, lambda _: llama_names(), recipe.seed)
    assert merges(back) == merges(recipe)
    assert (back.dtype, back.seed) == (recipe.dtype, recipe.seed)
    places = {source.name: source.model for source in back.sources}
    assert places.get(back.tokenizer, back.tokenizer) == {"b": "zoo/b"}.get(
        recipe.tokenizer, recipe.tokenizer
    )
    assert places[back.reference] == next(
        s.model for s in recipe.sources if s.name == recipe.reference
    )


def written(recipe: Recipe) -> dict:
    return recipe_to_mergekit(recipe, lambda _: llama_names())


def recipe_of(*rules: Rule, base: str | None = None, **more) -> Recipe:
    return Recipe(SOURCES, rules, base, **more)


def test_one_way_for_all_layers_is_written_in_the_short_form():
    ties = Rule(
        "ties",
        {"a": {"weight": 0.5, "density": 0.2}, "b": {"weight": 1.0, "density": 1.0}},
        {"lambda": 1.0, "normalize": True, "rescale": False},
    )
    assert written(recipe_of(ties, base="base", dtype="bfloat16", tokenizer="base")) == {
        "merge_method": "ties",
        "base_model": "zoo/base",
        "models": [
            {"model": "zoo/base"},
            {"model": "zoo/a", "parameters": {"weight": 0.5, "density": 0.2}},
            {"model": "zoo/b", "parameters": {"weight": 1.0}},
        ],
        "parameters": {"lambda": 1.0, "normalize": True, "rescale": False},
        "dtype": "float32",
        "out_dtype": "bfloat16",
        "tokenizer_source": "zoo/base",
    }


def test_parts_of_names_become_filters():
    models = {"a": {}, "b": {}}
    plain = written(
        recipe_of(
            Rule("slerp", models, {"t": 0.2}, contains=("self_attn",)),
            Rule("slerp", models, {"t": 0.7}, contains=("mlp",)),
            Rule("slerp", models, {"t": 0.5}),
            base="a",
        )
    )
    assert plain["models"] == [{"model": "zoo/a"}, {"model": "zoo/b"}]
    assert plain["parameters"]["t"] == [
        {"filter": "self_attn", "value": 0.2},
        {"filter": "mlp", "value": 0.7},
        {"value": 0.5},
    ]


def test_stacked_layers_of_several_models_come_back():
    stacked = recipe_of(
        Rule("passthrough", {"a": {"scale": 1.0}}, layers=(0, 4)),
        Rule("passthrough", {"b": {"scale": 0.5}}, layers=(4, 8), contains=("o_proj",)),
        Rule("passthrough", {"b": {"scale": 1.0}}, layers=(4, 8)),
        Rule("passthrough", {"a": {"scale": 1.0}}, contains=("embed_tokens",)),
        Rule("passthrough", {"b": {"scale": 1.0}}),
        slices=(Slice({"a": (0, 4)}), Slice({"b": (2, 6)})),
    )
    plain = written(stacked)
    assert [part["sources"][0]["layer_range"] for part in plain["slices"]] == [[0, 4], [2, 6]]
    assert merges(recipe_from_mergekit(plain, lambda _: llama_names())) == merges(stacked)


def test_scales_of_rules_become_scales_by_filter():
    plain = written(
        recipe_of(
            Rule("passthrough", {"a": {}}, contains=("o_proj",), scale=0.5),
            Rule("passthrough", {"a": {"scale": 4.0}}, contains=("down_proj",), scale=0.5),
            Rule("passthrough", {"a": {}}),
            base="a",
        )
    )
    assert plain["models"][0]["parameters"]["scale"] == [
        {"filter": "o_proj", "value": 0.5},
        {"filter": "down_proj", "value": 2.0},
        {"value": 1.0},
    ]


WEIGHED = {"a": {"weight": 1.0}, "b": {"weight": 1.0}}


@pytest.mark.parametrize(
    ("recipe", "problems"),
    [
        (
            recipe_of(Rule("tsv_m", {"a": {}}, {}), base="base"),
            ["unknown merge_method 'tsv_m'"],
        ),
        (
            recipe_of(
                Rule("karcher", {"a": {}, "b": {}}, layers=(0, 2)),
                Rule("linear", WEIGHED),
            ),
            ["one merge_method for all tensors; the recipe has ['karcher', 'linear']"],
        ),
        (
            recipe_of(Rule("task_arithmetic", WEIGHED, {"lines": 0.3}), base="base"),
            ["rule 1: task_arithmetic has no parameter 'lines'"],
        ),
        (
            recipe_of(Rule("linear", {"a": {}, "b": {}})),
            ["rule 1: linear needs 'weight', which the rule does not give"],
        ),
        (
            recipe_of(
                Rule("passthrough", {"a": {}}, contains=("mlp",)),
                Rule("passthrough", {"b": {}}),
            ),
            ["merged from ('a',) and ('b',); all of a slice is merged from the same"],
        ),
        (
            recipe_of(
                Rule("slerp", {"a": {}, "b": {}}, {"t": 0.5}, contains=("mlp",)),
                Rule("slerp", {"b": {}, "a": {}}, {"t": 0.5}),
            ),
            ["merged from ('a', 'b') and ('b', 'a')"],
        ),
        (
            recipe_of(
                Rule("karcher", {"a": {}, "b": {}}, layers=(0, 1)),
                Rule("karcher", {"a": {}, "b": {}}, contains=("embed",)),
                Rule("karcher", {"a": {}, "b": {}, "c": {}}),
            ),
            ["the last layers are merged from 3 models, the first from 2"],
        ),
        (
            Recipe(
                (Source("a", "x"), Source("b", "x")),
                (Rule("linear", {**WEIGHED, "b": {"wait": 1}}),),
            ),
            ["linear has no parameter 'wait'", "needs 'weight'", "['a', 'b'] are one model, x"],
        ),
        (
            recipe_of(Rule("linear", WEIGHED, scale=0.5)),
            [
                "rule 1: linear cannot scale the merged tensor there (scale: 0.5); only passthrough"
            ],
        ),
    ],
    ids=range(9),
)
def test_every_reason_why_mergekit_cannot_say_it_is_named(recipe, problems):
    with pytest.raises(ConfigError) as caught:
        written(recipe)
    assert all(
        found.startswith("not expressible in mergekit: ") for found in caught.value.problems
    )
    assert len(caught.value.problems) == len(problems)
    for problem, found in zip(problems, caught.value.problems, strict=True):
        assert problem in found


def test_a_parameter_that_mergekit_lacks_is_left_out_where_it_changes_nothing():
    plain = written(
        recipe_of(Rule("sce", {"a": {}, "b": {}}, {"lambda": 1.0, "lines": 0.0}), base="base")
    )
    assert plain["parameters"] == {"select_topk": 1.0}


@pytest.mark.parametrize(
    ("operator", "dtype", "count"), [("linear", "float32", 0), ("dare_linear", None, 2)]
)
def test_what_is_not_carried_over_is_told(operator, dtype, count):
    recipe = recipe_of(Rule(operator, WEIGHED), base="base", dtype=dtype, seed=9)
    notes = mergekit_notes(recipe)
    assert len(notes) == count
    assert not notes or "seed 9" in notes[0]
