"""Successive soups: models added to a weighted average one after another, the best first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Outcome, Scored
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.mean_ranks import mean_ranks
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.soups.options import SoupsOptions
from evomerge.optimizers.starting_points import Units, units_of_genomes
from evomerge.spaces.genes import ChoiceGene, Gene, genome_from_unit

_WEIGHT = re.compile(r"(.+?)\.weight(?: |$)")
"""How spaces name the gene of an expert's weight, also ``math.weight layers 0-3``."""

Shares = NDArray[np.float64]
"""``(models,)`` weights of a soup, summing to 1."""


@dataclass(frozen=True)
class _Soup:
    """A weighted average that was scored."""

    shares: Shares
    outcome: Outcome
    joined: int
    """How many models were averaged into it."""


class Soups(Generational):
    """Greedy soup (Wortsman et al. 2022, Recipe 1), and Model-GLUE's heuristic search.

    First every model is scored alone, all together. They are taken in the order of these
    scores; those that failed alone are left out. The soup begins as the best one. For each
    next model, candidates are soups into which it is averaged:

        shares' = (1 - c) shares, and c for the model

    ``greedy`` tries the running average, c = 1 / (models joined + 1). ``heuristic`` (Zhao et
    al. 2024, Model-GLUE) tries evenly spaced c and takes the best of them; of equals the one
    nearest the running average. The model joins if the score does not fall. When each has been
    tried once the search is ``finished``. Nothing is drawn at random, so that all seeds give
    the same search.

    Genes named ``<model>.weight …`` are the model's share, over all layers and components. At
    0 the model is out, at 1 it is alone; a range without them gives what lies nearest. Other
    number genes stay as near to 1 as they can (a density, a scale of 1 leave things alone),
    choices at their first option. Where no gene has such a name, all number genes that are
    alike up to their first dot stand for one model.

    Several objectives are compared by the mean of the ranks in each.

    Args:
        problem: What is searched; its initial genomes are scored first; those of single models
            are not scored again.
        options: Which of the two, and how many coefficients.

    Raises:
        ConfigError: There is no number gene, so that nothing can be weighted.
    """

    def __init__(self, problem: SearchProblem, options: SoupsOptions) -> None:
        super().__init__(problem.genes, problem.objectives)
        self._options = options
        self._objectives = problem.objectives
        self._models = models_of(problem.genes)
        if not self._models:
            raise ConfigError(
                "optimizer.name: soups weighs models, and the space has no number gene to do "
                "so; give 'weight' a range under 'space.experts', or use nsga2."
            )
        number_of = {gene: k for k, own in enumerate(self._models.values()) for gene in own}
        self._model_of = np.array([number_of.get(gene.name, -1) for gene in problem.genes])
        self._none = np.array([_nearest(gene, 0.0) for gene in problem.genes])
        self._full = np.array([_full(gene) for gene in problem.genes])
        self._units_none = _units_of(problem.genes, self._none)
        self._units_full = _units_of(problem.genes, self._full)
        self._initial = units_of_genomes(problem.genes, problem.initial)
        self._soup: _Soup | None = None
        self._order: list[int] | None = None  # models to try; None until all are scored alone
        self._why_finished = ""
        self._begin()

    @property
    @override
    def finished(self) -> str | None:
        return self._why_finished if super().finished else None

    @override
    def _propose(self) -> list[Proposal]:
        if self._order is None:
            return self._alone()
        while self._soup is not None and self._order:
            fresh = self._joined(self._soup, self._order[0])
            if fresh:
                return fresh
            self._order.pop(0)  # its genes are too coarse to tell it from the soup
        return []

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        if self._order is None:
            self._sort([(p.note, o) for p, o in told if isinstance(p.note, int)])
        elif self._soup is not None:
            self._order.pop(0)
            self._soup = self._better(self._soup, told)

    def _alone(self) -> list[Proposal]:
        """The initial genomes, and each model alone unless it is one of them."""
        alone = [
            Proposal(self._units(shares), k)
            for k, shares in enumerate(np.eye(len(self._models)))
        ]
        if not len(self._initial):
            return alone
        singles = {self._key(proposal.units): proposal for proposal in alone}
        proposals = []
        for row in self._initial:
            same = singles.pop(self._key(row), None)
            proposals.append(Proposal(row, None if same is None else same.note))
        return [*proposals, *singles.values()]

    def _sort(self, alone: Sequence[tuple[int, Outcome]]) -> None:
        order = np.argsort(mean_ranks([o for _, o in alone], self._objectives), kind="stable")
        in_order = [alone[k] for k in order if isinstance(alone[k][1], Scored)]
        self._order = [model for model, _ in in_order[1:]]
        self._why_finished = "every model has been tried."
        if in_order:
            best, outcome = in_order[0]
            self._soup = _Soup(np.eye(len(self._models))[best], outcome, 1)
        else:
            self._why_finished = (
                "every model failed alone, so that there is none to begin with."
            )

    def _joined(self, soup: _Soup, model: int) -> list[Proposal]:
        """The soups into which the model is averaged, each genome once."""
        own = np.eye(len(self._models))[model]
        seen = {self._key(self._units(soup.shares))}
        proposals = []
        for c in self._coefficients(soup):
            shares = (1 - c) * soup.shares + c * own
            units = self._units(shares)
            if self._key(units) not in seen:
                seen.add(self._key(units))
                proposals.append(Proposal(units, (shares, c)))
        return proposals

    def _coefficients(self, soup: _Soup) -> list[float]:
        """From the one nearest the running average on."""
        average = 1 / (soup.joined + 1)
        if self._options.method == "greedy":
            return [average]
        steps = self._options.coefficients + 1
        return sorted((k / steps for k in range(1, steps)), key=lambda c: abs(c - average))

    def _better(self, soup: _Soup, told: Sequence[Told]) -> _Soup:
        """The best of the step's soups if it is no worse than the one before."""
        outcomes = [outcome for _, outcome in told]
        ranked = mean_ranks([*outcomes, soup.outcome], self._objectives)
        best = int(np.argmin(ranked[:-1]))
        if not isinstance(outcomes[best], Scored) or ranked[best] > ranked[-1]:
            return soup
        shares: Shares = told[best][0].note[0]  # type: ignore[index]
        return _Soup(shares, outcomes[best], soup.joined + 1)

    def _units(self, shares: Shares) -> Units:
        """The point of a soup: weights between none and full, all else as it is."""
        share = np.where(self._model_of < 0, 1.0, shares[self._model_of])
        values = self._none + share * (self._full - self._none)
        units = np.where(share == 1, self._units_full, self._units_none)
        for k in np.flatnonzero((share != 0) & (share != 1)):
            units[k] = self._genes[k].to_unit(float(values[k]))
        return units

    def _key(self, units: Units) -> tuple[object, ...]:
        return tuple(genome_from_unit(self._genes, units.tolist()).values())


def models_of(genes: Sequence[Gene]) -> Mapping[str, list[str]]:
    """By model, the names of the genes that are its weights."""
    numbers = [gene.name for gene in genes if not isinstance(gene, ChoiceGene)]
    models: dict[str, list[str]] = {}
    for name in numbers:
        if found := _WEIGHT.match(name):
            models.setdefault(found[1], []).append(name)
    if not models:
        for name in numbers:
            models.setdefault(name.partition(".")[0], []).append(name)
    return models


def _units_of(genes: Sequence[Gene], values: NDArray[np.float64]) -> Units:
    """``(genes,)`` point at which number genes have the values, choices the first option."""
    return np.array(
        [
            0.5 / len(gene.options)
            if isinstance(gene, ChoiceGene)
            else gene.to_unit(float(value))
            for gene, value in zip(genes, values, strict=True)
        ]
    )


def _nearest(gene: Gene, value: float) -> float:
    """The value of a number gene that is nearest to one; choices have none."""
    if isinstance(gene, ChoiceGene):
        return 0.0
    return float(gene.from_unit(gene.to_unit(value)))


def _full(gene: Gene) -> float:
    """The value at which a model is alone: 1, or the range's end where 1 and 0 are one."""
    full = _nearest(gene, 1.0)
    ends_apart = not isinstance(gene, ChoiceGene) and full == _nearest(gene, 0.0)
    return float(gene.from_unit(1.0)) if ends_apart else full
