"""Adapters, pickles and differing vocabularies, from files and flags to finished folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from merging.tiny_adapters import make_adapter
from merging.tiny_llamas import make_llama
from merging.tiny_tokenizers import make_speaker
from quickstart import ZOO, write_experiment
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import evomerge
from evomerge.experiment.load import load_experiment
from evomerge.experiment.prepare import prepare
from evomerge.merging.adapter_model import AdaptedModel
from evomerge.merging.checkpoint import open_source

CONFIG, CHECKPOINT = 2, 4


def write_recipe(folder: Path, sources: dict[str, object], **more) -> Path:
    """A linear merge of equal weights."""
    plain = {
        "recipe": 1,
        "sources": {name: str(model) for name, model in sources.items()},
        "rules": [
            {"operator": "linear", "models": {name: {"weight": 0.5} for name in sources}}
        ],
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(plain | more))
    return path


def mean_of(sources: list[str], name: str) -> torch.Tensor:
    parts = [open_source(source, allow_pickle=True).read(name) for source in sources]
    return sum(parts) / len(parts)


def test_adapters_over_one_base_are_merged_from_a_recipe(call, tmp_path):
    base = make_llama(tmp_path / "base", seed=1)
    for number, rank in enumerate((2, 5)):
        make_adapter(
            base, tmp_path / f"{number}", seed=number, r=rank, target_modules=["q_proj"]
        )
    recipe = write_recipe(tmp_path, {"x": "base+0", "y": "base+1"})  # beside the recipe
    done = call("merge", recipe, tmp_path / "out")
    assert done.code == 0, done.err
    name = "model.layers.0.self_attn.q_proj.weight"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()[name]
    torch.testing.assert_close(merged, mean_of([f"{base}+{tmp_path / n}" for n in "01"], name))


def test_a_pickle_is_merged_where_the_flag_allows_it(call, tmp_path):
    whole, pickled = (make_llama(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    file = pickled / "model.safetensors"
    torch.save(load_file(file), pickled / "pytorch_model.bin")
    file.unlink()
    recipe = write_recipe(tmp_path, {"a": whole, "b": pickled})
    refused = call("merge", recipe, tmp_path / "out")
    assert refused.code == CHECKPOINT
    assert "--allow-pickle" in refused.err
    assert not (tmp_path / "out").exists()
    done = call("merge", recipe, tmp_path / "out", "--allow-pickle")
    assert done.code == 0, done.err
    name = "model.norm.weight"
    merged = load_file(tmp_path / "out/model.safetensors")[name]
    torch.testing.assert_close(merged, mean_of([str(whole), str(pickled)], name))


def test_plain_state_dicts_are_merged_and_leave_safetensors(call, tmp_path):
    for number in range(2):
        torch.save({"0.weight": torch.full((2, 3), float(number))}, tmp_path / f"{number}.pt")
    recipe = write_recipe(tmp_path, {"x": tmp_path / "0.pt", "y": tmp_path / "1.pt"})
    done = call("merge", recipe, tmp_path / "out", "--allow-pickle")
    assert done.code == 0, done.err
    merged = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(merged["0.weight"], torch.full((2, 3), 0.5))


@pytest.mark.parametrize("given", ["flag", "recipe"])
def test_a_union_of_tokenizers_is_exported_with_its_model(call, tmp_path, given):
    folders = {n: make_speaker(tmp_path / n, n, seed=k) for k, n in enumerate(("base", "code"))}
    recipe = write_recipe(tmp_path, folders)
    refused = call("merge", recipe, tmp_path / "out")
    assert refused.code == CHECKPOINT
    assert "--tokenizer-mismatch" in refused.err
    if given == "flag":
        done = call("merge", recipe, tmp_path / "out", "--tokenizer-mismatch", "union")
    else:
        done = call(
            "merge", write_recipe(tmp_path, folders, tokenizer="union"), tmp_path / "out"
        )
    assert done.code == 0, done.err
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    words = {w for f in folders.values() for w in AutoTokenizer.from_pretrained(f).get_vocab()}
    assert set(tokenizer.get_vocab()) == words
    assert model.get_input_embeddings().weight.shape[0] == len(words)
    text = "def the cat"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    # the recipe beside the weights gives the same model again, without any flag
    again = call("merge", tmp_path / "out/recipe.yaml", tmp_path / "again")
    assert again.code == 0, again.err
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("out", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_unknown_tokenizer_is_refused_with_what_there_is(call, tmp_path):
    recipe = write_recipe(tmp_path, {"a": make_llama(tmp_path / "a", seed=1)})
    refused = call("merge", recipe, tmp_path / "out", "--tokenizer-mismatch", "unoin")
    assert refused.code == CONFIG
    assert "expected error, base, union or a source (a), got 'unoin'" in refused.err


@pytest.fixture
def adapted(tmp_path) -> Path:
    """A folder with an experiment whose expert is an adapter over its base."""
    folder = tmp_path / "here"
    for name in ("base", "sort"):
        shutil.copytree(ZOO / name, folder / "zoo" / name)
    names = [n for n in load_file(ZOO / "base/model.safetensors") if "0." in n]
    module = next(n for n in names if "q_proj" in n or "c_attn" in n).split(".")[-2]
    make_adapter(folder / "zoo/base", folder / "town", r=2, target_modules=[module])
    models = {
        "base": "zoo/base",
        "experts": {"sort": "zoo/sort", "town": {"base": "zoo/base", "adapter": "town"}},
    }
    return write_experiment(folder, models=models, budget={"candidates": 2})


def test_an_adapter_is_an_expert_of_an_experiment(adapted):
    prepared = prepare(load_experiment(adapted))
    folder = adapted.parent.resolve()
    assert isinstance(prepared.sources["town"], AdaptedModel)
    assert prepared.spec.models.experts["town"] == f"{folder / 'zoo/base'}+{folder / 'town'}"


def test_a_study_with_an_adapter_is_found_again_after_a_move(adapted, tmp_path):
    evomerge.run(adapted, out=adapted.parent / "run")
    adapted.parent.rename(tmp_path / "there")
    study = evomerge.resume(tmp_path / "there/run")
    assert len(study.trials()) >= 2


def test_models_that_are_neither_text_nor_base_and_adapter_are_told(call, tmp_path):
    models = {"experts": {"sort": {"base": str(ZOO / "base"), "lora": "x"}}}
    refused = call("validate", write_experiment(tmp_path, models=models))
    assert refused.code == CONFIG
    assert "models.experts.sort" in refused.err


def test_a_tokenizer_of_nobody_is_told_by_its_key(call, tmp_path):
    models = {"experts": {"sort": str(ZOO / "sort")}, "tokenizer_mismatch": "town"}
    refused = call("validate", write_experiment(tmp_path, models=models))
    assert refused.code == CONFIG
    assert "error, base, union, sort" in refused.err


def test_an_experiment_may_join_tokenizers(tmp_path):
    folder = tmp_path / "sort"
    shutil.copytree(ZOO / "sort", folder)
    plain = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = plain["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary["brandnew"] = vocabulary.pop(last)
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    models = {
        "base": str(ZOO / "base"),
        "experts": {"sort": str(folder)},
        "tokenizer_mismatch": "union",
    }
    prepared = prepare(load_experiment(write_experiment(tmp_path, models=models)))
    assert {source.config["vocab_size"] for source in prepared.sources.values()} == {
        len(vocabulary) + 1
    }
    recipe = prepared.space.baselines()[0].recipe
    assert recipe.tokenizer == "union"
