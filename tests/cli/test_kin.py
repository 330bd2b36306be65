"""``evomerge kin`` from the command line."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
import torch
from cli.zoo_adapters import change, write_adapter
from quickstart import ZOO
from safetensors.torch import load_file, save_file

EXPERTS = [ZOO / name for name in ("score", "sort", "town")]


@pytest.fixture
def kin(call, monkeypatch):
    def run(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = call("kin", *arguments)
        assert done.code == 0, done.err
        return done.out

    return run


def facts(kin, *arguments):
    return json.loads(kin(*arguments, "--json"))


def noisy(folder, seed, scale):
    """The base of the zoo with noise of its own."""
    shutil.copytree(ZOO / "base", folder)
    generator = torch.Generator().manual_seed(seed)
    stored = load_file(folder / "model.safetensors")
    for tensor in stored.values():
        tensor += scale * torch.randn(tensor.shape, generator=generator)
    save_file(stored, folder / "model.safetensors")
    return folder


def test_the_embedded_experts_are_told_pair_by_pair(kin):
    shown = kin(*EXPERTS, "--base", ZOO / "base")
    rows = [line.split() for line in shown.splitlines()]
    assert ["score", "town", "0.0424", "0.0424", "0.507", "14.89", "0.9440"] in rows
    assert ["2", "sort", "2", "7.610", "0.1378"] in rows
    assert "Least related: sort and town (cosine -0.1105)" in " ".join(shown.split())
    assert "No models are close kin" in shown
    assert "Without --base" not in shown


def test_without_a_base_families_are_told_and_why_that_says_little(kin):
    shown = " ".join(kin(ZOO / "base", *EXPERTS).split())
    assert "All models are of one family" in shown
    assert "Those of models of one family are always near 1" in shown
    apart = " ".join(kin(*EXPERTS, "--threshold", 0.96).split())
    assert "2 families (similarity 0.96 or more on average)" in apart


def test_a_copy_is_close_kin_of_its_original(kin, tmp_path):
    copy = shutil.copytree(ZOO / "sort", tmp_path / "copy")
    told = facts(kin, *EXPERTS, copy, "--base", ZOO / "base")
    assert told["groups"] == [["score"], ["sort", "copy"], ["town"]]
    assert told["pairs"][0]["models"] == told["most_related"] == ["sort", "copy"]
    assert told["pairs"][0]["distance"] == 0
    assert "sort and copy hold the same weights." in told["notes"]
    assert any("merging them with each other gains little" in said for said in told["advice"])


def test_json_and_the_csv_file_hold_the_same_pairs(kin, tmp_path):
    out = tmp_path / "pairs.csv"
    shown = kin(*EXPERTS, "--base", ZOO / "base", "--json", "--out", out)
    told = json.loads(shown)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [[row["model"], row["other"]] for row in rows] == [
        p["models"] for p in told["pairs"]
    ]
    for row, pair in zip(rows, told["pairs"], strict=True):
        assert row["same_group"] == "false"
        for measure in ("cosine", "correlation", "sign_agreement", "distance", "similarity"):
            assert float(row[measure]) == pair[measure]
    assert told["measure"] == "cosine"
    assert told["threshold"] == 0.9
    assert [model["name"] for model in told["models"]] == ["score", "sort", "town"]
    assert told["models"][0]["model"] == str(ZOO / "score")


def test_adapters_are_compared_over_their_base(kin, tmp_path):
    base = ZOO / "base"
    adapters = [
        write_adapter(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))
    ]
    told = facts(kin, *(f"{a.name}={base}+{a}" for a in adapters), "--base", base)
    for model, adapter in zip(told["models"], adapters, strict=True):
        module = "layers.0.self_attn.q_proj", "layers.1.mlp.up_proj"
        squares = sum(float((change(adapter, name) ** 2).sum()) for name in module)
        assert model["norm"] == pytest.approx(squares**0.5, rel=0.01)
    assert abs(told["pairs"][0]["cosine"]) < 0.2


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    return [noisy(root / f"a-model-with-a-long-name-{seed}", seed, 0.02) for seed in range(16)]


@pytest.mark.parametrize("count", [6, 16])
def test_a_matrix_of_many_models_is_readable_at_eighty_columns(kin, many, count):
    shown = kin(*many[:count], "--base", ZOO / "base")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown.partition("… and")[0]
    header = next(
        k
        for k, line in enumerate(lines)
        if line.split()[-2:] == [str(count - 2), str(count - 1)]
    )
    last = lines[header + count].split()
    assert last[0] == str(count)
    values = [float(value) for value in last[-(count - 1) :]]
    assert len(values) == count - 1
    assert all(abs(value) < 0.1 for value in values)
    assert f"… and {count * (count - 1) // 2 - 6} pairs between them" in shown


def test_a_matrix_that_does_not_fit_is_not_broken(kin, many):
    shown = kin(*many, "--base", ZOO / "base", columns=60)
    assert "The matrix of 16 models does not fit into 60 columns" in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_the_bases_own_weights_and_strangers_are_told(kin, tmp_path):
    same = shutil.copytree(ZOO / "base", tmp_path / "same")
    stranger = noisy(tmp_path / "stranger", 1, 0.3)
    arguments = (ZOO / "sort", same, stranger, "--base", ZOO / "base")
    shown = " ".join(kin(*arguments).split())
    assert "same: its task vector is zero (it holds the base's weights)" in shown
    assert "sort same – –" in shown
    assert "stranger: its task vector is" in shown
    assert "hardly descends from it" in shown
    told = facts(kin, *arguments)
    assert told["pairs"][-1]["cosine"] is None
    assert ["same"] in told["groups"]
    assert told["least_related"] == ["sort", "stranger"]


def test_tokens_with_other_ids_are_told(kin, tmp_path):
    other = shutil.copytree(ZOO / "sort", tmp_path / "other")
    file = other / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = [token for token in vocabulary if token.isalnum()][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(content))
    notes = facts(kin, ZOO / "town", other, "--base", ZOO / "base")["notes"]
    assert [
        note for note in notes if note.startswith("other: 2 tokens of the base have another id")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{zoo}/sort"], 2, "at least two models are compared, got 1"),
        (
            ["{zoo}/sort", "{zoo}/base", "--base", "{zoo}/base"],
            2,
            "is the base and among the models",
        ),
        (["{zoo}/sort", "{zoo}/../zoo/sort"], 2, "is given 2 times"),
        (["x={zoo}/sort", "x={zoo}/town"], 2, "x: 2 models have this name"),
        (["sort={zoo}/town", "{zoo}/sort"], 2, "sort: 2 models have this name"),
        (["={zoo}/town", "{zoo}/sort"], 2, "expected MODEL or NAME=MODEL"),
        (["{zoo}/sort", "{zoo}/tows"], 4, "tows: no such folder"),
        (["{zoo}/sort", "{tmp}/broken"], 4, "is truncated"),
        (["{zoo}/sort", "{tmp}/pickled"], 4, "--allow-pickle"),
        (["{zoo}/sort", "org/none", "--offline"], 4, "--offline forbids"),
        (["{zoo}/sort", "{zoo}/town", "--out", "{tmp}/there"], 2, "exists already"),
        (["{zoo}/sort", "{zoo}/town", "--out", "{tmp}/no/x.csv"], 2, "there is no folder"),
        (["{zoo}/sort", "{zoo}/town", "--threshold", "2"], 2, "-1<=x<=1"),
    ],
    ids=lambda value: "-".join(value)[-25:] if isinstance(value, list) else None,
)
def test_bad_input_gets_one_plain_message(call, tmp_path, arguments, code, said):
    (tmp_path / "there").touch()
    broken = shutil.copytree(ZOO / "sort", tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[:-100])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    torch.save(load_file(ZOO / "sort" / "model.safetensors"), pickled / "pytorch_model.bin")
    done = call("kin", *(text.format(zoo=ZOO, tmp=tmp_path) for text in arguments))
    assert done.code == code, done.err
    assert said in done.err
    told = [line for line in done.err.splitlines() if line.lower().startswith("error:")]
    assert len(told) == 1
    assert done.out == ""


def test_every_model_that_cannot_be_read_is_told_at_once(call):
    done = call("kin", ZOO / "a", ZOO / "b", "--base", ZOO / "c")
    assert done.code == 4
    assert len([line for line in done.err.splitlines() if "no such folder" in line]) == 3


def test_pickled_weights_are_compared_when_allowed(kin, tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((ZOO / "sort" / "config.json").read_text())
    torch.save(load_file(ZOO / "sort" / "model.safetensors"), pickled / "pytorch_model.bin")
    told = facts(kin, ZOO / "sort", pickled, "--base", ZOO / "base", "--allow-pickle")
    assert told["pairs"][0]["distance"] == 0


def test_help_loads_no_model_framework():
    code = (
        "import sys\nfrom evomerge.cli.main import main\n"
        "try:\n    main(['kin', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not {"torch", "transformers", "numpy", "scipy"} & loaded
