"""Wrong inputs: one clear message each, a non-zero exit code, no traceback, nothing written."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
import yaml
from quickstart import TASKS, ZOO, write_experiment
from safetensors.torch import load_file, save_file

from evomerge.cli.main import main
from evomerge.core.errors import ConfigError

CONFIG, CHECKPOINT, STORE = 2, 4, 5


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Copies of the embedded models that a test may damage."""
    for name in ("base", "sort", "town"):
        shutil.copytree(ZOO / name, tmp_path / "zoo" / name)
    return tmp_path / "zoo"


def over(models: Path) -> dict:
    return {
        "base": str(models / "base"),
        "experts": {"sort": str(models / "sort"), "town": str(models / "town")},
    }


def refused(
    call, tmp_path: Path, code: int, *said: str, command: str = "run", **changes
) -> str:
    experiment = write_experiment(tmp_path / "in", **changes)
    arguments = ["--out", tmp_path / "out"] if command == "run" else []
    done = call(command, experiment, *arguments)
    assert done.code == code, done.err
    for text in said:
        assert text in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
    return done.err


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(call, tmp_path):
    refused(
        call,
        tmp_path,
        CONFIG,
        "in/experiment.yaml:",
        "optimiser: unknown key 'optimiser'; did you mean 'optimizer'?",
        optimiser={"name": "nsga2"},
    )


def test_every_problem_of_keys_and_values_is_named_at_once(call, tmp_path):
    refused(
        call,
        tmp_path,
        CONFIG,
        "budget.candidate: unknown key 'candidate'; did you mean 'candidates'?",
        "fitness.items.search: needs at least 2 items",
        "evaluation.dtype",
        "3 problems",
        budget={"candidate": 5, "minutes": 1},
        fitness={"items": {"search": 1}},
        evaluation={"dtype": "float8"},
    )


def test_wrong_keys_and_wrong_models_are_named_together(call, tmp_path):
    refused(
        call,
        tmp_path,
        CONFIG,
        "unknown key 'optimiser'",
        "models.experts.sort: /nowhere",
        "unknown task 'twon'",
        models={"base": str(ZOO / "base"), "experts": {"sort": "/nowhere"}},
        tasks={"include": [str(TASKS)], "use": ["twon"]},
        optimiser={"name": "nsga2"},
    )


def test_a_range_that_an_operator_does_not_allow_is_refused(call, tmp_path):
    space = {"operator": "ties", "experts": {"weight": [0, 1], "density": [0, 5]}}
    refused(call, tmp_path, CONFIG, "density", "5", space=space)


def test_every_problem_of_models_tasks_and_space_is_named_at_once(call, tmp_path):
    refused(
        call,
        tmp_path,
        CONFIG,
        "models.experts.sort: /nowhere",
        "unknown parameter of task_arithmetic 'wieght'; did you mean 'weight'?",
        "unknown task 'twon'; did you mean 'town'?",
        "did you mean 'population'?",
        models={"base": str(ZOO / "base"), "experts": {"sort": "/nowhere"}},
        space={"operator": "task_arithmetic", "experts": {"wieght": [0, 1]}},
        tasks={"include": [str(TASKS)], "use": ["twon"]},
        optimizer={"name": "nsga2", "poplation": 6},
    )


def test_an_unknown_operator_names_the_nearest(call, tmp_path):
    space = {"operator": "tise", "experts": {"weight": [0, 1]}}
    refused(
        call, tmp_path, CONFIG, "unknown operator 'tise'; did you mean 'ties'?", space=space
    )


def test_an_unknown_preset_names_the_nearest(call, tmp_path):
    refused(call, tmp_path, CONFIG, "did you mean 'task_arithmetic'?", space="task_aritmetic")


def test_an_unknown_task_names_the_nearest(call, tmp_path):
    tasks = {"include": [str(TASKS)], "use": ["sort", "twon"]}
    refused(call, tmp_path, CONFIG, "unknown task 'twon'; did you mean 'town'?", tasks=tasks)


def test_an_unknown_metric_names_the_nearest(call, tmp_path):
    objectives = [{"maximize": "acuracy", "task": "sort"}]
    refused(call, tmp_path, CONFIG, "did you mean 'accuracy'?", objectives=objectives)


def test_an_objective_on_a_task_not_in_use_is_named(call, tmp_path):
    objectives = [{"maximize": "accuracy", "task": "score"}]
    refused(call, tmp_path, CONFIG, "unknown task 'score'", objectives=objectives)


def test_several_objectives_with_cma_es_are_refused_with_advice(call, tmp_path):
    optimizer = {"name": "cma_es"}
    refused(call, tmp_path, CONFIG, "takes one objective", "nsga2", optimizer=optimizer)


def test_more_items_than_there_are_are_refused(call, tmp_path):
    fitness = {"items": {"search": 100_000}}
    refused(call, tmp_path, CONFIG, "100000 items asked", "which has 600", fitness=fitness)


def test_a_missing_model_is_named_with_its_key(call, tmp_path, models):
    shutil.rmtree(models / "town")
    refused(
        call, tmp_path, CHECKPOINT, "models.experts.town", "no such folder", models=over(models)
    )


def test_a_truncated_model_is_noticed_without_reading_it(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    refused(
        call, tmp_path, CHECKPOINT, "models.experts.sort", str(file),
        command="validate", models=over(models),
    )  # fmt: skip


def test_a_corrupt_header_is_noticed(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[8:40] = b"\xff" * 32
    file.write_bytes(content)
    refused(call, tmp_path, CHECKPOINT, str(file), models=over(models))


def test_a_nan_in_a_source_ends_the_run_before_anything_is_scored(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.2.mlp.up_proj.weight"
    weights[name][0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    refused(call, tmp_path, CHECKPOINT, "models.sort", name, models=over(models))


def test_a_tensor_of_another_shape_is_named_with_both_shapes(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.2.mlp.up_proj.weight"
    weights[name] = weights[name][:-1].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    refused(call, tmp_path, CHECKPOINT, name, "sort", models=over(models))


def test_a_missing_tensor_is_an_error_not_random_weights(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.2.mlp.up_proj.weight"
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    refused(call, tmp_path, CHECKPOINT, name, "sort", models=over(models))


def test_another_tokenizer_is_refused(call, tmp_path, models):
    file = models / "sort" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    vocabulary[names[-1]], vocabulary[names[-2]] = (
        vocabulary[names[-2]],
        vocabulary[names[-1]],
    )
    file.write_text(json.dumps(tokenizer))
    refused(call, tmp_path, CHECKPOINT, "tokenizer", "sort", models=over(models))


def test_another_tokenizer_is_taken_where_the_experiment_says_so(call, tmp_path, models):
    file = models / "sort" / "tokenizer.json"
    file.write_text(file.read_text().replace('"paris"', '"parys"'))
    wrong = write_experiment(tmp_path / "wrong", models=over(models))
    assert "tokenizer" in call("validate", wrong).err
    right = write_experiment(
        tmp_path / "right", models=over(models) | {"tokenizer_mismatch": "base"}
    )
    assert call("validate", right).code == 0


def test_a_pickle_checkpoint_is_refused(call, tmp_path, models):
    folder = models / "sort"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(call, tmp_path, CHECKPOINT, "--allow-pickle", models=over(models))


def test_a_header_that_claims_terabytes_is_refused(call, tmp_path, models):
    file = models / "sort" / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 45) + file.read_bytes()[8:])
    refused(call, tmp_path, CHECKPOINT, str(file), models=over(models))


def test_no_experiment_file_is_said_plainly(call, tmp_path):
    done = call("run", tmp_path / "none.yaml")
    assert done.code == CONFIG
    assert "none.yaml: no such file" in done.err


def test_an_override_of_an_unknown_key_names_the_override(call, tmp_path):
    done = call("validate", write_experiment(tmp_path), "-o", "optimizer.poplation=9")
    assert done.code == CONFIG
    assert "did you mean 'population'?" in done.err


def test_a_folder_without_a_run_is_named(call, tmp_path):
    for command in ("resume", "status", "report"):
        done = call(command, tmp_path)
        assert done.code == STORE
        assert "no study.db here" in done.err
        assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_and_a_missing_argument_are_usage_errors(call):
    assert call("rnu").code == CONFIG
    assert call("run").code == CONFIG


def test_a_recipe_with_an_unknown_parameter_is_refused(call, tmp_path):
    recipe = {
        "recipe": 1,
        "base": "base",
        "sources": {n: {"model": str(ZOO / n)} for n in ("base", "sort")},
        "rules": [{"operator": "ties", "models": {"sort": {"wieght": 1.0}}}],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = call("merge", path, tmp_path / "out")
    assert done.code == CONFIG
    assert "did you mean 'weight'?" in done.err
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path, call):
    with pytest.raises(ConfigError, match="no such file"):
        main(["run", str(tmp_path / "none.yaml"), "--debug"])


def test_a_folder_with_files_in_it_is_not_written_into(call, tmp_path):
    experiment = write_experiment(tmp_path / "in")
    before = experiment.read_text()
    done = call("run", experiment, "--out", tmp_path / "in")
    assert done.code == STORE
    assert "is not empty" in done.err
    assert experiment.read_text() == before
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["experiment.yaml"]


def test_what_is_wrong_in_a_mergekit_configuration_is_named(call, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("merge_method: ties\nbase_model: a\nmodels: []\n")
    done = call("merge", path, tmp_path / "out")
    assert done.code == CONFIG
    assert "config.yaml: give either 'models' or 'slices'." in done.err


def test_a_configuration_that_does_not_fit_its_weights_ends_the_run_at_once(
    call, tmp_path, models
):
    for name in ("base", "sort", "town"):
        file = models / name / "config.json"
        file.write_text(file.read_text().replace('"hidden_size": 128', '"hidden_size": 256'))
    refused(call, tmp_path, CHECKPOINT, "embed_tokens", models=over(models))
