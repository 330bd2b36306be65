"""Layers of a resident model that show the sources' tensors instead of copies of them."""

import gc
from dataclasses import replace

import pytest
import torch
import transformers as hf
from merging.tiny_adapters import make_adapter
from merging.tiny_architectures import inputs_of, make_model
from merging.tiny_llamas import make_llama
from safetensors.torch import load_file, save_file

from evomerge.core.errors import TrialError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.resident_depth import ResidentDepth, recipe_of_depth

THRICE = (("a", 0), ("b", 1), ("b", 1), ("b", 1), ("a", 1), ("b", 0))


def alone(*names: str) -> Recipe:
    sources = tuple(Source(name, name) for name in names)
    return Recipe(sources, (Rule("passthrough", {names[0]: {}}),))


def path(layers, *before: Rule) -> Recipe:
    """Layers of one source after the other, as they are save for what rules before say."""
    rules = [
        Rule("passthrough", {model: {}}, {}, (place, place + 1))
        for place, (model, _) in enumerate(layers)
    ]
    slices = tuple(Slice({model: (own, own + 1)}) for model, own in layers)
    plain = alone("a", "b")
    return replace(plain, rules=(*before, *rules, *plain.rules), slices=slices)


def merged_path(layers) -> Recipe:
    """Every layer the mean of both models'."""
    slices = tuple(Slice(dict.fromkeys("ab", (own, own + 1))) for _, own in layers)
    mean = Rule("linear", {"a": {}, "b": {}})
    return replace(alone("a", "b"), rules=(mean,), slices=slices)


class Resident:
    """A model of shared layers with its engine, of sources in folders."""

    def __init__(self, folders, most=8, dtype=None):
        self.sources = {name: open_source(str(folder)) for name, folder in folders.items()}
        self.engine, plain = MergeEngine(self.sources), alone(*folders)
        self.model = self.engine.resident_model(
            recipe_of_depth(plain, 2, most), dtype, share_layers=True
        )
        self.depth = ResidentDepth(self.model, plain, self.sources)

    def apply(self, recipe):
        self.depth.fit(recipe)
        self.engine.apply(recipe, self.model)
        return self.model

    def holds(self, recipe):
        """Whether its weights are those of an export."""
        state = self.model.state_dict()
        return all(
            torch.equal(state[name], tensor.to(state[name].dtype))
            for name, tensor in self.engine.tensors(recipe)
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("slots")
    return {name: make_llama(root / name, seed=seed) for seed, name in enumerate("ab", 1)}


def storages(model):
    """Places and sizes of the memory that layers' parameters lie in."""
    layers = model.model.layers
    return {p.data_ptr(): p.numel() * p.element_size() for p in layers.parameters()}


def stored_bytes(source, layers):
    return sum(
        info.bytes
        for name, info in source.tensors.items()
        if any(f".layers.{layer}." in name for layer in layers)
    )


def test_a_path_takes_no_more_memory_than_the_layers_that_it_goes_through(folders):
    resident = Resident(folders, most=60)
    model = resident.apply(path([THRICE[k % 6] for k in range(60)]))
    pool = sum(stored_bytes(source, (0, 1)) for source in resident.sources.values())
    assert sum(storages(model).values()) == pool
    assert len(set(map(id, model.parameters()))) == len(list(model.parameters()))
    assert model.num_parameters() > 15 * pool / 4  # of four bytes


def test_slots_that_were_never_set_read_as_nan_and_take_no_memory(folders):
    resident = Resident(folders, most=300)
    layers = resident.model.model.layers
    assert all(p.isnan().all() for p in layers.parameters())
    assert sum(p.untyped_storage().nbytes() for p in layers.parameters()) == 300 * 9 * 4


def test_only_scaled_projections_have_storage_of_their_own(folders):
    resident = Resident(folders)
    scaled = Rule("passthrough", {"b": {}}, {}, (1, 4), ("o_proj",), scale=0.5)
    recipe = path(THRICE, scaled)
    model = resident.apply(recipe)
    assert resident.holds(recipe)
    pool = sum(stored_bytes(source, (0, 1)) for source in resident.sources.values())
    one = model.model.layers[1].self_attn.o_proj.weight
    # In the pool is still the o_proj of b's layer 1, which no slot shows as it is.
    bytes_of_one = one.numel() * one.element_size()
    assert sum(storages(model).values()) == pool - bytes_of_one + 3 * bytes_of_one


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "mixtral"])
def test_a_layer_three_times_in_a_row_answers_as_the_exported_model(tmp_path, name):
    folders = {n: make_model(name, tmp_path / n, seed) for seed, n in enumerate("ab", 1)}
    resident = Resident(folders)
    recipe = path(THRICE)
    model = resident.apply(recipe)
    folder = tmp_path / "exported"
    export(resident.engine, recipe, folder, card="", recipe_text="")
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = inputs_of(name)["input_ids"]
    greedy = {
        "max_new_tokens": 12,
        "do_sample": False,
        "use_cache": True,
        "return_dict_in_generate": True,
        "output_logits": True,
        "eos_token_id": None,
    }
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, theirs(tokens).logits)
        ours, wanted = model.generate(tokens, **greedy), theirs.generate(tokens, **greedy)
        uncached = model.generate(tokens, **greedy | {"use_cache": False})
    assert ours.sequences.shape[1] == tokens.shape[1] + 12
    assert torch.equal(ours.sequences, wanted.sequences)
    assert torch.equal(ours.sequences, uncached.sequences)
    # Both lie where their files put them, and sums depend on how memory is aligned.
    pairs = torch.stack(ours.logits), torch.stack(wanted.logits)
    torch.testing.assert_close(*pairs, rtol=1e-5, atol=1e-6)


def test_merges_and_paths_may_take_turns_and_sources_stay_as_they_are(folders):
    resident = Resident(folders)
    recipes = [
        path(THRICE),
        merged_path(THRICE),
        path(THRICE[::-1], Rule("passthrough", {"b": {}}, {}, (2, 5), scale=2.0)),
        path(THRICE[:2]),
        alone("b", "a"),
        merged_path(THRICE[:3]),
    ]
    for turn in (0, 1, 0, 2, 3, 1, 5, 4, 0, 5, 2):
        resident.apply(recipes[turn])
        assert resident.holds(recipes[turn]), turn
    for name, folder in folders.items():
        stored = load_file(folder / "model.safetensors")
        for tensor, wanted in stored.items():
            assert torch.equal(resident.sources[name].read(tensor), wanted), tensor


def test_what_was_shown_is_not_set_again_and_forgetting_sets_it(folders):
    resident = Resident(folders)
    model = resident.apply(path(THRICE))
    before = storages(model)
    last = model.model.layers[5].mlp.up_proj.weight
    kept, last.data = last.data, torch.zeros_like(last)
    resident.apply(path(THRICE))
    assert not last.any()
    resident.engine.forget(model)
    resident.apply(path(THRICE))
    assert torch.equal(last, kept)
    assert storages(model) == before


def test_a_write_into_a_shown_tensor_does_not_reach_the_file(tmp_path):
    folders = {n: make_llama(tmp_path / n, seed=seed) for seed, n in enumerate("ab", 1)}
    before = (folders["b"] / "model.safetensors").read_bytes()
    model = Resident(folders).apply(path(THRICE))
    model.model.layers[1].mlp.up_proj.weight.fill_(7.0)
    assert (folders["b"] / "model.safetensors").read_bytes() == before


def test_sources_of_another_dtype_are_converted_once_and_given_up_when_unused(tmp_path):
    folders = {
        n: make_llama(tmp_path / n, seed=seed, dtype=torch.bfloat16)
        for seed, n in enumerate("ab", 1)
    }
    resident = Resident(folders, dtype=torch.float32)
    model = resident.apply(path(THRICE))
    assert resident.holds(path(THRICE))
    pool = sum(stored_bytes(source, (0, 1)) for source in resident.sources.values())
    assert sum(storages(model).values()) == 2 * pool
    slots = resident.engine._slots[model]
    resident.apply(path([("a", 0)] * 6))
    gc.collect()
    assert len(slots._held) == 9  # tensors of one layer
    assert resident.holds(path([("a", 0)] * 6))


def test_layers_of_an_adapter_are_computed_once(tmp_path):
    base = make_llama(tmp_path / "base", seed=1)
    make_adapter(base, tmp_path / "adapter", r=4, target_modules=["q_proj"])
    sources = {
        "a": open_source(str(base)),
        "b": open_source(f"{base}+{tmp_path / 'adapter'}"),
    }
    engine = MergeEngine(sources)
    plain = alone("a", "b")
    model = engine.resident_model(recipe_of_depth(plain, 2, 6), share_layers=True)
    recipe = path(THRICE)
    engine.apply(recipe, model)
    layers = model.model.layers
    assert layers[1].self_attn.q_proj.weight.data_ptr() == (
        layers[3].self_attn.q_proj.weight.data_ptr()
    )
    state = model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in engine.tensors(recipe))


def test_a_layer_that_is_not_finite_fails_the_trial_each_time(tmp_path):
    folders = {n: make_llama(tmp_path / n, seed=seed) for seed, n in enumerate("ab", 1)}
    weights = load_file(folders["b"] / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(weights, folders["b"] / "model.safetensors", metadata={"format": "pt"})
    resident = Resident(folders)
    for _ in range(2):
        with pytest.raises(TrialError, match=r"1\.mlp\.up_proj\.weight: passthrough of b"):
            resident.apply(path(THRICE))
    good = path([("a", 0), ("b", 0), ("a", 1)])
    resident.apply(good)
    assert resident.holds(good)
