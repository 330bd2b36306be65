import json
import shutil
from pathlib import Path

import pytest
import torch
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evomerge.core.errors import CheckpointError
from evomerge.merging.checkpoint import open_source
from evomerge.merging.compatibility import check
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export

BIN, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def to_pickle(folder: Path, **options) -> Path:
    """The same folder with pytorch_model.bin in place of safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / BIN, **options)
    (folder / "model.safetensors").unlink()
    return folder


def to_sharded_pickle(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    where = {name: f"pytorch_model-{k % 2}.bin" for k, name in enumerate(weights)}
    for file in set(where.values()):
        torch.save({n: t for n, t in weights.items() if where[n] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": where}))
    (folder / "model.safetensors").unlink()
    return folder


def test_pickles_are_read_only_where_they_are_allowed(copied):
    folder = to_pickle(copied("half_a"))
    with pytest.raises(CheckpointError, match="--allow-pickle"):
        open_source(str(folder))
    with pytest.raises(CheckpointError, match="--allow-pickle"):
        open_source(str(folder / BIN))
    assert open_source(str(folder), allow_pickle=True).tensors


@pytest.mark.parametrize(
    "convert",
    [
        to_pickle,
        to_sharded_pickle,
        lambda folder: to_pickle(folder, _use_new_zipfile_serialization=False),
    ],
    ids=["single", "sharded", "legacy"],
)
def test_a_pickled_model_is_the_one_that_was_saved(llamas, copied, convert):
    whole = open_source(str(llamas["half_a"]))
    pickled = open_source(str(convert(copied("half_a"))), allow_pickle=True)
    assert set(pickled.tensors) == set(whole.tensors)
    assert all(torch.equal(pickled.read(n), whole.read(n)) for n in whole.tensors)
    assert pickled.fingerprint == whole.fingerprint
    assert pickled.size == whole.size
    assert pickled.tied


def test_a_pickled_model_merges_with_one_in_safetensors(llamas, copied, tmp_path):
    sources = {
        "a": open_source(str(to_pickle(copied("a"))), allow_pickle=True),
        "b": open_source(str(llamas["b"])),
    }
    assert check(sources, "a") == []
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {"weight": 0.5}}, "linear")
    export(MergeEngine(sources), recipe, tmp_path / "out", card="", recipe_text="")
    assert sorted(f.name for f in (tmp_path / "out").glob("*.bin")) == []
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name in sources["b"].tensors:
        mean = (sources["a"].read(name) + sources["b"].read(name)) / 2
        torch.testing.assert_close(loaded[name], mean)


def network(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Linear(4, 5),
        )  # fmt: skip


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_plain_state_dicts_merge_and_load_again(tmp_path, wrapper):
    for seed, name in enumerate(("one", "two")):
        weights = network(seed).state_dict()
        content = weights if wrapper is None else {wrapper: weights, "epoch": 3}
        torch.save(content, tmp_path / f"{name}.pt")
    sources = {
        name: open_source(str(tmp_path / f"{name}.pt"), allow_pickle=True)
        for name in ("one", "two")
    }
    assert check(sources, "one") == []
    recipe = recipe_of({"one": {"weight": 0.5}, "two": {"weight": 0.5}}, "linear")
    export(MergeEngine(sources), recipe, tmp_path / "out", card="", recipe_text="")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "model.safetensors",
        "recipe.yaml",
        "README.md",
    }
    merged, one, two = network(7), network(0).state_dict(), network(1).state_dict()
    # BatchNorm counts its batches; a mean of counts is none, and torch fills in a zero
    merged.load_state_dict(load_file(tmp_path / "out/model.safetensors"))
    torch.testing.assert_close(merged[4].weight.data, (one["4.weight"] + two["4.weight"]) / 2)


def test_a_single_safetensors_file_is_a_source(llamas, tmp_path):
    shutil.copy(llamas["a"] / "model.safetensors", tmp_path / "alone.safetensors")
    alone = open_source(str(tmp_path / "alone.safetensors"))
    assert alone.fingerprint == open_source(str(llamas["a"])).fingerprint
    assert alone.config == {}
    inside = open_source(str(llamas["a"] / "model.safetensors"))
    assert inside.config["model_type"] == "llama"


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"x": torch.ones(2), "code": Malicious(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="holds more than weights"):
        open_source(str(tmp_path / "bad.pt"), allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def not_a_pickle(folder: Path) -> None:
    (folder / BIN).write_bytes(b"hello, world" * 9)


def truncated(folder: Path) -> None:
    torch.save({"x": torch.ones(999)}, folder / BIN)
    (folder / BIN).write_bytes((folder / BIN).read_bytes()[:-2000])


def no_tensors(folder: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, folder / BIN)


def shard_outside(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": "../x.bin"}}))


def several(folder: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.ones(2)}, folder / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (not_a_pickle, "pytorch_model.bin: (cannot be read|holds more than weights)"),
        (truncated, "cannot be read"),
        (no_tensors, "found a mapping with epoch: int, loss: float"),
        (shard_outside, "outside of the folder"),
        (several, "name the file that you mean"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_pickle_is_refused_with_its_reason(copied, damage, message):
    folder = copied("a")
    (folder / "model.safetensors").unlink()
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        open_source(str(folder), allow_pickle=True)


def test_what_trainers_leave_beside_the_weights_is_not_taken_for_them(copied):
    folder = to_pickle(copied("a"))
    torch.save({"lr": torch.ones(1)}, folder / "optimizer.pt")
    torch.save({"args": torch.ones(1)}, folder / "training_args.bin")
    assert "lr" not in open_source(str(folder), allow_pickle=True).tensors


def test_safetensors_win_over_pickles_beside_them(copied):
    folder = copied("a")
    torch.save({"x": torch.ones(2)}, folder / BIN)
    assert "x" not in open_source(str(folder), allow_pickle=True).tensors


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="neither safetensors nor PyTorch"):
        open_source(str(tmp_path / "model.gguf"))


def test_integer_weights_of_a_state_dict_are_told(tmp_path):
    save_file({"x": torch.ones(3, dtype=torch.int32)}, tmp_path / "x.safetensors")
    (problem,) = check({"x": open_source(str(tmp_path / "x.safetensors"))}, "x")
    assert "x is I32" in problem
