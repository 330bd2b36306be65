import json

import pytest
import torch
import transformers
from merging.tiny_architectures import ARCHITECTURES, inputs_of, make_model
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file, save_file

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.tensor_names import layer_stacks
from evomerge.merging.checkpoint import open_source
from evomerge.merging.compatibility import check, notes
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export

EVERY_ARCHITECTURE = pytest.mark.parametrize("name", list(ARCHITECTURES))


@pytest.fixture(scope="session")
def trios(tmp_path_factory):
    """Base and two experts of an architecture, opened; made once."""
    root, made = tmp_path_factory.mktemp("architectures"), {}

    def trio(name):
        if name not in made:
            made[name] = {
                part: make_model(name, root / name / part, seed)
                for seed, part in enumerate(("base", "a", "b"), 1)
            }
        return {part: open_source(str(folder)) for part, folder in made[name].items()}

    return trio


def loaded(folder):
    """As transformers loads it, and what it did not find or know."""
    config = json.loads((folder / "config.json").read_text())
    model_class = getattr(transformers, config["architectures"][0])
    model, told = model_class.from_pretrained(folder, output_loading_info=True)
    return model.eval(), told


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("operator", ["linear", "ties"])
def test_a_merge_exports_and_loads(trios, tmp_path, name, operator):
    sources = trios(name)
    assert check(sources, "base") == []
    models = {part: {"weight": 0.5} for part in ("a", "b")}
    parameters = {}
    if operator == "ties":
        models = {part: {"weight": 0.5, "density": 0.6} for part in ("a", "b")}
        parameters = {"normalize": True}
    recipe = recipe_of(models, operator, "base", parameters=parameters)
    engine = MergeEngine(sources)
    export(engine, recipe, tmp_path / "out", card="", recipe_text="")
    model, told = loaded(tmp_path / "out")
    assert not any(told.values()), told

    resident = engine.resident_model(recipe)
    assert type(resident) is type(model)
    engine.apply(recipe, resident)
    theirs = model.state_dict()
    for parameter, ours in resident.state_dict().items():
        assert torch.equal(ours, theirs[parameter]), parameter
    with torch.no_grad():
        ours, theirs = (m(**inputs_of(name)).logits for m in (resident, model))
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours, theirs)


@EVERY_ARCHITECTURE
def test_half_of_each_is_the_mean_of_both(trios, name):
    sources = trios(name)
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {"weight": 0.5}}, "linear", "base")
    for tensor, merged in MergeEngine(sources).tensors(recipe):
        mean = (sources["a"].read(tensor) + sources["b"].read(tensor)) / 2
        torch.testing.assert_close(merged, mean)


@EVERY_ARCHITECTURE
def test_a_range_of_layers_is_meant_in_every_stack_and_nowhere_else(trios, name):
    sources = trios(name)
    rules = (Rule("passthrough", {"a": {}}, layers=(1, 2)), Rule("passthrough", {"b": {}}))
    recipe = Recipe(tuple(Source(n, n) for n in sources), rules, base="base")
    taken = set()
    for tensor, merged in MergeEngine(sources).tensors(recipe):
        if torch.equal(merged, sources["a"].read(tensor)):
            taken.add(tensor)
        else:
            assert torch.equal(merged, sources["b"].read(tensor))
    stacks = layer_stacks(sources["a"].tensors)
    expected = {
        tensor
        for tensor in sources["a"].tensors
        for stack, count in stacks.items()
        if count > 1 and tensor.startswith(f"{stack}.1.")
    }
    assert taken == expected
    assert expected


@pytest.mark.parametrize(
    ("name", "stacks"),
    [
        ("gpt2", {"transformer.h": 2}),
        ("t5", {"decoder.block": 2, "encoder.block": 3}),
        ("bert", {"bert.encoder.layer": 2}),
        ("vit", {"vit.encoder.layer": 3}),
        ("llava", {"language_model.model.layers": 2, "vision_tower.encoder.layers": 3}),
        ("mixtral", {"model.layers": 2}),
    ],
)
def test_layers_are_found_by_pattern(trios, name, stacks):
    assert layer_stacks(trios(name)["base"].tensors) == stacks


def test_stacks_of_different_depths_are_remarked_on(trios):
    (remark,) = notes({"base": trios("t5")["base"]}, "base")
    assert "3 in encoder.block" in remark
    assert notes({"base": trios("bert")["base"]}, "base") == []


@pytest.mark.parametrize(
    ("name", "tied"),
    [("t5", True), ("t5_untied", False), ("bert", True), ("gpt2", True), ("llama", False)],
)
def test_ties_are_seen(trios, name, tied):
    assert trios(name)["base"].tied is tied


def repeated(folder, copies):
    """The checkpoint with tensors stored under further names, as older writers did."""
    weights = load_file(folder / "model.safetensors")
    for copy, original in copies.items():
        weights[copy] = weights[original].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        (
            "t5",
            {
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
                "lm_head.weight": "shared.weight",
            },
        ),
        (
            "bert",
            {
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
        ),
        ("gpt2", {"lm_head.weight": "transformer.wte.weight"}),
    ],
)
def test_tensors_stored_twice_merge_with_those_stored_once(tmp_path, name, copies):
    folders = {part: make_model(name, tmp_path / part, k) for k, part in enumerate("ab")}
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {"weight": 0.5}}, "linear")
    once = {part: open_source(str(folder)) for part, folder in folders.items()}
    expected = dict(MergeEngine(once).tensors(recipe))
    repeated(folders["a"], copies)
    for order in ("ab", "ba"):
        mixed = {part: open_source(str(folders[part])) for part in order}
        assert mixed["a"].tied
        assert check(mixed, order[0]) == []
        merged = dict(
            MergeEngine(mixed).tensors(recipe_of({p: {"weight": 0.5} for p in order}, "linear"))
        )
        assert merged.keys() == expected.keys()
        assert all(torch.equal(merged[n], expected[n]) for n in expected)


@pytest.mark.parametrize("reference", ["with", "without"])
def test_models_saved_with_and_without_a_prefix_merge(tmp_path, reference):
    for seed, name in enumerate(("with", "without")):
        make_model("gpt2", tmp_path / name, seed)
    weights = load_file(tmp_path / "without/model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(bare, tmp_path / "without/model.safetensors", metadata={"format": "pt"})
    sources = {name: open_source(str(tmp_path / name)) for name in ("with", "without")}
    assert check(sources, reference) == []
    order = [reference, *(name for name in sources if name != reference)]
    engine = MergeEngine(sources)
    recipe = recipe_of({name: {"weight": 0.5} for name in order}, "linear")
    for name, merged in engine.tensors(recipe):
        full = f"transformer.{name.removeprefix('transformer.')}"
        torch.testing.assert_close(merged, (sources["with"].read(full) + weights[full]) / 2)
    export(engine, recipe, tmp_path / "out", card="", recipe_text="")
    model, told = loaded(tmp_path / "out")
    assert not any(told.values()), told
    resident = engine.resident_model(recipe)
    engine.apply(recipe, resident)
    for name, tensor in model.state_dict().items():
        assert torch.equal(resident.state_dict()[name], tensor)


def test_an_encoder_of_another_depth_is_told_by_its_name(tmp_path, trios):
    config = transformers.T5Config(
        vocab_size=64,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "short")
    sources = {"base": trios("t5")["base"], "s": open_source(str(tmp_path / "short"))}
    assert check(sources, "base") == ["s: has 2 layers in encoder.block, base has 3."]
