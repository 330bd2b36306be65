import json
import os
import resource
import shutil
import stat

import pytest
import torch
import yaml
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.core.errors import StoreError, TrialError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.model_card import model_card

PROMPT = torch.arange(3, 23)[None]


def engine_of(llamas, *names, **folders):
    places = {name: llamas[name] for name in names} | folders
    return MergeEngine({name: open_source(str(place)) for name, place in places.items()})


def exported(engine, recipe, out, **more):
    export(engine, recipe, out, card="# Card\n", recipe_text="recipe: 1\n", **more)
    return out


@pytest.mark.parametrize("prefix", ["", "half_"], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties"])
def test_an_export_holds_the_bits_of_the_resident_model(llamas, tmp_path, prefix, operator):
    names = [f"{prefix}{n}" for n in ("base", "a", "b")]
    engine = engine_of(llamas, *names)
    own = {} if operator == "linear" else {"density": 0.4}
    recipe = recipe_of({n: {"weight": 0.7} | own for n in names[1:]}, operator, base=names[0])
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    out = exported(engine, recipe, tmp_path / "out")
    saved, state = load_file(out / "model.safetensors"), model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.items())
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
    with torch.no_grad():
        assert torch.equal(loaded(PROMPT).logits, model(PROMPT).logits)


def test_an_export_loads_with_its_tokenizer_and_texts(llamas, tmp_path):
    recipe = recipe_of({"a": {}, "b": {}}, "linear")
    out = exported(engine_of(llamas, "a", "b"), recipe, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("w5 w9")["input_ids"] == [5, 9]
    assert tokenizer.chat_template == "{{ messages }}"
    assert (out / "README.md").read_text() == "# Card\n"
    assert (out / "recipe.yaml").read_text() == "recipe: 1\n"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (llamas["a"] / name).read_bytes()


def test_further_chat_templates_are_copied(llamas, tmp_path):
    shutil.copytree(llamas["a"], tmp_path / "a")
    (tmp_path / "a/additional_chat_templates").mkdir()
    (tmp_path / "a/additional_chat_templates/tools.jinja").write_text("{{ tools }}")
    recipe = recipe_of({"a": {}}, "passthrough")
    out = exported(engine_of({}, a=tmp_path / "a"), recipe, tmp_path / "out")
    assert (out / "additional_chat_templates/tools.jinja").read_text() == "{{ tools }}"
    assert AutoTokenizer.from_pretrained(out).chat_template["tools"] == "{{ tools }}"


def test_an_export_can_be_a_source_again(llamas, tmp_path):
    engine = engine_of(llamas, "a", "b")
    out = exported(engine, recipe_of({"a": {}, "b": {}}, "linear"), tmp_path / "out")
    again = engine_of({}, m=out)
    merged = dict(engine.tensors(recipe_of({"a": {}, "b": {}}, "linear")))
    assert all(torch.equal(again.sources["m"].read(n), t) for n, t in merged.items())


def test_shards_hold_what_one_file_holds(llamas, tmp_path):
    engine, recipe = engine_of(llamas, "a"), recipe_of({"a": {}}, "passthrough")
    whole = exported(engine, recipe, tmp_path / "whole")
    parts = exported(engine, recipe, tmp_path / "parts", shard_size=20_000)
    files = sorted(file.name for file in parts.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert max((parts / file).stat().st_size for file in files) < 20_000 + 4_000
    assert open_source(str(parts)).fingerprint == open_source(str(whole)).fingerprint
    loaded = AutoModelForCausalLM.from_pretrained(parts)
    assert torch.equal(loaded.model.norm.weight, engine.sources["a"].read("model.norm.weight"))


def test_the_config_says_what_was_written(llamas, tmp_path):
    engine = engine_of(llamas, "base", "untied")
    mixed = recipe_of({"base": {}, "untied": {}}, "linear", dtype="float16")
    config = json.loads((exported(engine, mixed, tmp_path / "m") / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert config.get("dtype", config.get("torch_dtype")) == "float16"
    alone = recipe_of({"base": {}}, "passthrough")
    config = json.loads((exported(engine, alone, tmp_path / "t") / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert config.get("dtype", config.get("torch_dtype")) == "float32"


def test_an_untied_mixture_loads_with_its_head(llamas, tmp_path):
    engine = engine_of(llamas, "base", "untied")
    recipe = recipe_of({"base": {}, "untied": {}}, "linear")
    loaded = AutoModelForCausalLM.from_pretrained(exported(engine, recipe, tmp_path / "out"))
    assert torch.equal(loaded.lm_head.weight, dict(engine.tensors(recipe))["lm_head.weight"])


def test_tensors_of_mixed_dtypes_stay_aligned_and_readable(llamas, copied, tmp_path):
    folder = copied("a")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].double()
    odd = {n: t if "norm" in n else t.half() for n, t in weights.items()}
    save_file(odd, folder / "model.safetensors")
    recipe = recipe_of({"m": {}}, "passthrough")
    out = exported(engine_of({}, m=folder), recipe, tmp_path / "out")
    saved = load_file(out / "model.safetensors")
    assert {n: t.dtype for n, t in saved.items()} == {n: t.dtype for n, t in odd.items()}
    assert all(torch.equal(saved[n], odd[n]) for n in odd)


def test_others_may_read_an_export(llamas, tmp_path):
    recipe = recipe_of({"a": {}}, "passthrough")
    before = os.umask(0o022)
    try:
        out = exported(engine_of(llamas, "a"), recipe, tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in out.iterdir())


def test_an_existing_folder_is_not_overwritten(llamas, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        exported(engine_of(llamas, "a"), recipe_of({"a": {}}, "passthrough"), tmp_path / "out")
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"


def test_a_failed_merge_leaves_nothing_behind(llamas, tmp_path):
    recipe = recipe_of({"a": {"scale": 1e38}}, "passthrough", dtype="float16")
    with pytest.raises(TrialError):
        exported(engine_of(llamas, "a"), recipe, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_system_refuses_leaves_nothing_behind(llamas, tmp_path):
    engine = engine_of(llamas, "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written.*nothing was left behind"):
            exported(engine, recipe_of({"a": {}}, "passthrough"), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_model_larger_than_the_free_disk_is_refused_before_writing(llamas, tmp_path):
    # A sparse file claims twice what is free; only its header is read before the check.
    folder = tmp_path / "vast"
    folder.mkdir()
    for file in llamas["a"].iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    rows = shutil.disk_usage(tmp_path).free * 2 // 128
    entry = {"dtype": "F32", "shape": [rows, 32], "data_offsets": [0, rows * 128]}
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        try:
            file.truncate(8 + len(header) + rows * 128)
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    engine = engine_of({}, vast=folder)
    with pytest.raises(StoreError, match="the disk has"):
        exported(engine, recipe_of({"vast": {}}, "passthrough"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_card_has_the_hubs_front_matter_and_every_part():
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {}}, "ties", base="base")
    recipe = recipe.with_sources(
        {"base": Source("base", "org/base"), "a": Source("a", "org/a-7B")}
    )
    card = model_card(
        "rules:\n- operator: ties\n", recipe, {"sum": {"merged": ".71", "a": ".6"}}
    )
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": ["org/base", "org/a-7B"],
        "library_name": "transformers",
        "tags": ["evomerge", "merge"],
    }
    assert "TIES-Merging (Yadav et al., 2023, arXiv:2306.01708)" in body
    assert "| sum | .71 | .6 |" in body
    assert "```yaml\nrules:\n- operator: ties\n```" in body


def test_a_model_card_cannot_be_broken_out_of():
    recipe = recipe_of({"a": {}}, "linear")
    card = model_card("note: '```'\n", recipe, {"a|b\n<script>": {"x": "1"}})
    assert "<script>" not in card
    assert "a\\|b" in card
    assert "````yaml" in card


def test_stacked_layers_load_and_compute_what_their_models_do(llamas, tmp_path):
    """A frankenmerge of one model's own layers in their order is the model itself."""
    engine = engine_of(llamas, "a")
    rules = (Rule("passthrough", {"a": {}}),)

    def loaded(name, *layers):
        slices = tuple(Slice({"a": own}) for own in layers)
        recipe = Recipe((Source("a", "a"),), rules, slices=slices)
        out = exported(engine, recipe, tmp_path / name)
        return AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()

    plain = AutoModelForCausalLM.from_pretrained(llamas["a"]).eval()
    same, deep = loaded("same", (0, 1), (1, 2)), loaded("deep", (0, 2), (1, 2), (0, 1))
    assert len(deep.model.layers) == deep.config.num_hidden_layers == 4
    with torch.no_grad():
        assert torch.equal(same(PROMPT).logits, plain(PROMPT).logits)
        deep.model.layers = torch.nn.ModuleList(list(deep.model.layers)[:2])
        deep.config.num_hidden_layers = 2
        assert torch.equal(deep(PROMPT, use_cache=False).logits, plain(PROMPT).logits)
