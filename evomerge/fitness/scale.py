"""Scale: puts the values of any metric into 0…1, as response matrices hold them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from evomerge.core.objectives import Estimate


@dataclass(frozen=True)
class Scale:
    """A linear map of a metric's values into 0…1."""

    low: float = 0.0
    """What becomes 0."""

    width: float = 1.0
    """What above ``low`` becomes 1."""

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """The scale for some values.

        Scores within 0…1 stay as they are. Others, such as log-likelihoods, are put into the
        middle half, which leaves room for models that do better or worse than any so far.
        """
        lowest, highest = float(np.min(values)), float(np.max(values))
        if lowest >= 0 and highest <= 1:
            return cls()
        spread = max(highest - lowest, 1e-9)
        return cls(lowest - spread / 2, 2 * spread)

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Values on the scale; those beyond it are put at its ends."""
        return np.clip((values - self.low) / self.width, 0.0, 1.0)

    def raw(self, values: np.ndarray) -> np.ndarray:
        """Values on the scale in the metric's own unit."""
        return np.asarray(self.low + self.width * values)

    def undone(self, estimate: Estimate) -> Estimate:
        """An estimate in the metric's own unit."""
        return Estimate(
            self.low + self.width * estimate.value, self.width * estimate.standard_error
        )
