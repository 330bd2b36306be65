"""The weights behind split tables: rows of opened models, and prefix sums of inner products."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.merging.merge_plan import merged_tensors
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import embedding_name, stored_name
from evomerge.spaces.splits_geometry import Gram, RowBlock, SeedWeights
from evomerge.spaces.splits_layout import FlatLayout, FlatTensor

_BLOCK = 1 << 18
"""Entries of a block, so that those of a few models in float64 stay near the processor."""


class OpenedSeeds(SeedWeights):
    """Opened models, read tensor by tensor when their inner products are asked for.

    Args:
        sources: By name; all of one shape.
        reference: Name of the one that gives the tensors' names.
    """

    def __init__(self, sources: Mapping[str, SourceModel], reference: str) -> None:
        self._sources = dict(sources)
        self._reference = reference

    def layout(self, names: Sequence[str]) -> FlatLayout:
        """Every tensor of a merge of the named models, tied ones once."""
        used = dict.fromkeys((self._reference, *names))
        recipe = Recipe(
            tuple(Source(name, name) for name in used),
            (Rule("linear", {name: {} for name in names}),),
            self._reference,
        )
        merged = merged_tensors(recipe, self._sources)
        return FlatLayout.ordered(
            [FlatTensor.of(tensor.name, tensor.shape) for tensor in merged],
            embedding_name([tensor.name for tensor in merged]),
        )

    def blocks(self, names: Sequence[str]) -> Iterator[RowBlock]:
        """All rows in the layout's order, in float64.

        Raises:
            CheckpointError: A model lacks a tensor, or its file changed under us.
        """
        layout = self.layout(names)
        for tensor, first_row in zip(layout.tensors, layout.first_rows, strict=False):
            read = [self._sources[name].read(self._stored(name, tensor.name)) for name in names]
            flat = [each.reshape(-1) for each in read]
            step = max(1, _BLOCK // tensor.width)
            for row in range(0, tensor.rows, step):
                rows = min(step, tensor.rows - row)
                start = row * tensor.width
                stop = start + rows * tensor.width
                yield RowBlock(
                    first_row + row,
                    tensor.name,
                    start,
                    [own[start:stop].double().numpy().reshape(rows, -1) for own in flat],
                )

    def gram(self, names: Sequence[str]) -> Gram:
        """One pass over the weights; ``(rows + 1) × models² × 8`` bytes.

        The sums do not depend on the number of threads.
        """
        count = len(names)
        sums: NDArray[np.float64] = np.zeros((self.layout(names).rows + 1, count, count))
        for block in self.blocks(names):
            rows = len(block.models[0])
            where = slice(block.first_row + 1, block.first_row + rows + 1)
            for i, first in enumerate(block.models):
                for j in range(i + 1):
                    sums[where, i, j] = np.einsum("rw,rw->r", first, block.models[j])
                    sums[where, j, i] = sums[where, i, j]
        np.cumsum(sums, axis=0, out=sums)
        return sums

    def _stored(self, model: str, name: str) -> str:
        return stored_name(name, self._sources[model].tensors) or name
