"""SplitTable: a merge as runs of rows, each a linear combination of the seed models."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_DIGITS = 9
"""Significant digits of coefficients. They are rounded where a table is made, so that its text
says exactly what it holds, and after a thousand crossovers still the same to 1e-6."""

_NOISE, _HEAD, _SEGMENT, _COLON = "noise ", "|", ";", ":"


@dataclass(frozen=True)
class SplitTable:
    """What each run of rows of the flattened model is made of.

    A model is ``Σ_k c_k(row) θ_k + Σ_j n_j(row) z_j`` over the seed models θ and seeded noise
    directions z, and c and n are constant between boundaries.
    """

    starts: tuple[int, ...]
    """The first row of each segment, ascending from 0."""

    coefficients: tuple[tuple[float, ...], ...]
    """By segment: one number a seed model, then one a noise direction."""

    noise_seeds: tuple[int, ...] = ()
    """What names the noise directions, ascending."""

    @classmethod
    def of(
        cls,
        starts: Sequence[int],
        coefficients: NDArray[np.float64],
        noise_seeds: Sequence[int] = (),
    ) -> "SplitTable":
        """The table in its one canonical form.

        Coefficients are rounded, neighbouring segments of equal ones joined, and noise
        directions sorted; those that nothing is made of are left out.

        Args:
            starts: The first row of each segment, strictly ascending from 0.
            coefficients: ``(segments, seeds + noise directions)``, finite.
            noise_seeds: One a noise direction, all different.

        Raises:
            ValueError: The parts do not fit together.
        """
        values = np.array([[rounded(c) for c in row] for row in coefficients.tolist()])
        if len(starts) != len(values) or not len(starts) or starts[0] != 0:
            raise ValueError(f"{len(values)} segments that start at {[*starts]}")
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError(f"segments must start at ascending rows, found {[*starts]}")
        if not np.isfinite(values).all():
            raise ValueError("coefficients must be finite")
        seeds = values.shape[1] - len(noise_seeds)
        order = sorted(range(len(noise_seeds)), key=noise_seeds.__getitem__)
        used = [k for k in order if values[:, seeds + k].any()]
        values = values[:, [*range(seeds), *(seeds + k for k in used)]]
        changed = [0, *(np.flatnonzero((values[1:] != values[:-1]).any(axis=1)) + 1).tolist()]
        return cls(
            tuple(int(starts[k]) for k in changed),
            tuple(tuple(row) for row in values[changed].tolist()),
            tuple(int(noise_seeds[k]) for k in used),
        )

    @classmethod
    def uniform(cls, coefficients: Sequence[float]) -> "SplitTable":
        """One segment: the same mixture of the seeds everywhere."""
        return cls.of([0], np.array([coefficients], dtype=np.float64))

    @property
    def seeds(self) -> int:
        """How many seed models it is over."""
        return len(self.coefficients[0]) - len(self.noise_seeds)

    @property
    def text(self) -> str:
        """The table as one line, ``0:1,0;4096:0.25,0.75``; ``from_text`` gives it back."""
        head = _NOISE + ",".join(map(str, self.noise_seeds)) + _HEAD if self.noise_seeds else ""
        return head + _SEGMENT.join(
            f"{start}{_COLON}{','.join(f'{c:.{_DIGITS}g}' for c in row)}"
            for start, row in zip(self.starts, self.coefficients, strict=True)
        )

    @classmethod
    def from_text(cls, text: str) -> "SplitTable":
        """The table that a text says.

        Raises:
            ValueError: It says none.
        """
        head, bar, body = text.rpartition(_HEAD)
        try:
            noise = [int(s) for s in head.split(_NOISE)[1].split(",")] if bar else []
            pairs = [segment.split(_COLON) for segment in body.split(_SEGMENT)]
            rows = [[float(c) for c in row.split(",")] for _, row in pairs]
            return cls.of([int(start) for start, _ in pairs], np.array(rows), noise)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"expected segments such as 0:1,0;4096:0.25,0.75, found {text!r:.80}: {error}"
            ) from error

    def expanded(
        self, starts: Sequence[int], noise_seeds: Sequence[int]
    ) -> NDArray[np.float64]:
        """The coefficients over finer segments and more noise directions.

        Args:
            starts: First rows of segments, among them all of its own.
            noise_seeds: Noise directions, among them all of its own.

        Returns:
            ``(segments, seeds + noise directions)``.
        """
        own = np.array(self.coefficients)
        which = np.searchsorted(self.starts, starts, side="right") - 1
        wide = np.zeros((len(starts), self.seeds + len(noise_seeds)))
        wide[:, : self.seeds] = own[which, : self.seeds]
        place = {seed: self.seeds + k for k, seed in enumerate(noise_seeds)}
        columns = [place[seed] for seed in self.noise_seeds]
        wide[:, columns] = own[which, self.seeds :]
        return wide


def rounded(coefficient: float) -> float:
    """To the digits that a table keeps; never -0.0."""
    return float(f"{coefficient:.{_DIGITS}g}") + 0.0
