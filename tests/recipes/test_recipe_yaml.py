"""Recipe files: they come back equal, and everything wrong with one is named at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.recipes.recipe_yaml import read_recipe, recipe_from_yaml, recipe_to_yaml

PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Cn"))
TEXT = st.text(PRINTABLE, min_size=1, max_size=8) | st.sampled_from(
    ["no", "1e3", "null", "true", "12", "0x1f", "a: b", "~", "- x", "2024-01-01", "#"]
)
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans(), TEXT
)
PARAMETERS = st.dictionaries(TEXT, VALUES, max_size=3)


@st.composite
def recipes(draw) -> Recipe:
    names = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    sources = tuple(Source(n, draw(TEXT), draw(st.none() | TEXT)) for n in names)
    models = st.lists(st.sampled_from(names), min_size=1, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries(dict.fromkeys(chosen, PARAMETERS))
    )
    first = st.integers(0, 40)
    layers = st.none() | st.tuples(first, st.integers(1, 9)).map(lambda r: (r[0], sum(r)))
    scales = st.just(1.0) | st.integers(1, 9) | st.floats(1e-300, 1e300)
    parts = st.lists(TEXT, max_size=2).map(tuple)
    rules = st.builds(Rule, TEXT, models, PARAMETERS, layers, parts, scales)
    last = st.builds(Rule, TEXT, models, PARAMETERS, scale=scales)
    size = draw(st.integers(1, 9))
    ranges = st.fixed_dictionaries(
        dict.fromkeys(names, first.map(lambda start: (start, start + size)))
    )
    return Recipe(
        sources=sources,
        rules=(*draw(st.lists(rules, max_size=3)), draw(last)),
        base=draw(st.none() | st.sampled_from(names)),
        seed=draw(st.integers()),
        dtype=draw(st.none() | TEXT),
        slices=tuple(draw(st.lists(st.builds(Slice, ranges), max_size=2))),
        tokenizer=draw(st.none() | st.just("union") | st.sampled_from(names)),
    )


@given(recipes(), st.text(PRINTABLE | st.just("\n"), max_size=30))
def test_a_recipe_comes_back_equal_with_an_equal_digest(recipe, comment):
    back = recipe_from_yaml(recipe_to_yaml(recipe, comment))
    assert back == recipe
    assert back.digest == recipe.digest


@given(recipes())
def test_the_order_of_sources_rules_and_models_is_kept(recipe):
    back = recipe_from_yaml(recipe_to_yaml(recipe))
    assert [s.name for s in back.sources] == [s.name for s in recipe.sources]
    assert [list(r.models) for r in back.rules] == [list(r.models) for r in recipe.rules]


SHORT = """
recipe: 1
sources: {a: x/a, b: {model: x/b}}
rules:
  - {operator: linear, models: {b: {weight: 1e-3}, a: }}
"""


def test_a_recipe_may_be_written_shortly():
    assert recipe_from_yaml(SHORT) == Recipe(
        (Source("a", "x/a"), Source("b", "x/b")),
        (Rule("linear", {"b": {"weight": 0.001}, "a": {}}),),
    )


def test_parts_slices_and_tokenizer_are_written_plainly():
    text = """
recipe: 1
sources: {a: x/a, b: x/b}
tokenizer: union
slices: [{a: [0, 4]}, {a: [2, 4], b: [0, 2]}]
rules:
  - {operator: linear, layers: [4, 6], contains: [mlp, up], models: {b: }}
  - {operator: linear, layers: [0, 6], contains: mlp, models: {a: }}
  - {operator: linear, models: {a: }}
"""
    recipe = recipe_from_yaml(text)
    assert recipe.slices == (Slice({"a": (0, 4)}), Slice({"a": (2, 4), "b": (0, 2)}))
    assert [rule.contains for rule in recipe.rules] == [("mlp", "up"), ("mlp",), ()]
    assert recipe.tokenizer == "union"


def test_model_folders_are_found_from_the_recipes_folder(tmp_path):
    (tmp_path / "x" / "a").mkdir(parents=True)
    path = tmp_path / "recipe.yaml"
    path.write_text(SHORT)
    assert [s.model for s in read_recipe(path).sources] == [str(tmp_path / "x" / "a"), "x/b"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"recipe: 1": "recipe: 2"}, "'recipe' must be 1, the format's version; found 2."),
        ({"recipe: 1": ""}, "'recipe' is missing."),
        ({"recipe: 1": "recipe: true"}, "'recipe' must be 1"),
        ({"recipe": "recipe: 1\nsed: 3\nrecipe"}, "stands twice"),
        ({"rules:": "sed: 3\nrules:"}, "unknown key 'sed'; did you mean 'seed'?"),
        ({"rules:": "seed: true\nrules:"}, "'seed' must be a whole number; found True."),
        ({"rules:": "base: [a]\nrules:"}, "'base' must be the name of a source"),
        ({"rules:": "base: c\nrules:"}, "base 'c' is not among the sources ['a', 'b']"),
        ({"{model: x/b}": "{modell: x/b}"}, "source 'b': unknown key 'modell'"),
        ({"{model: x/b}": "{model: x, fingerprint: 3}"}, "source 'b': 'fingerprint' must"),
        ({"x/a": "3"}, "source 'a': expected a mapping with the keys model, fingerprint"),
        ({"{a: x/a": "{1: x/a"}, "'sources' must be a mapping of name"),
        ({"operator": "operater"}, "rule 1: unknown key 'operater'"),
        ({"models": "layers: [2, 2], models"}, "rule 1: 'layers' must be"),
        ({"models": "layers: [0, 1.5], models"}, "rule 1: 'layers' must be"),
        ({"models": "scale: 0, models"}, "rule 1: 'scale' must be a finite number above 0"),
        ({"models": "scale: .inf, models"}, "rule 1: 'scale' must be"),
        ({"models": "scale: true, models"}, "rule 1: 'scale' must be"),
        ({"models": "parameters: [1], models"}, "rule 1: 'parameters' must be"),
        ({"models": "parameters: {t: .nan}, models"}, "rule 1: 'parameters' must be"),
        ({"1e-3": "[x]"}, "rule 1: 'models' must be"),
        ({"models": "contains: [], models"}, "rule 1: 'contains' must be a part of tensor"),
        ({"models": "contains: [mlp, 3], models"}, "rule 1: 'contains' must be"),
        ({"rules:": "slices: {a: [0, 2]}\nrules:"}, "'slices' must be a list of mappings"),
        ({"rules:": "slices: [{a: [2, 0]}]\nrules:"}, "'slices' must be"),
        ({"rules:": "slices: [{}]\nrules:"}, "'slices' must be"),
        ({"rules:": "tokenizer: [a]\nrules:"}, "'tokenizer' must be 'union' or the name"),
        ({"rules:": "merge_method: linear\nrules:"}, "this is a mergekit configuration"),
        ({"{b: {weight: 1e-3}, a: }": "[a, b]"}, "rule 1: 'models' must be"),
        ({"a: }}": "c: }}"}, "rule 1 names ['c']"),
        ({"{operator": "x\n  - {operator"}, "rule 1: expected a mapping"),
        ({"models": "layers: [0, 1], models"}, "the last rule must select every tensor"),
    ],
    ids=str,
)
def test_a_wrong_recipe_is_refused_by_name(changed, problem):
    text = SHORT
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        recipe_from_yaml(text, where="file.yaml")
    assert any(problem in found for found in caught.value.problems)
    assert all(found.startswith("file.yaml: ") for found in caught.value.problems)


def test_every_problem_is_named_at_once():
    text = """
recipe: 3
sources: {a: {modell: x}}
seed: x
rules:
  - {operator: 3, models: {a: 1}, containing: mlp}
  - 7
"""
    with pytest.raises(ConfigError) as caught:
        recipe_from_yaml(text)
    assert len(caught.value.problems) == 8


@pytest.mark.parametrize("text", ["", "[]", "text", "3", "- &a [*a]"])
def test_a_file_that_is_no_mapping_is_no_recipe(text):
    with pytest.raises(ConfigError, match="recipe: expected a mapping with the keys"):
        recipe_from_yaml(text)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: \x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"recipe\.yaml: "):
        read_recipe(path)
