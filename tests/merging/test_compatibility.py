import json

import torch
from safetensors.torch import load_file, save_file

from evomerge.merging.checkpoint import open_source
from evomerge.merging.compatibility import check, check_finite, notes


def opened(**folders):
    return {name: open_source(str(folder)) for name, folder in folders.items()}


def changed(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def test_models_of_one_architecture_fit(llamas):
    assert check(opened(base=llamas["base"], a=llamas["a"]), "base") == []


def test_tied_and_untied_models_fit_either_way(llamas):
    sources = opened(base=llamas["base"], u=llamas["untied"])
    assert check(sources, "base") == []
    assert check(sources, "u") == []


def test_a_missing_tensor_is_named_with_the_nearest(llamas, copied):
    def rename(weights):
        weights["model.layers.1.mlp.upp_proj.weight"] = weights.pop(
            "model.layers.1.mlp.up_proj.weight"
        )

    problems = check(opened(base=llamas["base"], a=changed(copied("a"), rename)), "base")
    assert any(
        "a: lacks model.layers.1.mlp.up_proj.weight" in p
        and "nearest name: model.layers.1.mlp.upp_proj.weight" in p
        for p in problems
    )
    assert any("base: lacks model.layers.1.mlp.upp_proj.weight" in p for p in problems)


def test_a_vocabulary_of_another_size_is_hinted_at_with_both_shapes(llamas):
    (problem,) = check(opened(base=llamas["base"], w=llamas["wide"]), "base")
    assert "embed_tokens.weight has shape [80, 32], in base it is [64, 32]" in problem
    assert "vocabulary size" in problem


def test_layer_counts_are_told_in_one_line(llamas):
    problems = check(opened(base=llamas["base"], d=llamas["deep"]), "base")
    assert problems == ["d: has 3 layers, base has 2."]


def test_a_config_that_counts_other_layers_than_the_tensors_is_told(llamas, copied):
    folder = copied("a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    problems = check(opened(base=llamas["base"], a=folder), "base")
    assert problems == ["a: config.json says 5 layers, the tensors are of 2."]


def test_tokens_with_other_ids_are_told(llamas, copied):
    folder = copied("a")
    text = (folder / "tokenizer.json").read_text()
    swapped = text.replace('"w7"', '"w_"').replace('"w8"', '"w7"').replace('"w_"', '"w8"')
    (folder / "tokenizer.json").write_text(swapped)
    (problem,) = check(opened(base=llamas["base"], a=folder), "base")
    assert "differs from base's in 2 tokens" in problem
    assert "'w7': 8 against 7" in problem


def test_an_added_token_without_an_embedding_row_is_told(llamas, copied):
    folder = copied("base")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 64, "content": "<new>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (problem,) = check(opened(base=folder), "base")
    assert "'<new>' has id 64" in problem
    assert "only 64 rows" in problem


def test_a_differing_chat_template_is_only_a_note(llamas, copied):
    folder = copied("a")
    (folder / "chat_template.jinja").write_text("other")
    sources = opened(base=llamas["base"], a=folder)
    assert check(sources, "base") == []
    assert any("chat template" in note for note in notes(sources, "base"))


def test_models_that_are_alike_are_not_remarked_on(llamas):
    assert notes(opened(base=llamas["base"], a=llamas["a"]), "base") == []


def test_integer_weights_are_refused(llamas, copied):
    def quantize(weights):
        weights["model.layers.0.mlp.up_proj.weight"] = torch.ones(48, 32, dtype=torch.int8)

    problems = check(opened(base=llamas["base"], a=changed(copied("a"), quantize)), "base")
    assert any("up_proj.weight is I8" in problem for problem in problems)


def test_every_problem_is_reported_at_once(llamas, copied):
    def ruin(weights):
        del weights["model.norm.weight"]
        weights["model.layers.0.mlp.up_proj.weight"] = torch.ones(9, 32)
        weights["model.layers.1.mlp.up_proj.weight"] = torch.ones(48, 32, dtype=torch.int32)

    problems = check(opened(base=llamas["base"], a=changed(copied("a"), ruin)), "base")
    assert len(problems) == 3


def test_check_finite_names_tensors_with_nan_or_infinities(copied):
    def poison(weights):
        weights["model.norm.weight"][3] = float("nan")
        weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("-inf")

    source = open_source(str(changed(copied("a"), poison)))
    assert sorted(check_finite(source)) == [
        "model.layers.0.mlp.up_proj.weight",
        "model.norm.weight",
    ]


def test_check_finite_passes_large_finite_weights(copied):
    def enlarge(weights):
        weights["model.norm.weight"][:] = 3e38

    assert check_finite(open_source(str(changed(copied("a"), enlarge)))) == []
