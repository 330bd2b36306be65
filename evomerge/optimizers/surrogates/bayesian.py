"""Bayesian optimisation by Gaussian processes (BoTorch), for one or several objectives."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.pareto import front_mask
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.genetic.variation import ATTEMPTS, UnseenGenomes
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes
from evomerge.optimizers.surrogates.acquisition_points import AcquisitionPoints
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes
from evomerge.optimizers.surrogates.improvement_targets import (
    hardest_to_improve,
    reference_of,
    targets_of,
)
from evomerge.optimizers.surrogates.observations import Observations
from evomerge.optimizers.surrogates.options import BayesianOptions

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of what BoTorch uses
    import botorch
    import gpytorch
    from botorch.acquisition import AcquisitionFunction
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import (
        qLogExpectedHypervolumeImprovement,
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.models import SingleTaskGP
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import MaternKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior
    from linear_operator.utils.errors import NanError, NotPSDError

_logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_MOST_BY_VOLUME = 4
"""Objectives up to which expected hypervolume is computed; its cost explodes beyond."""

_MOST_LENGTHSCALES = 50
"""Genes up to which each column has a lengthscale of its own."""

_MOST_POINTS = 300
"""Points that a model is fitted to, the newest; the time grows with the cube of it."""

_BY_ACQUISITION = 2
"""Candidates of a batch by acquisition value; the rest by Thompson samples."""

_REFIT = 1.5
"""Factor of growth in outcomes after which hyperparameters are fitted again."""

_MOST_NUMBERS = 60_000
"""Numbers that points are made of: fewer points are looked at where there are many columns."""

_FIT_STEPS = 8
"""Steps of L-BFGS at most; they go on from where the last fit ended up."""

_AUGMENTATION = 0.05
"""Weight of the sum beside the worst objective in Chebyshev's scalarisation (ParEGO)."""


class Bayesian(Generational):
    """Models the losses by Gaussian processes and proposes where improvement is expected.

    Each objective has a Gaussian process of its own with a Matérn-5/2 kernel, a lengthscale a
    column and BoTorch's prior for them, which grows with the dimension (Hvarfner et al. 2024);
    with more than 50 genes all columns share one. Measurement noise is the square of the
    standard errors where these are told, or else fitted.

    * One objective: qLogNEI (Ament et al. 2023). Two to four: qLogNEHVI (Daulton et al. 2021),
      its reference point a tenth of the front's range behind the front's nadir; qLogEHVI where
      no standard errors are told, and then what is out counts as if it came as foretold, since
      its cost doubles with every pending point. More objectives: qLogNEI
      on a Chebyshev scalarisation with weights drawn for every candidate (qNParEGO).
    * Candidates out for evaluation are pending points of the acquisition function. In batches
      the third and further candidates are Thompson samples.
    * The acquisition value is looked at on points from this search's own stream: even ones,
      perturbations of the best at all scales, and then of the points of the highest value.
      No gradient is followed, since where one ends differs in the last digits from machine to
      machine, and a replay has to meet the same genomes. All points stand for genomes, with
      whole numbers and one-hot options, as BoTorch's documentation advises.
    * Points nearer to a failed or infeasible candidate than to any that succeeded come last.
      Losses of infeasible ones are modelled but never count as the best. While
      none is feasible, the violation is what is minimised.

    Args:
        problem: What is searched; its initial genomes are proposed first, beside the even ones.
        options: First samples, batch, effort.
    """

    def __init__(self, problem: SearchProblem, options: BayesianOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._options = options
        self._rng = stream(problem.seed, "optimizer", "bayesian")
        self._encoded = EncodedGenes(problem.genes)
        self._points = AcquisitionPoints(problem.genes, self._rng)
        self._unseen = UnseenGenomes(problem.genes, problem.expressed)
        self._known = Observations(len(self._genes), problem.objectives)
        self._initial: Units | None = units_of_genomes(problem.genes, problem.initial)
        degrees = self._encoded.degrees
        self._design = options.design or int(np.clip(2 * (degrees + 1), 6, 20))
        columns = len(self._encoded.gene_of_column)
        self._looked_at = min(options.points, max(24, _MOST_NUMBERS // columns))
        self._hyperparameters: dict[str, torch.Tensor] = {}
        self._fitted_at = 0
        self._begin()

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        for proposal, outcome in told:
            self._known.add(proposal.units, outcome)

    @override
    def _propose(self) -> list[Proposal]:
        if self._options.asynchronous:
            self._unseen.give_back(self._issued)
        rows: list[Units] = []
        if self._initial is not None:
            rows = self._unseen.take(self._initial)
            self._initial = None
            size = len(rows) + self._design + self._options.ahead
        else:
            size = 1 if self._options.asynchronous else self._batch()
            rows = self._modelled(size)
        for _ in range(ATTEMPTS):
            if len(rows) >= size:
                break
            rows += self._unseen.take(self._points.even(size - len(rows)))
        return [Proposal(row) for row in rows]

    def _batch(self) -> int:
        return self._options.batch or max(1, len(self._known) // 5)

    def _pending(self) -> Units:
        """``(open, genes)`` points proposed whose outcomes are not known."""
        out = [proposal.units for proposal in self._out.values()]
        out += [place.proposal.units for place in self._waiting]
        return np.array(out).reshape(-1, len(self._genes))

    def _modelled(self, size: int) -> list[Units]:
        """Up to so many new points that a model proposes; none where there is none to fit."""
        feasible = self._known.violations == 0
        losses, errors = self._known.losses, self._known.errors
        if len(losses) and not feasible.any():
            losses, errors = self._known.violations[:, None], None
            feasible = np.ones(len(losses), dtype=bool)
        if len(losses) < 2 or not (losses.max(axis=0) > losses.min(axis=0)).any():
            return []
        newest = _modelled_rows(feasible)
        targets, variances = targets_of(
            losses[newest], None if errors is None else errors[newest]
        )
        units, feasible = self._known.units[newest], feasible[newest]
        rows: list[Units] = []
        with _fence(int(self._rng.integers(2**31))):
            try:
                model = self._model(units, targets, variances)
                for row in self._picked(model, units[feasible], targets[feasible], size):
                    rows.append(row)  # at once: those before an error are marked as seen
            except (NanError, NotPSDError) as error:
                _logger.info("no model of %d candidates: %s", len(losses), error)
        return rows

    def _model(self, units: Units, targets: Array, variances: Array | None) -> SingleTaskGP:
        """Gaussian processes with the kept hyperparameters, or with new ones after growth."""
        model = _gaussian_processes(
            self._inputs(units),
            torch.from_numpy(targets),
            None if variances is None else torch.from_numpy(variances),
            isotropic=len(self._genes) > _MOST_LENGTHSCALES,
        )
        names = [name for name, _ in model.named_parameters()]
        kept = names == list(self._hyperparameters) and all(
            p.shape == self._hyperparameters[n].shape for n, p in model.named_parameters()
        )
        if kept:
            model.load_state_dict(self._hyperparameters, strict=False)
        if not kept or len(self._known) >= _REFIT * self._fitted_at:
            likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
            fit_gpytorch_mll_scipy(likelihood, options={"maxiter": _FIT_STEPS})
            self._fitted_at = len(self._known)
            self._hyperparameters = {n: p.detach().clone() for n, p in model.named_parameters()}
        model.eval()
        return model

    def _picked(
        self, model: SingleTaskGP, units: Units, targets: Array, size: int
    ) -> Iterator[Units]:
        """Up to so many new points, by what is known of feasible units."""
        best = units[hardest_to_improve(targets)]
        count = self._looked_at
        points = np.concatenate(
            [self._points.even(count), self._points.around(best, count // 2)]
        )
        points = self._encoded.snapped(points)
        pending = self._pending()
        by_acquisition = min(size, _BY_ACQUISITION)
        with torch.no_grad():
            for _ in range(by_acquisition):
                value = self._acquisition(model, targets, best, pending)
                row = self._first_unseen(self._ranked(value, points))
                pending = np.concatenate([pending, *(r[None, :] for r in row)])
                yield from row
            for drawn in self._thompson(model, targets, points, size - by_acquisition):
                yield from self._first_unseen(drawn)

    def _ranked(self, value: AcquisitionFunction, points: Units) -> Units:
        """Points and others near the best of them, by falling acquisition value."""
        worth = self._worth(value, points)
        top = points[np.argsort(-worth, kind="stable")[:4]]
        near = self._points.around(top, max(8, self._looked_at // 4), widest=0.05)
        near = self._encoded.snapped(near)
        points = np.concatenate([points, near])
        worth = np.concatenate([worth, self._worth(value, near)])
        return points[np.argsort(-worth, kind="stable")]

    def _worth(self, value: AcquisitionFunction, points: Units) -> Array:
        worth: Array = value(self._inputs(points).unsqueeze(1)).numpy()
        return np.nan_to_num(worth, nan=-np.inf) + self._chance(points)

    def _first_unseen(self, points: Units) -> list[Units]:
        for point in points:
            row = self._unseen.take(point[None, :])
            if row:
                return row
        return []

    def _inputs(self, units: Units) -> torch.Tensor:
        return torch.from_numpy((self._encoded.columns(units) + 1.0) / 2.0)

    def _acquisition(
        self, model: SingleTaskGP, targets: Array, best: Units, pending: Units
    ) -> AcquisitionFunction:
        """Expected improvement on what is known, with the candidates that are out as known.

        Args:
            model: Gaussian processes.
            targets: ``(feasible, objectives)`` what was measured, to be maximised.
            best: ``(points, genes)`` the feasible points that are hard to improve on.
            pending: ``(points, genes)`` candidates that are out.
        """
        sampler = SobolQMCNormalSampler(
            torch.Size([self._options.samples]), seed=int(self._rng.integers(2**31))
        )
        known = self._inputs(best)
        waiting = self._inputs(pending) if len(pending) else None
        objectives = targets.shape[1]
        if not 1 < objectives <= _MOST_BY_VOLUME:
            weigh = None if objectives == 1 else GenericMCObjective(self._scalarised(targets))
            return qLogNoisyExpectedImprovement(
                model, known, sampler=sampler, objective=weigh, X_pending=waiting
            )
        reference = reference_of(targets)
        if self._known.errors is not None:
            return qLogNoisyExpectedHypervolumeImprovement(
                model, reference, known, sampler=sampler, X_pending=waiting
            )
        front = torch.from_numpy(targets[front_mask(-targets)])
        if waiting is not None:
            front = torch.cat([front, model.posterior(waiting).mean])
        boxes = FastNondominatedPartitioning(torch.tensor(reference, dtype=front.dtype), front)
        return qLogExpectedHypervolumeImprovement(model, reference, boxes, sampler=sampler)

    def _scalarised(self, targets: Array) -> "_Scalarised":
        weights = self._rng.dirichlet(np.ones(targets.shape[1]))
        return _Scalarised(targets, weights)

    def _thompson(
        self, model: SingleTaskGP, targets: Array, points: Units, count: int
    ) -> Iterator[Units]:
        """For each of so many draws from the model, points by falling value in that draw."""
        if count <= 0:
            return
        drawn = model.posterior(self._inputs(points)).rsample(torch.Size([count]))
        chance = self._chance(points)
        for draw in drawn:
            value = draw[:, 0] if draw.shape[1] == 1 else self._scalarised(targets)(draw)
            worth = value.numpy() + chance
            yield points[np.argsort(-worth, kind="stable")]

    def _chance(self, points: Units) -> Array:
        """``(points,)`` 0, or minus infinity where the nearest candidate did not succeed."""
        feasible = self._known.violations == 0
        if not feasible.any():  # the violation is modelled itself
            feasible = np.ones(len(feasible), dtype=bool)
        bad = np.concatenate([self._known.units[~feasible], self._known.failed])
        if not len(bad):
            return np.zeros(len(points))
        good = self._known.units[feasible]
        nearer_bad = self._nearest(points, bad) < self._nearest(points, good)
        return np.where(nearer_bad, -np.inf, 0.0)

    def _nearest(self, points: Units, others: Units) -> Array:
        """Squared distance from each point to the nearest of the others."""
        here, there = self._encoded.columns(points), self._encoded.columns(others)
        squares = (here**2).sum(axis=1)[:, None] + (there**2).sum(axis=1) - 2 * here @ there.T
        return np.asarray(squares.min(axis=1))


class _Scalarised:
    """Augmented Chebyshev scalarisation of targets, each as a share of its range."""

    def __init__(self, targets: Array, weights: Array) -> None:
        low, high = targets.min(axis=0), targets.max(axis=0)
        self._low = torch.from_numpy(low)
        self._range = torch.from_numpy(np.where(high > low, high - low, 1.0))
        self._weights = torch.from_numpy(weights)

    def __call__(self, samples: torch.Tensor, X: object = None) -> torch.Tensor:  # noqa: ARG002, N803
        """Values of ``(…, objectives)``; the second argument is BoTorch's."""
        # Shares are below 0 towards the ideal point, so that the worst objective decides.
        shares = (samples - self._low) / self._range - 1.0
        weighted = shares * self._weights
        return weighted.amin(dim=-1) + _AUGMENTATION * weighted.sum(dim=-1)


def _modelled_rows(feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The newest, half of the places being kept for feasible ones however old."""
    kept = np.flatnonzero(feasible)[-(_MOST_POINTS // 2) :]
    others = np.setdiff1d(np.arange(len(feasible)), kept)[-(_MOST_POINTS - len(kept)) :]
    return np.sort(np.concatenate([kept, others]))


@contextmanager
def _fence(seed: int) -> Iterator[None]:
    """Torch's CPU generator seeded inside and as it was outside; numerical advice unheard.

    CUDA is not touched. Decompositions are exact at any size, since the approximate ones
    draw random vectors.
    """
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        botorch.settings.validate_input_scaling(state=False),
        gpytorch.settings.max_cholesky_size(1_000_000),
    ):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)
        yield


def _gaussian_processes(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    variances: torch.Tensor | None,
    *,
    isotropic: bool,
) -> SingleTaskGP:
    """One independent process a column of ``(points, objectives)`` targets."""
    columns, objectives = inputs.shape[1], targets.shape[1]
    prior = LogNormalPrior(math.sqrt(2) + 0.5 * math.log(columns), math.sqrt(3))
    kernel = MaternKernel(
        nu=2.5,
        ard_num_dims=None if isotropic else columns,
        batch_shape=torch.Size([objectives] if objectives > 1 else []),
        lengthscale_prior=prior,
        lengthscale_constraint=GreaterThan(0.025, transform=None, initial_value=prior.mode),
    )
    return SingleTaskGP(
        inputs, targets, train_Yvar=variances, covar_module=kernel, outcome_transform=None
    )
