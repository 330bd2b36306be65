"""Quadratics of the genes, one a loss, fitted by ridge regression on the loss's own scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.starting_points import Units
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes
from evomerge.optimizers.surrogates.links import Link, links_of
from evomerge.optimizers.surrogates.ridge import RidgeFit, RidgeProblem

Array = NDArray[np.float64]

_MOST_TERMS = 400
"""Products of different genes are left out where there would be more terms than this."""

_MOST_POINTS = 500
"""Points fitted, the newest, since they lie where the search is now."""


_LARGEST_ERROR = 1e300
"""Stands for a standard error on the link's scale that is beyond all numbers."""

_MOST_UNCERTAIN = 1e6
"""Standard errors by the median one from which on points have no weight to speak of."""


@dataclass(frozen=True, eq=False)
class Terms:
    """Which columns and products of two columns a function is a weighted sum of."""

    name: str
    first: NDArray[np.int64]
    """``(products,)`` columns."""

    second: NDArray[np.int64]
    """``(products,)`` the columns that they are multiplied by."""

    def of(self, columns: Array) -> Array:
        """``(points, columns + products)`` terms of ``(points, columns)``."""
        return np.hstack([columns, columns[:, self.first] * columns[:, self.second]])


@dataclass(frozen=True, eq=False)
class QuadraticFit:
    """One loss as a quadratic, and how much of it that explains."""

    link: Link
    terms: Terms
    ridge: RidgeFit
    r_squared: float
    """Share of the variance on the link's scale that is foretold for points left out of the
    fit; 0 or less where the mean would do as well."""

    spread: float
    """Mean absolute error of the losses foretold for points left out."""

    bounds: tuple[float, float]
    """Range on the link's scale beyond which nothing is foretold."""

    @property
    def worst(self) -> float:
        """The largest loss that is ever foretold."""
        return float(self.link.inverse(np.array([self.bounds[1]]))[0])

    def losses(self, columns: Array) -> Array:
        """``(points,)`` losses foretold for ``(points, columns)``."""
        linked = self.terms.of(columns) @ self.ridge.coefficients + self.ridge.intercept
        return self.link.inverse(np.clip(linked, *self.bounds))

    def told(self) -> str:
        """The fit in a few words, for logs."""
        return f"{self.terms.name} on {self.link.name} scale, R² {self.r_squared:.2f}"


class QuadraticSurrogate:
    """Fits every loss by the link and the terms that foretell left-out points best.

    The links are those that the range of the losses allows (``links_of``). The terms are the
    columns alone (linear), with their squares (diagonal), or with all products (full: for T
    numbers the (T+1)(T+2)/2 parameters of MAP, arXiv 2406.07529), the last only up to 400
    terms. Links and terms are compared by the mean absolute error on the scale of the loss;
    of equals the plainer is taken.

    Points are weighted by 1 / (e² + s²), e being the standard error on the link's scale and s
    the median of all e: however exact a measurement, the quadratic itself misses by something.

    Args:
        encoded: Turns points of the unit cube into columns.
    """

    def __init__(self, encoded: EncodedGenes) -> None:
        self._encoded = encoded
        self._forms = _forms(encoded)

    def fit(
        self, units: Units, losses: Array, errors: Array | None = None
    ) -> tuple[QuadraticFit, ...]:
        """Fit every loss.

        Args:
            units: ``(points, genes)``, at least one.
            losses: ``(points, objectives)`` finite losses.
            errors: ``(points, objectives)`` standard errors, if known.

        Returns:
            One fit an objective.
        """
        columns = self._encoded.columns(units[-_MOST_POINTS:])
        expanded = [terms.of(columns) for terms in self._forms]
        unweighted: dict[int, RidgeProblem] = {}
        fits = []
        for objective in range(losses.shape[1]):
            y = losses[-_MOST_POINTS:, objective]
            e = None if errors is None else errors[-_MOST_POINTS:, objective]
            best: QuadraticFit | None = None
            for link in links_of(y, e):
                weights = _weights(link, y, e)
                for k, terms in enumerate(self._forms):
                    if weights is not None:
                        problem = RidgeProblem(expanded[k], weights)
                    elif k in unweighted:
                        problem = unweighted[k]
                    else:
                        problem = unweighted[k] = RidgeProblem(expanded[k])
                    made = _fit(link, terms, problem, y)
                    if best is None or made.spread < best.spread:
                        best = made
            if best is not None:
                fits.append(best)
        return tuple(fits)

    def predict(self, fits: Sequence[QuadraticFit], units: Units) -> Array:
        """``(points, fits)`` losses foretold for points of the unit cube."""
        columns = self._encoded.columns(units)
        return np.stack([fit.losses(columns) for fit in fits], axis=1)


def _forms(encoded: EncodedGenes) -> list[Terms]:
    of_gene = encoded.gene_of_column
    count = len(of_gene)
    none = np.zeros(0, dtype=np.int64)
    forms = [Terms("linear", none, none)]
    numbers = np.flatnonzero(~encoded.is_choice[of_gene])
    if len(numbers):
        forms.append(Terms("diagonal", numbers, numbers))
    if count * (count + 1) // 2 <= _MOST_TERMS + count:
        first, second = np.triu_indices(count, k=1)
        apart = of_gene[first] != of_gene[second]
        if apart.any():
            first = np.concatenate([numbers, first[apart]])
            second = np.concatenate([numbers, second[apart]])
            forms.append(Terms("full quadratic", first, second))
    return forms


def _weights(link: Link, losses: Array, errors: Array | None) -> Array | None:
    if errors is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # steep links, losses next to 0
        linked = np.nan_to_num(errors * link.slope(losses), posinf=_LARGEST_ERROR)
    typical = float(np.median(linked))
    if typical <= 0:
        return None
    ratio = np.minimum(linked, _MOST_UNCERTAIN * typical) / typical
    return np.asarray(1.0 / (ratio**2 + 1.0))


def _fit(link: Link, terms: Terms, problem: RidgeProblem, losses: Array) -> QuadraticFit:
    targets = link.forward(losses)
    low, high = float(targets.min()), float(targets.max())
    margin = 0.5 * (high - low)
    bounds = (low - margin, high + margin)
    ridge = problem.fit(targets)
    foretold = np.clip(ridge.left_out, *bounds)
    count = len(targets)
    # The mean without a point differs from the mean by this factor of the point's deviation.
    alone = (targets - targets.mean()) * (count / max(1, count - 1))
    total = float(alone @ alone)
    missed = targets - ridge.left_out
    explained = 1.0 - float(missed @ missed) / total if total > 0 else 0.0
    spread = float(np.mean(np.abs(link.inverse(foretold) / 2 - losses / 2)) * 2)
    return QuadraticFit(link, terms, ridge, explained, spread, bounds)
