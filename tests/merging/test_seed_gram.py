"""Inner products of seeds over runs of rows, and the layout that they are counted by."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merging.flat_vectors import seed_vectors

from evomerge.merging.checkpoint import open_source
from evomerge.merging.seed_gram import OpenedSeeds
from evomerge.merging.source_model import SourceModel


@pytest.fixture(scope="session")
def opened(llamas):
    return {name: open_source(str(llamas[name])) for name in ("base", "a", "untied", "half_a")}


def test_the_layout_is_embedding_layers_norm_head(opened):
    names = [t.name for t in OpenedSeeds(opened, "base").layout(("a", "untied")).tensors]
    assert names[0] == "model.embed_tokens.weight"
    assert names[-2:] == ["lm_head.weight", "model.norm.weight"]
    inner = names[1:-2]
    assert inner == sorted(inner)
    assert all(name.startswith("model.layers.") for name in inner)


def test_a_head_that_all_seeds_tie_is_not_laid_out(opened):
    names = [t.name for t in OpenedSeeds(opened, "base").layout(("a", "half_a")).tensors]
    assert "lm_head.weight" not in names


def test_layers_count_as_numbers(tmp_path):
    from safetensors.torch import save_file

    tensors = {f"layers.{n}.w": torch.ones(2, 3) for n in (10, 2, 1)}
    save_file(tensors, tmp_path / "m.safetensors")
    seeds = OpenedSeeds({"m": open_source(str(tmp_path / "m.safetensors"))}, "m")
    assert [t.name for t in seeds.layout(("m",)).tensors] == [
        "layers.1.w",
        "layers.2.w",
        "layers.10.w",
    ]


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_gram_of_any_run_of_rows_is_the_direct_sum(opened, data):
    names = tuple(opened)
    seeds = OpenedSeeds(opened, "base")
    if "gram" not in KEPT:
        KEPT.update(gram=seeds.gram(names), flat=seed_vectors(opened), of=seeds.layout(names))
    gram, flat, layout = KEPT["gram"], KEPT["flat"], KEPT["of"]
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, layout.rows)] * 2)))
    part = flat[:, layout.entries_before(first) : layout.entries_before(last)]
    np.testing.assert_allclose(
        gram[last] - gram[first], part @ part.T, atol=1e-12 * np.abs(gram[-1]).max()
    )


KEPT: dict = {}


def test_long_rows_and_large_tensors_are_read_in_blocks(tmp_path):
    """A tensor of more entries than a block, and a row of more."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    sources = {}
    for name in ("a", "b"):
        tensors = {
            "tall": torch.randn(3000, 100, generator=generator),
            "wide": torch.randn(2, 300_000, generator=generator),
            "flat": torch.randn(300_000, generator=generator),
            "one": torch.tensor(2.0),
            "none": torch.empty(0, 4),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
        sources[name] = open_source(str(tmp_path / f"{name}.safetensors"))
    seeds = OpenedSeeds(sources, "a")
    flat = seed_vectors(sources)
    assert seeds.layout(("a", "b")).rows == 3000 + 2 + 1 + 1
    gram = seeds.gram(("a", "b"))
    np.testing.assert_allclose(gram[-1], flat @ flat.T, rtol=1e-10, atol=1e-6)
    assert gram.nbytes == (3004 + 1) * 4 * 8


def test_the_number_of_threads_does_not_change_a_bit(opened):
    seeds, threads = OpenedSeeds(opened, "base"), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = seeds.gram(("a", "untied"))
        torch.set_num_threads(2)
        two = seeds.gram(("a", "untied"))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(one, two)


def test_the_layout_reads_headers_only(llamas, monkeypatch):
    opened = {name: open_source(str(llamas[name])) for name in ("a", "b")}

    def read(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(SourceModel, "read", read)
    assert OpenedSeeds(opened, "a").layout(("a", "b")).rows > 100
