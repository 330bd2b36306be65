"""Links: scales on which a loss of a certain range may be a quadratic of the genes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

Array = NDArray[np.float64]

_FEWEST_ITEMS = 20.0
"""Items that a share is taken to be of where nothing tells their number."""


class Link(ABC):
    """A monotone map from losses to the scale that the quadratic is fitted on."""

    name: str

    @abstractmethod
    def forward(self, losses: Array) -> Array:
        """``(points,)`` losses on the link's scale."""

    @abstractmethod
    def inverse(self, linked: Array) -> Array:
        """Losses of any shape, from the link's scale."""

    @abstractmethod
    def slope(self, losses: Array) -> Array:
        """``(points,)`` derivative of ``forward``, by which standard errors are multiplied."""


@dataclass(frozen=True)
class Identity(Link):
    """Losses of any sign and size, divided by the largest so that squares stay finite."""

    largest: float
    name = "identity"

    @override
    def forward(self, losses: Array) -> Array:
        return losses / self.largest

    @override
    def inverse(self, linked: Array) -> Array:
        return linked * self.largest

    @override
    def slope(self, losses: Array) -> Array:
        return np.full(len(losses), 1.0 / self.largest)


@dataclass(frozen=True)
class Log(Link):
    """Losses above 0, such as perplexities: the large ones of broken models weigh little."""

    name = "log"

    @override
    def forward(self, losses: Array) -> Array:
        return np.log(losses)

    @override
    def inverse(self, linked: Array) -> Array:
        return np.exp(np.clip(linked, -700.0, 700.0))

    @override
    def slope(self, losses: Array) -> Array:
        return 1.0 / np.maximum(losses, 1e-100)


@dataclass(frozen=True)
class Logit(Link):
    """Shares of items, such as accuracies, kept off 0 and 1 by half an item.

    A share p of n items becomes (n p + 1/2) / (n + 1), the empirical logit's correction
    (Haldane 1955, Anscombe 1956).
    """

    sign: float
    """-1 where losses are shares to be maximised, negated."""

    items: float
    """Of which the shares are taken to be."""

    name = "logit"

    @override
    def forward(self, losses: Array) -> Array:
        shares = self._guarded(losses)
        return self.sign * (np.log(shares) - np.log1p(-shares))

    @override
    def inverse(self, linked: Array) -> Array:
        shares = 1.0 / (1.0 + np.exp(np.clip(-self.sign * linked, -700.0, 700.0)))
        return self.sign * (shares * (self.items + 1.0) - 0.5) / self.items

    @override
    def slope(self, losses: Array) -> Array:
        shares = self._guarded(losses)
        return 1.0 / (shares * (1.0 - shares))

    def _guarded(self, losses: Array) -> Array:
        return np.asarray((self.sign * losses * self.items + 0.5) / (self.items + 1.0))


def links_of(losses: Array, errors: Array | None) -> Sequence[Link]:
    """The links that losses allow by their range, the plainest first.

    The identity always; the logit where all lie in [0, 1] or all in [-1, 0]; the logarithm
    where all are above 0 and some above 1.

    Args:
        losses: ``(points,)`` finite losses.
        errors: ``(points,)`` their standard errors, which tell the number of items.
    """
    low, high = float(losses.min()), float(losses.max())
    links: list[Link] = [Identity(max(abs(low), abs(high)) or 1.0)]
    if low >= 0 and high <= 1:
        links.append(Logit(1.0, _items(losses, errors)))
    elif low >= -1 and high <= 0:
        links.append(Logit(-1.0, _items(-losses, errors)))
    elif low > 0:
        links.append(Log())
    return links


def _items(shares: Array, errors: Array | None) -> float:
    """Items behind shares: from binomial standard errors, or so that no share is cut off."""
    inside = (shares > 0) & (shares < 1)
    if errors is not None:
        told = inside & (errors > 0)
        if told.any():
            p, e = shares[told], np.maximum(errors[told], 1e-9)
            return float(np.clip(np.median(p * (1 - p) / e**2), 1.0, 1e9))
    gaps = np.minimum(shares[inside], 1 - shares[inside])
    smallest = float(gaps.min()) if len(gaps) else 1.0
    return float(np.clip(1.0 / max(smallest, 1e-9), _FEWEST_ITEMS, 1e9))
