"""``evomerge recipe`` and ``merge`` on recipes of either kind."""

from pathlib import Path

import pytest
import torch
import yaml
from cli.conftest import call  # noqa: F401 - a fixture
from merging.tiny_llamas import make_llama
from safetensors.torch import load_file

from evomerge.recipes.recipe_yaml import read_recipe

CONFIG = """
merge_method: linear
models:
  - {model: first, parameters: {weight: 3}}
  - {model: second, parameters: {weight: [{filter: mlp, value: 1.0}, {value: 0.0}]}}
dtype: float32
"""
RECIPE = """
recipe: 1
base: first
sources: {first: first, second: second}
rules: [{operator: task_arithmetic, models: {second: {weight: 0.25}}}]
"""
UP, DOWN = "model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed, name in enumerate(("first", "second"), 5):
        make_llama(tmp_path / name, seed=seed)
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_a_mergekit_configuration_is_merged_into_a_model_folder(folder, call):  # noqa: F811
    done = call("merge", folder / "config.yml", folder / "out", "--offline")
    assert done.code == 0, done.err
    merged = load_file(folder / "out" / "model.safetensors")
    a, b = (load_file(folder / name / "model.safetensors") for name in ("first", "second"))
    torch.testing.assert_close(merged[UP], 0.75 * a[UP] + 0.25 * b[UP])
    torch.testing.assert_close(merged[DOWN], a[DOWN])
    written = read_recipe(folder / "out" / "recipe.yaml")
    assert [rule.contains for rule in written.rules] == [("mlp",), ()]


def test_a_mergekit_configuration_is_shown_as_a_recipe(folder, call):  # noqa: F811
    done = call("recipe", folder / "config.yml")
    assert done.code == 0, done.err
    (folder / "shown.yaml").write_text(done.out)
    recipe = read_recipe(folder / "shown.yaml")
    assert [s.name for s in recipe.sources] == ["first", "second"]
    assert recipe.rule_for(UP).models["second"] == {"weight": 1.0}


def test_a_recipe_is_written_for_mergekit_with_its_defaults_spelled_out(folder, call):  # noqa: F811
    done = call("recipe", folder / "recipe.yaml", folder / "out.yml", "--to-mergekit")
    assert done.code == 0, done.err
    text = (folder / "out.yml").read_text()
    assert text.startswith("# mergekit computes in the sources' dtype")
    assert yaml.safe_load(text) == {
        "merge_method": "task_arithmetic",
        "base_model": str(folder / "first"),
        "models": [
            {"model": str(folder / "first")},
            {"model": str(folder / "second"), "parameters": {"weight": 0.25}},
        ],
        "parameters": {"lambda": 1.0, "normalize": False},
    }


def test_a_source_of_a_mergekit_configuration_may_have_moved(folder, call):  # noqa: F811
    (folder / "second").rename(folder / "elsewhere")
    moved = call("recipe", folder / "config.yml", "--model", f"second={folder / 'elsewhere'}")
    assert moved.code == 0, moved.err
    assert str(folder / "elsewhere") in moved.out
    unknown = call("recipe", folder / "config.yml", "--model", f"third={folder}")
    assert unknown.code != 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("config.yml", ["recipe.yaml"], "exists already; give a new file"),
        ("wrong.yml", [], "wrong.yml: unknown merge_method 'liner'; did you mean 'linear'?"),
        (
            "mixed.yaml",
            ["--to-mergekit"],
            "not expressible in mergekit: it has one merge_method",
        ),
        ("absent.yml", [], "absent.yml: cannot read the recipe"),
    ],
)
def test_what_cannot_be_turned_is_named(folder, call, name, options, message):  # noqa: F811
    (folder / "wrong.yml").write_text("merge_method: liner\nmodels: [{model: first}]")
    (folder / "mixed.yaml").write_text(
        RECIPE.replace(
            "rules: [",
            "rules: [{operator: linear, contains: mlp, models: {first: , second: }}, ",
        )
    )
    arguments = [folder / o if o.endswith("yaml") else o for o in options]
    done = call("recipe", folder / name, *arguments)
    assert done.code == 2
    assert message in done.err
