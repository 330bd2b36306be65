"""That tables are as good as archives of weights: merges equal materialised split-slerps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from merging.flat_vectors import (
    make_mlps,
    merged_vector,
    seed_vectors,
    split_slerp,
    splits_over,
)
from safetensors.torch import load_file, save_file

from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.spaces.splits_gene import Mutation
from evomerge.spaces.splits_noise import normals
from evomerge.spaces.splits_table import SplitTable

TOLERANCE = 1e-5
STORIES = Path(__file__).parents[3] / "shared/models/stories260K"


def evolved(space, vectors, generations, seed, mutation=0.0, capacity=8):
    """An archive of tables beside one of weights, through the same random crossovers."""
    (gene,) = space.genes
    layout = gene.geometry.layout
    rng = np.random.default_rng(seed)
    tables = [SplitTable.uniform(row) for row in np.eye(len(vectors))]
    weights = list(vectors)
    for number in range(generations):
        i, j = rng.choice(len(tables), size=2, replace=False)
        cut, w = gene.row_at(float(rng.random())), float(rng.random())
        noise = Mutation(1000 + number, mutation) if mutation else None
        child = gene.child(tables[i], tables[j], cut, w, noise)
        made = split_slerp(weights[i], weights[j], layout.entries_before(cut), w)
        if mutation:
            parts = [
                normals(1000 + number, t.name, 0, t.rows * t.width) for t in layout.tensors
            ]
            made = made + mutation * np.concatenate(parts)
        tables.append(SplitTable.from_text(child.text))
        weights.append(made)
        if len(tables) > capacity:
            gone = int(rng.integers(len(tables)))
            del tables[gone], weights[gone]
    return tables, weights


def assert_merges_equal(space, sources, tables, weights):
    engine = MergeEngine(sources)
    for table, wanted in zip(tables, weights, strict=True):
        found = merged_vector(engine, space.decode({"splits": table.text}), sources)
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error < TOLERANCE
        assert np.abs(found - wanted).max() < TOLERANCE * np.abs(wanted).max()


def test_three_hundred_crossovers_of_small_networks(tmp_path):
    sources = make_mlps(tmp_path, 3)
    space, vectors = splits_over(sources), seed_vectors(sources)
    tables, weights = evolved(space, vectors, 300, seed=1)
    assert max(len(table.starts) for table in tables) > 50
    assert_merges_equal(space, sources, tables, weights)


def test_crossovers_with_noise_that_descendants_inherit(tmp_path):
    sources = make_mlps(tmp_path, 2)
    space, vectors = splits_over(sources), seed_vectors(sources)
    tables, weights = evolved(space, vectors, 40, seed=2, mutation=0.05)
    assert max(len(table.noise_seeds) for table in tables) > 15
    assert_merges_equal(space, sources, tables, weights)


def test_two_hundred_crossovers_of_tied_llamas(llamas):
    sources = {name: open_source(str(llamas[name])) for name in ("a", "b", "c")}
    space, vectors = splits_over(sources), seed_vectors(sources)
    tables, weights = evolved(space, vectors, 200, seed=3)
    assert_merges_equal(space, sources, tables[:4], weights[:4])


def test_tied_and_untied_models_of_different_dtypes(llamas):
    """The output is in the first model's float32; one has a head of its own, one half bits."""
    names = ("a", "untied", "half_a")
    sources = {name: open_source(str(llamas[name])) for name in names}
    space, vectors = splits_over(sources), seed_vectors(sources)
    tables, weights = evolved(space, vectors, 30, seed=4)
    assert any(t.name == "lm_head.weight" for t in space.genes[0].geometry.layout.tensors)
    assert_merges_equal(space, sources, tables[:3], weights[:3])


def test_a_real_model_and_its_noise(tmp_path):
    """stories260K, merged with copies of itself in other directions."""
    if not STORIES.is_dir():
        pytest.skip(f"no model in {STORIES}")
    tensors = load_file(STORIES / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    sources = {}
    for name, size in (("it", 0.0), ("near", 0.02), ("far", 0.5)):
        moved = {
            n: t.float() + size * t.float().std() * torch.randn(t.shape, generator=generator)
            for n, t in tensors.items()
        }
        save_file(moved, tmp_path / f"{name}.safetensors")
        sources[name] = open_source(str(tmp_path / f"{name}.safetensors"))
    space, vectors = splits_over(sources), seed_vectors(sources)
    tables, weights = evolved(space, vectors, 100, seed=5)
    assert_merges_equal(space, sources, tables[:3], weights[:3])


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_resident_model_and_an_exported_folder_hold_the_same_bits(llamas, tmp_path, noise):
    sources = {name: open_source(str(llamas[name])) for name in ("half_a", "half_b")}
    space = splits_over(sources)
    tables, _ = evolved(space, seed_vectors(sources), 12, seed=6, mutation=noise)
    engine = MergeEngine(sources)
    model = engine.resident_model("half_a")
    for table in tables[-3:]:  # in place, one candidate over the other
        recipe = space.decode({"splits": table.text})
        engine.apply(recipe, model)
        export(engine, recipe, tmp_path / f"{hash(table)}", card="", recipe_text="")
        exported = open_source(str(tmp_path / f"{hash(table)}"))
        state = model.state_dict()
        for name in exported.tensors:
            assert torch.equal(exported.read(name), state[name]), name
