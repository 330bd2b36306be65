import json

import pytest
import torch
from merging.tiny_llamas import recipe_of
from merging.tiny_tokenizers import make_speaker
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.core.errors import CheckpointError
from evomerge.merging.aligned_model import align_tokens
from evomerge.merging.checkpoint import open_source
from evomerge.merging.compatibility import check
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.vocabulary import read_vocabulary

EMBEDDING = "model.embed_tokens.weight"
PAD = AddedToken("<pad>", special=True)
TOOL = AddedToken("<tool>", special=True)


@pytest.fixture(scope="session")
def speakers(tmp_path_factory):
    """base, code and maths have other words; code has <pad>, maths <pad>, <tool> and !!."""
    root = tmp_path_factory.mktemp("speakers")
    return {
        "base": make_speaker(root / "base", "base", seed=1),
        "code": make_speaker(root / "code", "code", seed=2, size=280, added=(PAD,)),
        "maths": make_speaker(root / "maths", "maths", seed=3, added=(PAD, TOOL, "!!")),
    }


def opened(folders):
    return {name: open_source(str(folder)) for name, folder in folders.items()}


def tokens(source):
    return read_vocabulary(source.tokenizer_folder)


def row(source, token):
    """The row of a token in a source's own embedding, or None."""
    place = tokens(source).get(token)
    return None if place is None else source.read(EMBEDDING)[place]


def test_a_union_knows_every_token_and_keeps_the_bases_ids(speakers):
    sources = opened(speakers)
    aligned = align_tokens(sources, "union", base="base")
    merged = tokens(aligned["base"])
    assert set(merged) == set().union(*(tokens(source) for source in sources.values()))
    assert sorted(merged.values()) == list(range(len(merged)))
    assert all(merged[token] == place for token, place in tokens(sources["base"]).items())
    for source in aligned.values():
        assert source.tensors[EMBEDDING].shape == (len(merged), 16)
        assert source.config["vocab_size"] == len(merged)
    assert check(aligned, "base") == []


@pytest.mark.parametrize("base", ["base", None])
def test_rows_follow_their_tokens_and_missing_ones_the_rule(speakers, base):
    sources = opened(speakers)
    aligned = align_tokens(sources, "union", base=base)
    kinds = set()
    for token, place in tokens(aligned["base"]).items():
        own = {name: row(source, token) for name, source in sources.items()}
        having = [name for name in sources if own[name] is not None]
        for name, source in aligned.items():
            found = source.read(EMBEDDING)[place]
            if own[name] is not None:
                assert torch.equal(found, own[name])
            elif len(having) == 1:
                assert torch.equal(found, own[having[0]])
                kinds.add("only")
            elif base in having:
                assert torch.equal(found, own[base])
                kinds.add("base")
            else:
                torch.testing.assert_close(found, sum(own[n] for n in having) / len(having))
                kinds.add("mean")
    assert kinds == ({"only", "mean", "base"} if base else {"only", "mean"})


def test_tensors_without_tokens_are_the_sources_own(speakers):
    sources = opened(speakers)
    aligned = align_tokens(sources, "union")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(aligned["code"].read(name), sources["code"].read(name))
    assert aligned["code"].fingerprint == sources["code"].fingerprint
    assert aligned["code"].tied


def test_a_named_sources_tokenizer_is_taken_with_its_special_tokens(speakers, tmp_path):
    folders = dict(speakers)
    folders["code"] = make_speaker(tmp_path / "code", "code", seed=5, size=280, bos="<begin>")
    for file in ("config.json", "generation_config.json"):
        plain = json.loads((folders["code"] / file).read_text())
        (folders["code"] / file).write_text(json.dumps(plain | {"bos_token_id": 9}))
    sources = opened(folders)
    aligned = align_tokens(sources, "code", base="base")
    assert tokens(aligned["base"]) == tokens(sources["code"])
    assert aligned["base"].config["bos_token_id"] == 9
    generation = json.loads(aligned["base"].side_file("generation_config.json").read_text())
    assert generation["bos_token_id"] == 9
    begin = tokens(sources["code"])["<begin>"]
    assert torch.equal(aligned["base"].read(EMBEDDING)[begin], row(sources["code"], "<begin>"))


def test_padded_rows_are_trimmed_and_others_padded_with_the_mean(speakers, tmp_path):
    folders = dict(speakers)
    folders["base"] = make_speaker(tmp_path / "padded", "base", seed=4, rows=320)
    sources = opened(folders)
    count = len(tokens(sources["base"]))
    trimmed = align_tokens(sources, "base", base="base")
    assert trimmed["base"].tensors[EMBEDDING].shape == (count, 16)
    assert torch.equal(trimmed["base"].read(EMBEDDING), sources["base"].read(EMBEDDING)[:count])
    padded = align_tokens(sources, "base", base="base", multiple=64)
    assert padded["code"].tensors[EMBEDDING].shape == (320, 16)
    rows = padded["code"].read(EMBEDDING)
    torch.testing.assert_close(rows[-1], rows[:count].mean(0))


def test_untied_heads_are_aligned_as_embeddings_are(tmp_path):
    folders = {
        name: make_speaker(tmp_path / name, name, seed=seed, tied=name == "maths")
        for seed, name in enumerate(("base", "code", "maths"))
    }
    sources = opened(folders)
    aligned = align_tokens(sources, "union", base="base")
    place = tokens(aligned["base"])["sum"]
    found = aligned["base"].read("lm_head.weight")[place]
    assert torch.equal(found, row(sources["maths"], "sum"))  # a tied head is the embedding
    place = tokens(aligned["base"])["return"]
    own = sources["code"].read("lm_head.weight")[tokens(sources["code"])["return"]]
    assert torch.equal(aligned["base"].read("lm_head.weight")[place], own)


@pytest.mark.parametrize("tokenizer", ["union", "maths"])
def test_an_export_has_a_working_tokenizer_of_its_vocabulary(speakers, tmp_path, tokenizer):
    aligned = align_tokens(opened(speakers), tokenizer, base="base")
    models = {name: {"weight": 0.3} for name in ("code", "maths")}
    engine = MergeEngine(aligned)
    recipe = recipe_of(models, "task_arithmetic", "base")
    export(engine, recipe, tmp_path / "out", card="", recipe_text="")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.get_vocab() == tokens(aligned["base"])
    assert model.get_input_embeddings().weight.shape[0] == len(loaded.get_vocab())
    text = "the sum of <tool> <pad> cats!!"
    encoded = loaded(text)["input_ids"]
    assert loaded.decode(encoded) == text
    assert {loaded.get_vocab()[t] for t in ("<tool>", "<pad>", "!!")} <= set(encoded)
    assert torch.isfinite(model(torch.tensor([encoded])).logits).all()
    resident = engine.resident_model(recipe)
    engine.apply(recipe, resident)
    for name, tensor in model.state_dict().items():
        assert torch.equal(resident.state_dict()[name], tensor)


def test_files_of_the_merged_tokenizer_go_with_the_sources(speakers):
    aligned = align_tokens(opened(speakers), "union", base="base")
    folder = aligned["base"].tokenizer_folder
    assert (folder / "tokenizer.json").exists()
    del aligned
    assert not folder.exists()


def test_a_source_without_a_tokenizer_shares_the_references(speakers, tmp_path):
    folder = make_speaker(tmp_path / "bare", "base", seed=9)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    sources = opened({"base": speakers["base"], "bare": folder})
    aligned = align_tokens(sources, "union", base="base")
    assert torch.equal(aligned["bare"].read(EMBEDDING), sources["bare"].read(EMBEDDING))


@pytest.mark.parametrize(
    ("tokenizer", "remove", "message"),
    [
        ("unoin", (), "expected 'union' or a source, of base, code"),
        ("union", ("base", "tokenizer.json"), "no tokenizer.json, which a union"),
        ("union", ("code", "tokenizer.json"), "only tokenizer.model"),
    ],
    ids=["unknown", "reference", "sentencepiece"],
)
def test_what_cannot_be_aligned_is_said(tmp_path, tokenizer, remove, message):
    folders = {n: make_speaker(tmp_path / n, n, seed=1) for n in ("base", "code")}
    if remove:
        (folders[remove[0]] / remove[1]).unlink()
        if "code" in remove:
            (folders["code"] / "tokenizer.model").write_bytes(b"\n\x05")
        else:
            (folders["base"] / "vocab.json").write_text('{"the": 0}')
    with pytest.raises(CheckpointError, match=message):
        align_tokens(opened(folders), tokenizer, base="base")


# mergekit is the oracle: rows are compared by token, since its ids of appended tokens follow
# the order of a hash table.


@pytest.mark.parametrize("source", ["union", "base", "code"])
@pytest.mark.parametrize(
    ("method", "parameters"),
    [("task_arithmetic", {"weight": 0.4}), ("linear", {"weight": 0.5})],
    ids=["task_arithmetic", "linear"],
)
def test_mergekit_aligns_alike(speakers, tmp_path, source, method, parameters):
    pytest.importorskip("mergekit.merge", reason="mergekit is not installed")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    with_base = method == "task_arithmetic"
    if source == "base" and not with_base:
        pytest.skip("without a base mergekit takes the first model's, which 'code' tests")
    names = ["base", "code", "maths"]
    merged = names[1:] if with_base else names
    config = {
        "merge_method": method,
        "models": [{"model": str(speakers[n]), "parameters": parameters} for n in merged],
        "dtype": "float32",
        "tokenizer_source": str(speakers["code"]) if source == "code" else source,
    }
    if with_base:
        config["base_model"] = str(speakers["base"])
    run_merge(MergeConfiguration.model_validate(config), str(tmp_path / "out"), MergeOptions())
    theirs = open_source(str(tmp_path / "out"))
    base = "base" if with_base else None
    aligned = align_tokens(opened(speakers), source, base=base)
    recipe = recipe_of(
        dict.fromkeys(merged, parameters), method, base,
        parameters={"normalize": True} if method == "linear" else {},
    )  # fmt: skip
    ours = dict(MergeEngine(aligned).tensors(recipe))
    assert set(tokens(theirs)) == set(tokens(aligned["base"]))
    expected = theirs.read(EMBEDDING)
    assert expected.shape == ours[EMBEDDING].shape
    for token, place in tokens(aligned["base"]).items():
        torch.testing.assert_close(
            ours[EMBEDDING][place], expected[tokens(theirs)[token]], msg=f"row of {token!r}"
        )
    assert theirs.config["vocab_size"] == aligned["base"].config["vocab_size"]
    if with_base:  # without one mergekit extends any model's
        cut = [
            AutoTokenizer.from_pretrained(folder).tokenize("The sum of <tool>, add cats!!")
            for folder in (tmp_path / "out", aligned["base"].tokenizer_folder)
        ]
        assert cut[0] == cut[1]
