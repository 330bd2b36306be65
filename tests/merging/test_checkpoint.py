import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from merging.tiny_llamas import make_llama
from safetensors.torch import load_file, save_file

from evomerge.core.errors import CheckpointError
from evomerge.merging.checkpoint import open_source

INDEX = "model.safetensors.index.json"
STORIES = Path(__file__).parents[3] / "shared/models/stories260K"


def shard(folder: Path, names=("one.safetensors", "two.safetensors")) -> Path:
    """Split a single-file checkpoint in two."""
    weights = load_file(folder / "model.safetensors")
    where = {name: names[k % 2] for k, name in enumerate(weights)}
    for file in names:
        part = {name: tensor for name, tensor in weights.items() if where[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "model.safetensors").unlink()
    return folder


def test_tensors_read_as_they_were_saved(llamas):
    source = open_source(str(llamas["half_a"]))
    saved = load_file(llamas["half_a"] / "model.safetensors")
    assert set(source.tensors) == set(saved)
    for name, tensor in saved.items():
        assert torch.equal(source.read(name), tensor)
        assert source.tensors[name].shape == tuple(tensor.shape)
        assert source.tensors[name].dtype == "BF16"


def test_a_sharded_folder_is_the_same_model_as_a_single_file(llamas, copied):
    whole, parts = open_source(str(llamas["a"])), open_source(str(shard(copied("a"))))
    assert set(parts.tensors) == set(whole.tensors)
    assert all(torch.equal(parts.read(name), whole.read(name)) for name in whole.tensors)
    assert parts.fingerprint == whole.fingerprint


def test_the_fingerprint_is_of_the_weights_and_not_of_the_place(llamas, copied):
    assert (
        open_source(str(copied("a"))).fingerprint == open_source(str(llamas["a"])).fingerprint
    )
    assert (
        open_source(str(llamas["b"])).fingerprint != open_source(str(llamas["a"])).fingerprint
    )


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.norm.weight"])
def test_the_fingerprint_sees_a_tensor_of_another_value(copied, name):
    folder = copied("a")
    before = open_source(str(folder)).fingerprint
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name] * 1.01
    save_file(weights, folder / "model.safetensors")
    assert open_source(str(folder)).fingerprint != before


def test_the_fingerprint_sees_the_dtype(tmp_path, copied):
    folder = copied("a")
    before = open_source(str(folder)).fingerprint
    weights = load_file(folder / "model.safetensors")
    zeros = {n: torch.zeros_like(t) for n, t in weights.items()}
    save_file(zeros, folder / "model.safetensors")
    float_zeros = open_source(str(folder)).fingerprint
    save_file({n: t.half() for n, t in zeros.items()}, folder / "model.safetensors")
    assert len({before, float_zeros, open_source(str(folder)).fingerprint}) == 3


def test_opening_and_fingerprinting_load_no_torch(llamas):
    code = (
        "import sys; from evomerge.merging.checkpoint import open_source;"
        f"s = open_source({str(llamas['a'])!r}); s.fingerprint; len(s.tensors);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_missing_head_is_tied_whatever_the_config_says(copied):
    folder = copied("a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    assert open_source(str(folder)).tied


def test_a_head_of_its_own_is_untied_whatever_the_config_says(llamas, copied):
    assert not open_source(str(llamas["untied"])).tied
    folder = copied("untied")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert not open_source(str(folder)).tied


def test_a_head_stored_twice_is_tied_if_the_config_says_so_and_it_is_equal(copied):
    folder = copied("a")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors")
    assert open_source(str(folder)).tied


def test_constants_of_old_checkpoints_are_not_weights(copied):
    folder = copied("a")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, folder / "model.safetensors")
    assert not any("inv_freq" in name for name in open_source(str(folder)).tensors)


# Damage: each is told from headers and sizes, before any weight is read.


def truncated_data(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def extra_data(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")


def truncated_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])


def empty_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def corrupt_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[8:12] = b"\xff\xfe,{"
    file.write_bytes(content)


def wrong_offsets(folder: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    file = folder / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)


def lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n" * 3
    )


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_pickle(folder: Path) -> None:
    no_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80")


def adapter(folder: Path) -> None:
    no_weights(folder)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    save_file({"x": torch.ones(1)}, folder / "adapter_model.safetensors")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def missing_shard(folder: Path) -> None:
    (shard(folder) / "two.safetensors").unlink()


def shard_outside(folder: Path) -> None:
    shard(folder)
    (folder / "two.safetensors").rename(folder.parent / "two.safetensors")
    index = folder / INDEX
    index.write_text(index.read_text().replace("two.saf", "../two.saf"))


def absolute_shard(folder: Path) -> None:
    shard(folder)
    index = folder / INDEX
    index.write_text(index.read_text().replace("two.saf", "/tmp/two.saf"))


def tensor_not_in_shard(folder: Path) -> None:
    shard(folder)
    where = json.loads((folder / INDEX).read_text())
    where["weight_map"]["model.ghost.weight"] = "one.safetensors"
    (folder / INDEX).write_text(json.dumps(where))


def broken_index(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).write_text('{"weight_map": 3}')


def shards_without_index(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated_data, "truncated"),
        (extra_data, "damaged"),
        (truncated_header, "truncated"),
        (empty_file, "truncated"),
        (corrupt_header, "header is damaged"),
        (wrong_offsets, "shape"),
        (lfs_pointer, "git lfs pull"),
        (no_weights, "no safetensors file"),
        (only_pickle, "pickle.*--allow-pickle.*convert"),
        (adapter, r"is an adapter.*BASE\+copy_of_a"),
        (no_config, "has no config.json"),
        (broken_config, "config.json: cannot be read"),
        (missing_shard, "two.safetensors.*missing"),
        (shard_outside, "outside of the folder"),
        (absolute_shard, "outside of the folder"),
        (tensor_not_in_shard, "ghost.*is not in shard"),
        (broken_index, "cannot be read"),
        (shards_without_index, "no model.safetensors.index.json"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_folder_is_refused_with_its_reason(copied, damage, message):
    folder = copied("a")
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        open_source(str(folder))


@pytest.mark.parametrize("model", ["./nowhere/x", "/nowhere/x", "~/nowhere-at-all/x", ".."])
def test_what_looks_like_a_path_is_never_asked_of_the_hub(monkeypatch, model):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"no such folder; give|has no config"):
        open_source(model)


def test_a_missing_model_in_an_existing_folder_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zoo").mkdir()
    with pytest.raises(CheckpointError, match="no such folder; give"):
        open_source("zoo/base")


def test_an_uncached_hub_id_is_refused_offline():
    with pytest.raises(CheckpointError, match="not in the local cache"):
        open_source("nobody-at-all/no-such-model", offline=True)


def test_reading_an_unknown_tensor_names_it(llamas):
    with pytest.raises(CheckpointError, match=r"no tensor 'model\.x'"):
        open_source(str(llamas["a"])).read("model.x")


def test_a_real_model_opens():
    if not STORIES.exists():
        pytest.skip(f"{STORIES} is not on this machine")
    source = open_source(str(STORIES))
    assert source.config["model_type"] == "llama"
    assert len(source.fingerprint) == 32


def test_a_folder_with_a_home_prefix_is_expanded(monkeypatch, tmp_path, llamas):
    shutil.copytree(llamas["a"], tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("~/model").folder == tmp_path / "model"


def test_making_a_model_leaves_the_global_generator_alone(tmp_path):
    state = torch.random.get_rng_state()
    make_llama(tmp_path / "x", seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
