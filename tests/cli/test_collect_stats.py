"""Statistics from the command line, and merges and experiments that weigh by them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from cli.zoo_adapters import write_adapter
from quickstart import ZOO, write_experiment
from safetensors.torch import load_file, save_file

from evomerge.core.errors import CheckpointError
from evomerge.experiment.prepare import prepare_file
from evomerge.merging.checkpoint import open_source
from evomerge.merging.statistics_files import StatisticsFile

LINES = [
    {"prompt": "sort 3 1 2 =", "target": " 1 2 3"},
    {"text": "the town of the river"},
    {"prompt": "sort 9 4 =", "target": " 4 9"},
]


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n")
    return path


@pytest.fixture
def zoo(tmp_path) -> Path:
    """Models whose folders can be written to."""
    for name in ("base", "sort", "town"):
        shutil.copytree(ZOO / name, tmp_path / "zoo" / name)
    return tmp_path / "zoo"


def write_recipe(folder: Path, zoo: Path, operator: str, **sources: dict) -> Path:
    recipe = {
        "recipe": 1,
        "base": "base",
        "sources": {
            name: {"model": str(zoo / name)} | sources.get(name, {})
            for name in ("base", "sort", "town")
        },
        "rules": [{"operator": operator, "models": {"sort": {}, "town": {"weight": 2}}}],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_statistics_lie_in_the_models_folder_and_say_what_they_are(call, data, zoo):
    done = call("collect-stats", zoo / "sort", "--data", data, "--kind", "fisher")
    assert done.code == 0, done.err
    path = zoo / "sort" / "statistics" / "fisher.safetensors"
    assert f"{path}: fisher of " in done.out
    assert "from 3 examples" in done.out
    file = StatisticsFile(path)
    model = open_source(str(zoo / "sort"))
    assert (file.collected.kind, file.collected.model) == ("fisher", model.fingerprint)
    assert file.collected.examples == 3
    measured = {n for n in model.tensors if file.read(n) is not None}
    assert measured == {*model.tensors}
    assert all(file.read(n).shape == model.read(n).shape for n in measured)


def test_an_adapters_statistics_lie_with_it_and_the_bases_with_the_base(
    call, data, zoo, tmp_path
):
    adapters = [write_adapter(tmp_path / f"{seed}", seed) for seed in (1, 2)]
    models = [str(zoo / "base"), *(f"{zoo / 'base'}+{adapter}" for adapter in adapters)]
    places = [zoo / "base", *adapters]
    for model in models:
        done = call("collect-stats", model, "--data", data)
        assert done.code == 0, done.err
    for model, place in zip(models, places, strict=True):
        file = StatisticsFile(place / "statistics" / "fisher.safetensors")
        assert file.collected.model == open_source(model).fingerprint
    sources = {"sort": {"model": models[1]}, "town": {"model": models[2]}}
    recipe = write_recipe(tmp_path, zoo, "fisher", **sources)
    done = call("merge", recipe, tmp_path / "merged")
    assert done.code == 0, done.err


def test_examples_are_cut_by_the_tokenizer_that_goes_with_the_weights(
    call, data, zoo, tmp_path
):
    """The base's folder has none that can be read; the adapter brings its own."""
    adapter = write_adapter(tmp_path / "adapter", 1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    base = open_source(str(zoo / "base"))
    name = "model.embed_tokens.weight"
    longer = torch.cat([base.read(name), base.read(name)[:1]])
    tensors[f"base_model.model.{name}"] = longer.clone()
    save_file(tensors, adapter / "adapter_model.safetensors")
    for file in [*zoo.glob("base/*token*"), *zoo.glob("base/vocab*")]:
        file.rename(adapter / file.name)
    done = call("collect-stats", f"{zoo / 'base'}+{adapter}", "--data", data)
    assert done.code == 0, done.err


def test_only_statistics_of_the_same_weights_are_overwritten(call, data, zoo):
    assert call("collect-stats", zoo / "sort", "--data", data).code == 0
    path = zoo / "sort" / "statistics" / "fisher.safetensors"
    weights = zoo / "sort" / "model.safetensors"
    for model, out, said in [
        ("town", path, "holds 'fisher' of other weights"),
        ("sort", weights, "exists and is no statistics file"),
    ]:
        before = out.read_bytes()
        done = call("collect-stats", zoo / model, "--data", data, "--out", out)
        assert done.code == 5
        assert f"{out}: {said}" in done.err
        assert "choose another file with --out" in done.err
        assert out.read_bytes() == before
    data.write_text('{"text": "the river"}\n')
    assert call("collect-stats", zoo / "sort", "--data", data).code == 0
    assert StatisticsFile(path).collected.examples == 1


def test_the_same_data_gives_the_same_file_in_text_and_in_json(call, data, zoo, tmp_path):
    text = tmp_path / "examples.txt"
    text.write_text("the town of the river\n\nsort 3 1 2\n")
    lines = tmp_path / "same.jsonl"
    lines.write_text('{"text": "the town of the river"}\n{"text": "sort 3 1 2"}\n')
    made = []
    for given in (text, lines):
        out = tmp_path / f"{given.suffix[1:]}.safetensors"
        options = ("--kind", "activations", "--out", out)
        assert call("collect-stats", zoo / "base", "--data", given, *options).code == 0
        made.append(StatisticsFile(out))
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].collected.data != made[1].collected.data


def test_a_merge_weighs_by_the_files_it_finds_or_is_given(call, data, zoo, tmp_path):
    for model in ("sort", "town"):
        assert call("collect-stats", zoo / model, "--data", data).code == 0
    moved = tmp_path / "moved.safetensors"
    (zoo / "town" / "statistics" / "fisher.safetensors").rename(moved)
    recipe = write_recipe(tmp_path, zoo, "fisher")
    lacking = call("merge", recipe, tmp_path / "merged")
    assert lacking.code == 4
    assert "source town: " in lacking.err
    assert "make it with 'evomerge collect-stats'" in lacking.err
    done = call("merge", recipe, tmp_path / "merged", "--statistics", f"town={moved}")
    assert done.code == 0, done.err
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    models = [load_file(zoo / n / "model.safetensors") for n in ("sort", "town")]
    places = [zoo / "sort" / "statistics" / "fisher.safetensors", moved]
    fishers = [StatisticsFile(place) for place in places]
    for name, tensor in merged.items():
        informed = [w * (f.read(name) + 1e-6) for w, f in zip((1, 2), fishers, strict=True)]
        top = sum(i * m[name].float() for i, m in zip(informed, models, strict=True))
        expected = (top / sum(informed)).to(tensor.dtype)
        torch.testing.assert_close(tensor, expected, atol=2e-5, rtol=1e-2, msg=name)


@pytest.mark.parametrize(
    ("operator", "kind", "measured"),
    [("regmean", "gram", ("sort", "town")), ("aim", "activations", ("base",))],
)
def test_the_other_operators_merge_by_theirs(
    call, data, zoo, tmp_path, operator, kind, measured
):
    for model in measured:
        done = call("collect-stats", zoo / model, "--data", data, "--kind", kind)
        assert done.code == 0, done.err
    recipe = write_recipe(tmp_path, zoo, operator)
    done = call("merge", recipe, tmp_path / "merged")
    assert done.code == 0, done.err
    plainly = "linear" if operator == "regmean" else "task_arithmetic"
    call("merge", write_recipe(tmp_path, zoo, plainly), tmp_path / "plain")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    layers = [name for name in merged if "_proj" in name]
    assert layers
    assert not any(torch.equal(merged[name], plain[name]) for name in layers)
    embedding = next(name for name in merged if "embed" in name)
    torch.testing.assert_close(merged[embedding], plain[embedding])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{"txt": "y"}\n[1]\n', "a.jsonl:2: expected {"),
        ("a.jsonl", '{"text": "x"}\n{"prompt": "y"}\n', "a.jsonl:2: expected {"),
        ("a.jsonl", '{"text": 3}\n', "a.jsonl:1: expected {"),
        ("a.jsonl", "not json\n", "a.jsonl:1: not JSON"),
        ("a.txt", "\n  \n", "has no examples"),
    ],
)
def test_data_that_is_none_is_refused_by_line(call, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    done = call("collect-stats", ZOO / "base", "--data", tmp_path / name)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_data_file_that_is_not_there_is_told_at_once(call, tmp_path):
    done = call("collect-stats", ZOO / "base", "--data", tmp_path / "none.txt")
    assert done.code == 2
    assert "there is no such file" in done.err


def fisher_experiment(folder: Path, zoo: Path, **models) -> Path:
    experts = {name: str(zoo / name) for name in ("town", "sort")}
    return write_experiment(
        folder,
        models={"base": str(zoo / "base"), "experts": experts} | models,
        space={"operator": "fisher", "experts": {"weight": [0, 1]}},
    )


def test_an_experiment_needs_the_statistics_of_its_space(call, data, zoo, tmp_path):
    with pytest.raises(CheckpointError) as lacking:
        prepare_file(fisher_experiment(tmp_path / "exp", zoo))
    assert len(str(lacking.value).splitlines()) == 2
    assert "town: " in str(lacking.value)
    digests = []
    for given in (data, ZOO / "base" / "config.json"):
        text = tmp_path / "exp" / "data.txt"
        text.write_text(given.read_text())
        for model in ("sort", "town"):
            out = tmp_path / "exp" / f"{model}.safetensors"
            assert call("collect-stats", zoo / model, "--data", text, "--out", out).code == 0
        places = {"sort": "sort.safetensors", "town": "town.safetensors"}
        path = fisher_experiment(tmp_path / "exp", zoo, statistics=places)
        _, prepared = prepare_file(path)
        genome = {gene.name: 0.5 for gene in prepared.space.genes}
        digests.append(prepared.space.decode(genome).digest)
    # Scores with other statistics are those of another model.
    assert digests[0] != digests[1]


def test_a_search_merges_by_statistics_and_is_not_resumed_with_others(
    call, data, zoo, tmp_path
):
    for model in ("sort", "town"):
        assert call("collect-stats", zoo / model, "--data", data).code == 0
    path = fisher_experiment(tmp_path / "exp", zoo)
    few = (
        "-o",
        "fitness.items={search: 8, validation: 8, test: 8}",
        "-o",
        "budget.candidates=2",
    )
    run = call("run", path, "--out", tmp_path / "run", *few)
    assert run.code == 0, run.err
    assert call("resume", tmp_path / "run", "--add", 1).code == 0
    data.write_text('{"text": "the river"}\n')
    assert call("collect-stats", zoo / "sort", "--data", data).code == 0
    refused = call("resume", tmp_path / "run", "--add", 1)
    assert refused.code == 5
    assert "the statistics of model 'sort' have changed" in refused.err


def test_statistics_of_a_model_that_is_none_are_refused(call, zoo, tmp_path):
    path = fisher_experiment(tmp_path / "exp", zoo, statistics={"sotr": "x.safetensors"})
    done = call("validate", path)
    assert done.code == 2
    assert "statistics of ['sotr']" in done.err
