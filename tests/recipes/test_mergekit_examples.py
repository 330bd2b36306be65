"""mergekit configurations of every usual kind: merged by mergekit and by evomerge alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from merging.mergekit_oracle import require_mergekit, their_model
from merging.tiny_llamas import make_llama

from evomerge.experiment.recipe_files import mergekit_text, read_any_recipe, tensor_names
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.recipe_check import validate_recipe

EXAMPLES = sorted((Path(__file__).parent / "mergekit_examples").glob("*.yml"))
EVERY_EXAMPLE = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
"""Of float32 weights of about 0.02 to 1, summed in different orders."""


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Path:
    """A folder with four untied Llamas of four layers, called base, a, b and c."""
    folder = tmp_path_factory.mktemp("zoo")
    for seed, name in enumerate(("base", "a", "b", "c"), 31):
        make_llama(folder / name, seed=seed, tied=False, layers=4)
    return folder


def ours(file: Path, zoo: Path) -> dict[str, torch.Tensor]:
    copy = zoo / file.name
    copy.write_text(file.read_text())
    recipe = read_any_recipe(copy, {}, tensor_names(offline=True))
    assert validate_recipe(recipe) == []
    engine = MergeEngine({s.name: open_source(s.model) for s in recipe.sources})
    return dict(engine.tensors(recipe))


def theirs(config: Mapping[str, Any], zoo: Path, out: Path) -> dict[str, torch.Tensor]:
    return their_model(with_places(config, zoo), out)


def with_places(plain: Any, zoo: Path) -> Any:
    """The configuration with the models' names made paths, which mergekit needs."""
    if isinstance(plain, dict):
        return {
            key: str(zoo / value)
            if key in ("model", "base_model") and isinstance(value, str)
            else with_places(value, zoo)
            for key, value in plain.items()
        }
    return [with_places(each, zoo) for each in plain] if isinstance(plain, list) else plain


@EVERY_EXAMPLE
def test_the_merged_model_is_mergekits(example, zoo, tmp_path):
    require_mergekit()
    merged = ours(example, zoo)
    expected = theirs(yaml.safe_load(example.read_text()), zoo, tmp_path)
    assert merged.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            merged[name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}"
        )


@EVERY_EXAMPLE
def test_what_is_written_back_for_mergekit_merges_the_same(example, zoo, tmp_path):
    require_mergekit()
    merged = ours(example, zoo)
    written = yaml.safe_load(mergekit_text(zoo / example.name, {}, offline=True))
    expected = theirs(written, zoo, tmp_path)
    assert merged.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            merged[name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}"
        )
