"""mergekit configurations become recipes, or every reason why not is named."""

import pytest
import yaml
from recipes.llama_names import LAYERS, llama_names

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Slice
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.recipe_check import validate_recipe
from evomerge.recipes.from_mergekit import recipe_from_mergekit, short_names
from evomerge.recipes.mergekit_methods import METHODS

ATTENTION = "model.layers.{}.self_attn.q_proj.weight"
MLP = "model.layers.{}.mlp.up_proj.weight"
NORM = "model.layers.{}.input_layernorm.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def recipe_of(text: str, layers: int = LAYERS) -> Recipe:
    return recipe_from_mergekit(yaml.safe_load(text), lambda _: llama_names(layers))


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        recipe_of(text)
    return caught.value.problems


LOOKUP = """
merge_method: linear
slices:
  - sources:
      - model: a
        layer_range: [0, 3]
        parameters: {weight: [{filter: q_proj, value: 1}, {filter: mlp, value: [2, 4]}]}
      - {model: b, layer_range: [0, 3]}
    parameters: {weight: [{filter: norm, value: 5}]}
  - sources:
      - {model: a, layer_range: [3, 6]}
      - {model: b, layer_range: [3, 6], parameters: {weight: 7}}
parameters: {weight: 6}
"""


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (ATTENTION.format(1), {"a": 1, "b": 6}),
        (MLP.format(0), {"a": 2, "b": 6}),
        (MLP.format(1), {"a": 3, "b": 6}),
        (MLP.format(2), {"a": 4, "b": 6}),
        (NORM.format(2), {"a": 5, "b": 5}),
        (NORM.format(3), {"a": 6, "b": 7}),
        (EMBEDDING, {"a": 6, "b": 6}),
        (HEAD, {"a": 6, "b": 7}),
        ("model.norm.weight", {"a": 6, "b": 7}),
    ],
)
def test_parameters_are_looked_up_from_the_nearest_scope_on(tensor, expected):
    """Slice's source, slice, whole; no matching filter goes on to the next."""
    models = recipe_of(LOOKUP).rule_for(tensor).models
    assert {name: own["weight"] for name, own in models.items()} == expected


def test_slices_that_only_part_parameters_leave_the_layers_alone():
    assert recipe_of(LOOKUP).slices == ()
    assert recipe_of(LOOKUP, layers=7).slices == (
        Slice({"a": (0, 3), "b": (0, 3)}),
        Slice({"a": (3, 6), "b": (3, 6)}),
    )


def test_a_gradient_over_one_layer_gives_its_end_and_outside_of_layers_its_start():
    merged = recipe_of(
        """
merge_method: slerp
base_model: a
slices:
  - sources: [{model: a, layer_range: [2, 3]}, {model: b, layer_range: [4, 5]}]
parameters: {t: [0.25, 0.75]}
"""
    )
    assert merged.rule_for(MLP.format(0)).parameters == {"t": 0.75}
    assert merged.rule_for(EMBEDDING).parameters == {"t": 0.25}
    assert merged.rule_for(HEAD).parameters == {"t": 0.25}
    assert merged.slices == (Slice({"a": (2, 3), "b": (4, 5)}),)


def test_slices_of_other_models_come_apart_where_a_filter_matches_every_layer():
    merged = recipe_of(
        """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [0, 2]}]
parameters: {scale: [{filter: layers, value: 0.5}, {value: 2}]}
"""
    )
    scales = {
        name: merged.rule_for(name).models for name in (MLP.format(1), MLP.format(2), HEAD)
    }
    assert [*scales.values()] == [
        {"a": {"scale": 0.5}},
        {"b": {"scale": 0.5}},
        {"b": {"scale": 2}},
    ]


def test_a_filter_is_matched_in_the_names_of_the_model_that_it_is_for():
    """Layer 3 of b is layer 1 of the merged model, and the filter names layer 3."""
    merged = recipe_of(
        """
merge_method: linear
slices:
  - sources:
      - {model: a, layer_range: [0, 2], parameters: {weight: 1}}
      - model: b
        layer_range: [2, 4]
        parameters: {weight: [{filter: layers.3.mlp, value: 8}, {value: 9}]}
"""
    )
    weights = [merged.rule_for(MLP.format(k)).models["b"]["weight"] for k in range(2)]
    assert weights == [9, 8]
    assert merged.rule_for(ATTENTION.format(1)).models["b"]["weight"] == 9


def test_two_filters_that_match_one_tensor_are_combined():
    merged = recipe_of(
        """
merge_method: ties
base_model: base
models:
  - model: a
    parameters:
      weight: [{filter: mlp, value: 1}, {value: 2}]
      density: [{filter: proj, value: 0.3}, {value: 0.4}]
"""
    )
    both = {"weight": 1.0, "density": 0.3}
    assert merged.rule_for(MLP.format(2)).models["a"] == both
    assert [rule.contains for rule in merged.rules] == [("mlp", "proj"), ("proj",), ()]


def test_a_base_that_is_not_listed_is_merged_where_it_is_a_model_like_others():
    merged = recipe_of(
        "{merge_method: linear, base_model: c, models: [{model: a}, {model: b}], "
        "parameters: {weight: 1}}"
    )
    assert [*merged.rules[0].models] == ["a", "b", "c"]
    assert merged.reference == "c"


def test_slerp_goes_from_the_base_on():
    merged = recipe_of(
        "{merge_method: slerp, base_model: b, models: [{model: a}, {model: b}], "
        "parameters: {t: 0.2}}"
    )
    assert [*merged.rules[0].models] == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("dtype: bfloat16", "bfloat16"),
        ("dtype: float32\nout_dtype: torch.float16", "float16"),
        ("", None),
    ],
)
def test_the_dtype_is_that_of_the_result(given, expected):
    text = f"merge_method: passthrough\nmodels: [{{model: a}}]\n{given}"
    assert recipe_of(text).dtype == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tokenizer_source: union", "union"),
        ("tokenizer_source: base", "x"),
        ("tokenizer_source: o/b", "b"),
        ("tokenizer: {source: o/other}", "other"),
        ("tokenizer: {}", "union"),
        ("", None),
    ],
)
def test_the_tokenizer_is_named_as_a_source(given, expected):
    text = "merge_method: ties\nmodels: [{model: o/b}]\nparameters: {weight: 1}\n"
    merged = recipe_of(f"{text}base_model: o/x\n{given}")
    assert merged.tokenizer == expected
    assert expected in (None, "union", *(source.name for source in merged.sources))


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_parameters_are_those_of_the_operator_of_its_name(method):
    count = 1 if method in ("passthrough", "nearswap", "arcee_fusion") else 2
    listed = [{"model": name} for name in "ab"[:count]]
    config = {"merge_method": method, "models": listed}
    if METHODS[method].base != "a model":
        config["base_model"] = "a" if method == "slerp" else "base"
    required = [
        name
        for name, default in {**METHODS[method].per_model, **METHODS[method].whole}.items()
        if default is None
    ]
    config["parameters"] = dict.fromkeys(required, 0.5)
    merged = recipe_of(yaml.safe_dump(config))
    assert validate_recipe(merged) == []
    (rule,) = merged.rules
    missing = {p.name: p.default for p in OPERATORS[method].parameters} | {}
    for name in (*rule.parameters, *next(iter(rule.models.values()))):
        missing.pop(name)
    assert set(missing) <= {"lambda", "lines"}


def test_what_mergekit_passes_over_is_passed_over():
    merged = recipe_of(
        "{merge_method: linear, models: [{model: a, parameters: {weight: 1, density: 0.5}}], "
        "parameters: {int8_mask: true}}"
    )
    assert merged.rules[0].models == {"a": {"weight": 1.0}}
    assert merged.rules[0].parameters == {"normalize": True}


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["org/one", "other/two"], ["one", "two"]),
        (["x/model", "y/model", "z/y/model"], ["model", "y-model", "z-y-model"]),
        (["org/one@main", "org/one@v2"], ["one", "org-one"]),
        (["a/same", "a/same+b/lora"], ["same", "same+lora"]),
        (["./zoo/a/", "~/b", "/c"], ["a", "b", "c"]),
        (["x/union"], ["x-union"]),
    ],
)
def test_sources_are_named_by_the_ends_of_their_places(models, names):
    assert [*short_names(models).values()] == names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "expected a mapping with the keys merge_method"),
        ("{merge_method: tise, models: [{model: a}]}", "unknown merge_method 'tise'; did you"),
        ("{merge_method: [linear], models: [{model: a}]}", "must be the name of a method"),
        ("{merge_method: {linear: 1}, models: [{model: a}]}", "must be the name of a method"),
        ("{merge_method: linear, slices: [{}]}", "slices[0].sources: give at least one model"),
        (
            "{merge_method: karcher, models: [{model: a}], parameters: {max_iter: 1%s}}"
            % ("0" * 400),
            "parameters.max_iter: must be finite",
        ),
        (
            "{merge_method: linear, models: [{model: a}], parameters: {weight: 'nan'}}",
            "parameters.weight: must be finite, found 'nan'",
        ),
        ("{merge_method: linear}", "give either 'models' or 'slices'"),
        ("{merge_method: linear, models: [{model: a}], slices: [{}]}", "give either 'models'"),
        ("{merge_method: linear, modules: {text: {}}}", "modules: models of several modules"),
        (
            "{merge_method: passthrough, models: [{model: a}], chat_template: auto}",
            "chat_template: the merged model has the template of its reference",
        ),
        ("{merge_method: linear, model: [{model: a}]}", "unknown key 'model'; did you mean"),
        ("{merge_method: linear, models: [{model: a}, {model: a}]}", "names ['a'] twice"),
        ("{merge_method: linear, models: [{model: {path: a}}]}", "models[0].model: must be"),
        (
            "{merge_method: linear, models: [{model: a, layer_range: [0, 2]}]}",
            "models[0]: unknown key 'layer_range'",
        ),
        ("{merge_method: linear, models: [{model: a}]}", "linear needs 'weight' of a, which"),
        (
            "{merge_method: linear, models: [{model: a}], parameters: {wieght: 1}}",
            "parameters: unknown parameter 'wieght'; did you mean 'weight'?",
        ),
        (
            "{merge_method: linear, models: [{model: a}], parameters: {weight: much}}",
            "parameters.weight: must be a number, found 'much'",
        ),
        ("{merge_method: ties, models: [{model: a}], parameters: {weight: 1}}", "needs a base"),
        (
            "{merge_method: slerp, base_model: a, models: [{model: b}, {model: c}], "
            "parameters: {t: 1}}",
            "slerp merges the base_model and one more, found ['b', 'c', 'a']",
        ),
        (
            "{merge_method: passthrough, slices: [{sources: [{model: a, layer_range: [4, 9]}]}]}",
            "slices[0]: layer_range [4, 9] of a, which has 6 layers.",
        ),
        (
            "{merge_method: passthrough, slices: [{sources: [{model: a, layer_range: [4]}]}]}",
            "slices[0].sources[0].layer_range: must be [first, last + 1]",
        ),
        (
            "{merge_method: linear, slices: [{sources: [{model: a, layer_range: [0, 2]}, "
            "{model: b, layer_range: [0, 3]}]}]}",
            "slices[0]: its sources must give equally many layers",
        ),
        (
            "{merge_method: ties, base_model: x, slices: [{sources: "
            "[{model: a, layer_range: [0, 2]}]}]}",
            "the base_model x must be among the sources",
        ),
        (
            "{merge_method: passthrough, models: [{model: a}], tokenizer: {tokens: {x: {}}}}",
            "tokenizer.tokens: not supported",
        ),
        (
            "{merge_method: passthrough, models: [{model: a}], tokenizer: {}, "
            "tokenizer_source: base}",
            "give either 'tokenizer_source' or 'tokenizer'",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text, problem):
    assert any(problem in found for found in problems_of(text))


def test_models_of_different_depth_are_refused():
    plain = yaml.safe_load(
        "{merge_method: linear, models: [{model: a}, {model: b}], parameters: {weight: 1}}"
    )
    with pytest.raises(ConfigError, match="they differ in layers"):
        recipe_from_mergekit(plain, lambda model: llama_names({"a": 4, "b": 5}[model]))


def test_every_problem_is_named_at_once():
    found = problems_of(
        """
merge_method: tise
modules: {}
chat_template: auto
models: [{model: 3, parameters: {weight: []}}, {modle: a}]
dtype: 3
"""
    )
    assert len(found) == 8
