from pathlib import Path

import pytest

from evomerge.core.errors import ConfigError
from evomerge.fitness.task_files import find_task_files, with_local_data


def test_tasks_are_found_by_their_name_in_the_yaml_and_functions_are_not_run(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text("task: one\nprocess_docs: !function no.such\n")
    (tmp_path / "group.yaml").write_text("group: both\ntask: [one, two]\n")
    (tmp_path / "defaults.yaml").write_text("output_type: multiple_choice\n")
    assert find_task_files([tmp_path]) == {"one": tmp_path / "deep" / "a.yaml"}


def test_a_folder_named_twice_is_no_conflict(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("task: one\n")
    assert list(find_task_files([tmp_path, tmp_path])) == ["one"]


def test_every_broken_folder_file_and_double_name_is_reported_at_once(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("task: one\n")
    (tmp_path / "b.yaml").write_text("task: one\n")
    (tmp_path / "c.yaml").write_text("task: [unclosed\n")
    with pytest.raises(ConfigError) as caught:
        find_task_files([tmp_path / "missing", tmp_path])
    missing, double, broken = caught.value.problems
    assert "missing is not a folder" in missing
    assert "a.yaml and by" in double
    assert "c.yaml: not readable as YAML" in broken


def test_relative_data_files_are_those_beside_the_yaml_where_they_exist(tmp_path: Path):
    (tmp_path / "test.jsonl").touch()
    config = {
        "task": "t",
        "dataset_kwargs": {
            "data_files": {
                "test": "test.jsonl",
                "some": ["*.jsonl", "elsewhere.jsonl"],
                "hub": "hf://datasets/x/test.jsonl",
            }
        },
    }
    files = with_local_data(config, tmp_path)["dataset_kwargs"]["data_files"]
    assert files == {
        "test": str(tmp_path / "test.jsonl"),
        "some": [str(tmp_path / "*.jsonl"), "elsewhere.jsonl"],
        "hub": "hf://datasets/x/test.jsonl",
    }
    assert config["dataset_kwargs"]["data_files"]["test"] == "test.jsonl"
