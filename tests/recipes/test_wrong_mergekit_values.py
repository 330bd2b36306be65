"""Whatever a mergekit file holds in whatever place, it is read or refused by name."""

import copy
from datetime import date

import pytest
import yaml
from recipes.llama_names import llama_names

from evomerge.core.errors import ConfigError
from evomerge.recipes.from_mergekit import recipe_from_mergekit

WHOLE = (
    """
merge_method: ties
base_model: x
models:
  - model: a
    parameters: {weight: [{filter: mlp, value: [1, 2]}, {value: 2}], density: 0.5}
  - {model: b, parameters: {weight: 1}}
parameters: {normalize: true, lambda: [0.5, 1]}
dtype: float32
out_dtype: bfloat16
tokenizer_source: union
""",
    """
merge_method: slerp
base_model: a
slices:
  - sources:
      - {model: a, layer_range: [0, 3], parameters: {t: 1}}
      - {model: b, layer_range: [0, 3]}
    base_model: b
    parameters: {t: [{filter: mlp, value: 1}, {value: 0.5}]}
    residual_weight: null
  - sources: [{model: a, layer_range: [3, 6]}, {model: b, layer_range: [3, 6]}]
parameters: {t: 0.5}
tokenizer: {source: base, tokens: null, pad_to_multiple_of: null}
modules: null
chat_template: null
""",
    """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [1, 6], parameters: {scale: 0.5}}]
""",
    "{merge_method: karcher, models: [{model: a}, {model: b}], parameters: {max_iter: 3}}",
)
"""Configurations that have every key."""

ODD = (
    *(None, True, 0, -1, 3, 1.5, float("nan"), float("inf"), 10**400, "", "x", "nan", "union"),
    *([], [[]], ["x"], [None], [{}], {}, {"x": 1}, {None: 1}, {3: {}}, {"filter": 3}),
    *({"value": {}}, {"value": None}, [{"filter": [1], "value": 1}], date(2020, 1, 1), {1, 2}),
)
"""What YAML can put in the place of anything."""


def places(plain, place=()):
    """The keys that lead to every value of a configuration."""
    yield place
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from places(value, (*place, key))


def replaced(plain, place, value):
    if not place:
        return value
    changed = copy.copy(plain)
    changed[place[0]] = replaced(plain[place[0]], place[1:], value)
    return changed


def problems_of(plain) -> list[str]:
    try:
        recipe_from_mergekit(plain, lambda _: llama_names(6))
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("text", WHOLE, ids=lambda text: yaml.safe_load(text)["merge_method"])
def test_a_value_of_a_wrong_type_is_a_problem_of_the_configuration(text):
    """Anything in the place of anything gives a recipe or a ConfigError, nothing else."""
    plain = yaml.safe_load(text)
    refused = [
        problems
        for place in places(plain)
        for value in ODD
        if (problems := problems_of(replaced(plain, place, value)))
    ]
    assert len(refused) > 100
    assert all(all(problems) for problems in refused)


@pytest.mark.parametrize("value", [3, "x", [], None])
def test_what_is_no_mapping_is_one_problem(value):
    for place in [(), ("models", 0), ("slices", 0), ("slices", 0, "sources", 0)]:
        text = WHOLE[1] if "slices" in place else WHOLE[0]
        with pytest.raises(ConfigError, match="expected a mapping") as caught:
            recipe_from_mergekit(
                replaced(yaml.safe_load(text), place, value), lambda _: llama_names(6)
            )
        assert len(caught.value.problems) == 1
