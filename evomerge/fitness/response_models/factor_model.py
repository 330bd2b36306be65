"""FactorModel: items as noisy linear views of a few factors, shrunken so that few models do.

The covariance of the items over models is taken as W'W + diag(D). An empirical covariance of
a few dozen models is far from that of the models to come, so it is shrunken three ways:

* towards one factor: (1 − a) of the empirical covariance and a of c c'/v, where c is the
  covariance of each item with the bank mean and v the bank mean's variance (the single-index
  target of Ledoit & Wolf 2003), with what either leaves unexplained in D;
* towards equal items: the correlation of an item with the bank mean keeps the part κ of its
  distance from the average one. The item that correlates best owes some of that to luck;
* to few factors: the leading K principal components stay, the rest is noise.

The best linear predictor of the bank mean, and the items that make its error smallest, are
then in closed form and cost milliseconds.
"""

from dataclasses import dataclass

import numpy as np

_LEAST_NOISE = 1e-6
"""Noise variance below which an item would be taken for exact."""

_ROUNDS = 3
"""Passes that fill missing responses from the model and fit it again."""

_ALTERNATIONS = 10
"""Between item means and model effects, before the first fit."""

_LEAST_ANSWERED = 0.2
"""Share of answered responses below which an item's noise is not scaled up further."""


@dataclass(frozen=True)
class FactorSettings:
    """How much the empirical covariance is shrunken."""

    one_factor: float = 0.1
    """a: weight of the one-factor covariance, 0…1."""

    noise: float = 0.1
    """e: share of each item's variance that is noise beyond what the factors leave."""

    trust: float = 0.85
    """κ: kept part of the differences between items' correlations with the bank mean."""

    rank: int = 25
    """K: principal components kept."""


SINGLE_RESPONSES = FactorSettings(one_factor=0.5, noise=0.5, rank=5)
"""For predictions of single responses, where no averaging over items evens errors out: more
shrinkage than the bank's mean needs."""


@dataclass(frozen=True, eq=False)
class FactorModel:
    """Mean and covariance of a model's responses to the items of a bank."""

    mean: np.ndarray
    """``(items,)`` mean response."""

    loadings: np.ndarray
    """``(factors, items)`` W."""

    noise: np.ndarray
    """``(items,)`` D, variances, positive."""

    bank_mean: float
    """Mean over models of their means over the bank."""

    bank_loadings: np.ndarray
    """``(factors,)`` mean of W over the items."""

    @classmethod
    def fit(cls, values: np.ndarray, settings: FactorSettings | None = None) -> "FactorModel":
        """Fit to the responses of a pool.

        Args:
            values: ``(models, items)`` in 0…1; NaN where missing: filled by
                :func:`complete_responses`, and an item's noise grows with its missing share.
            settings: Shrinkage.
        """
        settings = settings or FactorSettings()
        missing = np.isnan(values)
        if not missing.any():
            return _fitted(values, settings)
        model = _fitted(complete_responses(values), settings)
        answered = np.maximum(1 - missing.mean(axis=0), _LEAST_ANSWERED)
        return cls(
            model.mean,
            model.loadings,
            model.noise / answered,
            model.bank_mean,
            model.bank_loadings,
        )

    @property
    def bank_variance(self) -> float:
        """Variance of the bank mean over models, under the model."""
        count = len(self.mean)
        return float(self.bank_loadings @ self.bank_loadings + self.noise.sum() / count**2)

    def select(self, count: int) -> np.ndarray:
        """Items in the order that shrinks the bank mean's posterior variance fastest.

        Greedy c-optimal design. The variance does not depend on the answers, so no choice of
        items that adapts to a candidate's answers can do better under this model.

        Returns:
            ``(count,)`` item positions, each once.
        """
        items = len(self.mean)
        residual = self.loadings.copy()  # posterior covariance of the factors times W
        spread = self.noise + (self.loadings**2).sum(axis=0)
        shared = self._shared(np.arange(items))
        free = np.ones(items, dtype=bool)
        order = np.empty(count, dtype=np.intp)
        for position in range(count):
            item = int(np.argmax(np.where(free, shared**2 / spread, -np.inf)))
            free[item] = False
            order[position] = item
            # what the answer to this item tells of each other one
            told = residual[:, item] @ self.loadings
            shared = shared - told * (shared[item] / spread[item])
            residual -= np.outer(residual[:, item], told / spread[item])
            spread = np.maximum(spread - told**2 / spread[item], self.noise)
        return order

    def weights(self, items: np.ndarray) -> tuple[np.ndarray, float]:
        """The best linear predictor of the bank mean, ``answers @ weights + intercept``.

        Args:
            items: ``(n,)`` item positions.
        """
        shared = self._shared(items)
        weights = np.linalg.solve(self._covariance(items), shared)
        return weights, self.bank_mean - float(weights @ self.mean[items])

    def posterior_variance(self, items: np.ndarray) -> float:
        """Variance of the bank mean given answers to these items, whatever they are."""
        shared = self._shared(items)
        explained = float(shared @ np.linalg.solve(self._covariance(items), shared))
        return max(self.bank_variance - explained, 0.0)

    def item_means(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Expected responses to all items given the answers to some.

        Args:
            items: ``(n,)`` item positions.
            answers: ``(n,)``.

        Returns:
            ``(items of the bank,)``, not bounded to 0…1; on the answered items too it is what
            the factors alone predict.
        """
        surprise = np.linalg.solve(self._covariance(items), answers - self.mean[items])
        return np.asarray(self.mean + (self.loadings[:, items] @ surprise) @ self.loadings)

    def _covariance(self, items: np.ndarray) -> np.ndarray:
        seen = self.loadings[:, items]
        return np.asarray(seen.T @ seen + np.diag(self.noise[items]))

    def _shared(self, items: np.ndarray) -> np.ndarray:
        """Covariance of the items with the bank mean."""
        own = self.noise[items] / len(self.mean)
        return np.asarray(self.bank_loadings @ self.loadings[:, items] + own)


def complete_responses(values: np.ndarray) -> np.ndarray:
    """Fill missing responses with what a factor model expects, within 0…1.

    Starts from item mean plus model effect, then a few times fits the model to the filled
    matrix and replaces the missing responses of each row by their expectation given its
    answered ones. Answered responses are kept as they are.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    filled = _additive_fill(values, missing)
    for _ in range(_ROUNDS):
        model = _fitted(filled, SINGLE_RESPONSES)
        for row in np.flatnonzero(missing.any(axis=1)):
            filled[row, missing[row]] = _expected(model, values[row])[missing[row]]
    return filled


def _expected(model: FactorModel, row: np.ndarray) -> np.ndarray:
    """Expected responses given a long row, through the factors (K × K, not n × n)."""
    seen = ~np.isnan(row)
    loadings = model.loadings[:, seen]
    weighted = loadings / model.noise[seen]
    precision = np.eye(len(loadings)) + weighted @ loadings.T
    factors = np.linalg.solve(precision, weighted @ (row[seen] - model.mean[seen]))
    return np.asarray(np.clip(model.mean + factors @ model.loadings, 0, 1))


def _additive_fill(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Item effect plus model effect on the answered responses, by alternating means."""
    item = np.nanmean(values, axis=0)
    model = np.nanmean(values - item, axis=1)
    for _ in range(_ALTERNATIONS):
        item = np.nanmean(values - model[:, None], axis=0)
        model = np.nanmean(values - item, axis=1)
    return np.where(missing, np.clip(model[:, None] + item, 0, 1), values)


def _fitted(values: np.ndarray, settings: FactorSettings) -> FactorModel:
    models, items = values.shape
    mean = values.mean(axis=0)
    centred = (values - mean) / np.sqrt(models)
    variance = (centred**2).sum(axis=0)
    # an item that nobody or everybody solved still varies in models to come
    variance = np.where(variance < 1e-12, 0.5 / (models + 1), variance)
    level = centred.mean(axis=1)
    bank_variance = max(float(level @ level), 1e-12)
    shared = level @ centred
    trusted = _shrunken_covariance(shared, variance, settings.trust)
    centred += np.outer(level / bank_variance, trusted - shared)
    left = np.maximum(variance - trusted**2 / bank_variance, 0)
    noise = settings.one_factor * left + settings.noise * variance
    several = np.sqrt(1 - settings.one_factor) * centred
    leading = _leading(several, min(settings.rank, models - 1, items))
    noise += np.maximum((several**2).sum(axis=0) - (leading**2).sum(axis=0), 0)
    single = np.sqrt(settings.one_factor / bank_variance) * trusted
    loadings = np.vstack([leading, single])
    return FactorModel(
        mean,
        loadings,
        np.maximum(noise, _LEAST_NOISE),
        float(values.mean()),
        loadings.mean(axis=1),
    )


def _shrunken_covariance(shared: np.ndarray, variance: np.ndarray, trust: float) -> np.ndarray:
    """Covariances with the bank mean whose correlations are drawn towards their average."""
    spread = np.sqrt(variance)
    correlation = shared / spread
    average = float(correlation @ variance) / float(variance.sum())
    return np.asarray((average + trust * (correlation - average)) * spread)


def _leading(rows: np.ndarray, rank: int) -> np.ndarray:
    """The leading principal components of the rows, ``(rank, items)``, scaled."""
    if len(rows) > rows.shape[1]:
        _, scales, right = np.linalg.svd(rows, full_matrices=False)
        return np.asarray(scales[:rank, None] * right[:rank])
    _, vectors = np.linalg.eigh(rows @ rows.T)
    return np.asarray(vectors[:, ::-1][:, :rank].T @ rows)
