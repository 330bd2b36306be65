"""SplitsGene: a whole table of boundaries and coefficients as the value of one gene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import GeneValue
from evomerge.spaces.splits_geometry import SplitGeometry
from evomerge.spaces.splits_table import SplitTable

_SMALLEST_SINE = 1e-6
"""At or below this sine of the angle, lines take the place of arcs."""

_LARGEST = 1e6
"""A child with coefficients beyond it, of parents that are nearly opposite, is a point of the
line instead: such sums cancel, and would lose all their digits."""


@dataclass(frozen=True)
class Mutation:
    """Noise that is added to every weight of a child."""

    seed: int
    """Names the direction; a child of its descendants carries the same one."""

    size: float
    """Standard deviation, in units of weights."""


@dataclass(frozen=True, eq=False)
class SplitsGene:
    """A merge as a table of boundaries and coefficients, written as text.

    To an optimizer that knows nothing of tables it is a number: the place on the path from
    seed to seed, each pair mixed linearly. One that does makes children by ``child``.
    """

    name: str
    seeds: tuple[str, ...]
    """Names of the seed models, two at least, in the order of the coefficients."""

    geometry: SplitGeometry

    def from_unit(self, unit: float) -> str:
        """A mixture of neighbouring seeds without a cut: 0 the first seed, 1 the last."""
        u = 0.5 if math.isnan(unit) else min(1.0, max(0.0, float(unit)))
        place = u * (len(self.seeds) - 1)
        first = min(int(place), len(self.seeds) - 2)
        share = round(place - first, 9)
        coefficients = [0.0] * len(self.seeds)
        coefficients[first : first + 2] = 1.0 - share, share
        return SplitTable.uniform(coefficients).text

    def to_unit(self, value: GeneValue) -> float:
        """The place on the path that is nearest to the table's mean coefficients.

        Raises:
            ValueError: The value is no table over these seeds.
        """
        mean = self._mean(self.table(value))
        best = (math.inf, 0.0)
        for k in range(len(mean) - 1):
            line = np.zeros(len(mean))
            line[k : k + 2] = -1.0, 1.0
            start = np.zeros(len(mean))
            start[k] = 1.0
            share = min(1.0, max(0.0, float((mean - start) @ line) / 2))
            distance = float(((start + share * line - mean) ** 2).sum())
            best = min(best, (distance, k + share))
        return best[1] / (len(mean) - 1)

    def table(self, value: GeneValue) -> SplitTable:
        """The table that a value says.

        Raises:
            ValueError: It says none, or one of other seeds or more rows.
        """
        table = SplitTable.from_text(str(value))
        if table.seeds != len(self.seeds):
            raise ValueError(
                f"expected a coefficient for each of {[*self.seeds]}, found {table.seeds}"
            )
        if table.starts[-1] >= self.geometry.layout.rows:
            raise ValueError(
                f"a segment starts at row {table.starts[-1]} of {self.geometry.layout.rows}"
            )
        return table

    def row_at(self, share: float) -> int:
        """The row in which lies so large a share of all weights: a cut, drawn evenly."""
        layout = self.geometry.layout
        return layout.row_of(min(layout.entries - 1, int(share * layout.entries)))

    def drawn(self, random: np.random.Generator) -> SplitTable:
        """A table at random.

        All seeds are joined one after the other, each by a split-slerp with a cut and a weight
        of its own.
        """
        order = random.permutation(len(self.seeds))
        seeds = np.eye(len(self.seeds))
        table = SplitTable.uniform(list(seeds[order[0]]))
        for seed in order[1:]:
            cut, weight = self.row_at(random.random()), float(random.random())
            table = self.child(table, SplitTable.uniform(list(seeds[seed])), cut, weight)
        return table

    def child(
        self,
        first: SplitTable,
        second: SplitTable,
        cut: int,
        weight: float,
        mutation: Mutation | None = None,
    ) -> SplitTable:
        """Split-slerp: spherical interpolation with another weight on each side of a cut.

        The angle is that between the whole vectors. The second parent weighs ``weight`` in
        the rows before the cut and ``1 - weight`` from the cut on (Abrantes, Lange and Tang
        2025, arXiv:2508.16204). Vectors (nearly) parallel or opposite are mixed linearly.

        Args:
            first: A parent.
            second: The other.
            cut: A row from 0 to the number of rows.
            weight: In [0, 1].
            mutation: Noise that is added, if any.
        """
        noise = sorted({*first.noise_seeds, *second.noise_seeds})
        starts = sorted({*first.starts, *second.starts, cut} - {self.geometry.layout.rows})
        wide = [table.expanded(starts, noise) for table in (first, second)]
        share = np.where(np.array(starts) < cut, weight, 1.0 - weight)
        made = _mixed(wide, _arc(self.geometry.cosine(first, second), share))
        if not (np.abs(made) <= _LARGEST).all():
            made = _mixed(wide, _line(share))
        if mutation is not None and mutation.size:
            made = np.column_stack([made, np.full(len(made), mutation.size)])
            noise = [*noise, mutation.seed]
        return SplitTable.of(starts, made, noise)

    def noisy(self, table: SplitTable, mutation: Mutation) -> SplitTable:
        """The table with noise and no other change."""
        wide = np.column_stack(
            [np.array(table.coefficients), np.full(len(table.starts), mutation.size)]
        )
        return SplitTable.of(table.starts, wide, [*table.noise_seeds, mutation.seed])

    def _mean(self, table: SplitTable) -> NDArray[np.float64]:
        """Mean coefficients of the seeds over all weights, scaled to sum to 1."""
        layout = self.geometry.layout
        ends = [layout.entries_before(row) for row in (*table.starts, layout.rows)]
        shares = np.diff(ends) / layout.entries
        mean = shares @ np.array(table.coefficients)[:, : table.seeds]
        whole = float(mean.sum())
        return np.asarray(mean / whole if whole > 0 else mean)


def _arc(cosine: float, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(2, segments)`` factors of two vectors on the arc between them."""
    angle = math.acos(cosine) if math.isfinite(cosine) else 0.0
    if math.sin(angle) <= _SMALLEST_SINE:
        return _line(share)
    sines = np.stack([np.sin((1.0 - share) * angle), np.sin(share * angle)])
    return np.asarray(sines / math.sin(angle))


def _line(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1.0 - share, share])


def _mixed(
    tables: Sequence[NDArray[np.float64]], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(factors[0][:, None] * tables[0] + factors[1][:, None] * tables[1])
