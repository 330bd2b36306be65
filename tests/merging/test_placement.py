"""Which sources a device holds, and that holding them changes nothing but the reading."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.placement import place_sources

GIB = 2**30
SIZES = st.integers(0, 40 * GIB)


@given(st.lists(SIZES, min_size=1, max_size=6), SIZES, SIZES, SIZES)
def test_what_is_kept_fits_with_the_model_and_a_quarter_to_spare(sizes, model, free, share):
    sources = {f"m{k}": size for k, size in enumerate(sizes)}
    placed = place_sources(sources, model, free, share)
    assert sorted([*placed.kept, *placed.streamed]) == sorted(sources)
    assert placed.share == min(free, share)
    if placed.kept:
        reserve = max(GIB, placed.share // 4)
        assert placed.kept_bytes + model + reserve <= placed.share
    if placed.kept_bytes == 0 and not placed.kept:
        assert all(placed.share - model - max(GIB, placed.share // 4) < s for s in sizes)


def test_the_plan_names_what_is_kept_and_what_is_streamed():
    placed = place_sources(
        {"base": 14 * GIB, "a": 14 * GIB, "b": 14 * GIB}, 14 * GIB, 79 * GIB, 80 * GIB
    )
    assert placed.kept == ("base", "a", "b")
    placed = place_sources(
        {"base": 14 * GIB, "a": 14 * GIB, "b": 14 * GIB}, 14 * GIB, 79 * GIB, 40 * GIB
    )
    assert (placed.kept, placed.streamed) == (("base",), ("a", "b"))
    assert placed.described() == (
        "each worker uses up to 40.00 GiB of its device: 14.00 GiB of resident model and "
        "14.00 GiB of sources (base); a, b do not fit besides and are streamed from pinned "
        "memory for every candidate"
    )


@pytest.mark.parametrize("kept", [("base",), ("base", "a", "b")])
def test_kept_sources_are_read_once_and_merge_to_the_same_bits(llamas, kept, monkeypatch):
    reads: list[str] = []
    read = SourceModel.read

    def counted(self, name, device="cpu"):
        reads.append(f"{self.folder.name}/{name}")
        return read(self, name, device)

    names = ("base", "a", "b")
    opened = {name: open_source(str(llamas[name])) for name in names}
    recipe = Recipe(
        tuple(Source(name, name) for name in names),
        (
            Rule(
                "ties",
                {"a": {"weight": 0.7, "density": 0.5}, "b": {"weight": 0.4, "density": 0.3}},
            ),
        ),
        base="base",
    )
    expected = dict(MergeEngine(opened).tensors(recipe))

    monkeypatch.setattr(SourceModel, "read", counted)
    engine = MergeEngine(opened, kept)
    for _ in range(3):
        assert all(torch.equal(t, expected[name]) for name, t in engine.tensors(recipe))
    for name in names:
        times = {reads.count(r) for r in set(reads) if r.startswith(llamas[name].name + "/")}
        assert times == ({1} if name in kept else {3})
