"""Presets: found by path or by name, and all of them load."""

from pathlib import Path

import pytest

from evomerge.core.errors import ConfigError
from evomerge.experiment.presets import find_folder, find_yaml, preset_root
from evomerge.experiment.spec import FitnessSpec
from evomerge.experiment.yaml_lines import read_yaml
from evomerge.spaces.registry import PARAMETER
from evomerge.spaces.registry import SPACES as SPACES_BY_KIND

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
FITNESS = sorted((ROOT / "fitness").glob("*.yaml"))


def test_there_are_presets():
    assert SPACES
    assert FITNESS


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_loads_and_says_when_to_use_it(path):
    written = read_yaml(path).data
    kind = written.pop("kind", PARAMETER)
    SPACES_BY_KIND[kind].options.model_validate(written)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", FITNESS, ids=lambda path: path.stem)
def test_every_fitness_definition_loads_and_says_when_to_use_it(path):
    FitnessSpec.model_validate(read_yaml(path).data)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    "given", ["ties", "ties.yaml", "search_spaces/ties", "search_spaces/ties.yaml"]
)
def test_a_preset_is_found_by_name_with_or_without_folder_and_ending(given, tmp_path):
    assert find_yaml(given, "search_spaces", tmp_path).samefile(
        ROOT / "search_spaces/ties.yaml"
    )


def test_a_file_beside_the_experiment_comes_before_the_working_directory_and_presets(
    tmp_path, monkeypatch
):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "ties.yaml").write_text("operator: ties")
    monkeypatch.chdir(there)
    assert find_yaml("ties.yaml", "search_spaces", here) == here / "ties.yaml"
    assert find_yaml("ties.yaml", "search_spaces", tmp_path).samefile(there / "ties.yaml")
    assert find_yaml(str(here / "ties.yaml"), "search_spaces", there) == here / "ties.yaml"


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("search_spaces", "tise", "unknown search space 'tise'; did you mean 'ties'?"),
        (
            "fitness",
            "random_2",
            "unknown fitness definition 'random_2'; did you mean 'random_20'",
        ),
        ("search_spaces", "elsewhere/ties.yaml", "no such file"),
        ("search_spaces", "../ties", "unknown search space"),
        ("search_spaces", "", "unknown search space"),
    ],
)
def test_what_is_not_found_names_the_nearest_preset(kind, given, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        find_yaml(given, kind, tmp_path)
    assert message in str(caught.value)


def test_a_folder_is_found_from_the_experiment_or_among_the_presets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "tasks").mkdir(parents=True)
    assert find_folder("tasks", tmp_path / "in") == tmp_path / "in" / "tasks"
    assert find_folder("fitness/tasks", tmp_path) == preset_root() / "fitness" / "tasks"
    assert find_folder("none", tmp_path) is None
