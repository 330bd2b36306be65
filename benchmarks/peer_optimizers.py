"""What other merging tools search with, as optimizers that a comparison can name.

    evomerge --plugin benchmarks/peer_optimizers.py bench optimizers quickstart smollm2 \
        --optimizers cma_es,mergekit_evolve,mergenetic_ga,mergenetic_ga_25,mergenetic_ga_10

* ``mergekit_evolve``: mergekit 0.1.5 calls ``cma.fmin2`` with pycma's defaults and no bounds
  (mergekit/scripts/evolve.py). The first mean is weight 1 / number of models and density 1,
  the first step 1/6 in units of the parameters; a weight means its absolute value, a density
  is clamped to [0, 1]. Several scores are summed. Without restarts it ends when pycma has
  converged, and keeps its best.
* ``mergenetic_ga``, ``mergenetic_nsga2``: pymoo's GA and NSGA-II with pymoo's defaults, as
  Mergenetic's scripts build them, population 100; ``_25`` with the population of the MERGE³
  paper (25 x 7 candidates), ``_10`` with that of Mergenetic's configurations (10 x 10).

All run the libraries' own ask and tell. What is better for them here than in the tools: every
candidate is scored on the same items (mergekit-evolve shuffles them anew on every GPU), the
final phase chooses on validation items instead of by the luckiest search score, and the first
samples come from a seed (mergekit-evolve seeds nothing). Where weights end at the space's bound
they are held there. The baselines that a search is given to begin with are ignored: these tools
begin from points of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import field

import cma
import numpy as np
from pydantic.dataclasses import dataclass
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from typing_extensions import override

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Outcome, Scored
from evomerge.core.streams import derived_seed, stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.options import CLOSED
from evomerge.optimizers.registry import OptimizerEntry
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import FloatGene, Gene

POPULATION = 100  # pymoo's default


@dataclass(frozen=True, config=CLOSED)
class NoOptions:
    """The tool offers none, or its default is what is compared."""


@dataclass(frozen=True, config=CLOSED)
class Population25:
    """The population of the MERGE³ paper."""

    population: int = field(default=25)


@dataclass(frozen=True, config=CLOSED)
class Population10:
    """The population of Mergenetic's configurations."""

    population: int = field(default=10)


class MergekitEvolve(Generational):
    """CMA-ES as mergekit-evolve runs it."""

    def __init__(
        self,
        problem: SearchProblem,
        options: object,  # noqa: ARG002
    ) -> None:
        super().__init__(problem.genes, problem.objectives)
        others = [gene.name for gene in problem.genes if not isinstance(gene, FloatGene)]
        if others:
            raise ConfigError(
                f"optimizer.name: mergekit_evolve searches number genes only, not {others[0]}."
            )
        rng = stream(problem.seed, "peer", "mergekit_evolve")
        self._strategy = cma.CMAEvolutionStrategy(
            self._first_mean(),
            1 / 6,
            {
                "randn": lambda rows, columns: rng.standard_normal((rows, columns)),
                "seed": np.nan,  # "do nothing"
                "signals_filename": "",
                "verbose": -10,
                "verb_log": 0,
            },
        )
        self._begin()

    @override
    def _propose(self) -> list[Proposal]:
        if self._strategy.stop():
            return []
        samples = self._strategy.ask()
        return [Proposal(self._units(sample), sample) for sample in samples]

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        self._strategy.tell([proposal.note for proposal, _ in told], _sums(told))

    def _begin(self) -> None:
        super()._begin()
        if self._finished:
            self._finished = f"pycma has converged: {', '.join(self._strategy.stop())}"

    def _first_mean(self) -> list[float]:
        """In units of the parameters."""
        models = {g.name.rpartition(".")[0] for g in self._genes if _is_weight(g)}
        weight = 1 / max(1, len(models))
        return [weight if _is_weight(gene) else 1.0 for gene in self._genes]

    def _units(self, sample: np.ndarray) -> np.ndarray:
        pairs = zip(self._genes, np.abs(sample).tolist(), strict=True)
        return np.array([gene.to_unit(value) for gene, value in pairs])


class _Pymoo(Generational):
    """A pymoo algorithm with its own ask and tell, on the unit cube."""

    population = POPULATION
    algorithm: type

    def __init__(self, problem: SearchProblem, options: object) -> None:
        super().__init__(problem.genes, problem.objectives)
        size = getattr(options, "population", self.population)
        self._method = self.algorithm(pop_size=size, eliminate_duplicates=True)
        cube = Problem(
            n_var=len(problem.genes), n_obj=problem.objectives, n_ieq_constr=1, xl=0.0, xu=1.0
        )
        self._method.termination = NoTermination()
        self._method.seed = derived_seed(problem.seed, "peer", "pymoo")
        self._method.setup(cube, verbose=False)
        self._begin()

    @override
    def _propose(self) -> list[Proposal]:
        asked = self._method.ask()
        if asked is None:
            return []
        return [Proposal(np.array(one.X, dtype=np.float64), one) for one in asked]

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        individuals = Population.create(*(proposal.note for proposal, _ in told))
        width = len(next((o.losses for _, o in told if isinstance(o, Scored)), (0.0,)))
        losses = [o.losses if isinstance(o, Scored) else (0.0,) * width for _, o in told]
        individuals.set("F", np.array(losses, dtype=np.float64))
        # A failed candidate counts as infeasible, which is pymoo's way to rank it last.
        missed = [[0.0 if isinstance(o, Scored) else 1.0] for _, o in told]
        individuals.set("G", np.array(missed))
        individuals.apply(lambda one: one.evaluated.update({"F", "G", "H"}))
        self._method.tell(infills=individuals)


class MergeneticGa(_Pymoo):
    """pymoo's GA."""

    algorithm = GA


class MergeneticNsga2(_Pymoo):
    """pymoo's NSGA-II."""

    algorithm = NSGA2


def _is_weight(gene: Gene) -> bool:
    return gene.name.rpartition(".")[2].startswith("weight")


def _sums(told: Sequence[Told]) -> list[float]:
    """One loss a candidate; a failed one counts as much worse than any, as in mergekit."""
    return [_sum(outcome) for _, outcome in told]


def _sum(outcome: Outcome) -> float:
    return sum(outcome.losses) if isinstance(outcome, Scored) else math.inf


def _entry(summary: str, options: type, target: str, most: int | None) -> OptimizerEntry:
    return OptimizerEntry(
        summary, options, f"{__name__}:{target}", max_objectives=most, advice="comparisons"
    )


OPTIMIZERS = {
    "mergekit_evolve": _entry("as mergekit-evolve", NoOptions, "MergekitEvolve", None),
    "mergenetic_ga": _entry("pymoo's GA, population 100", NoOptions, "MergeneticGa", 1),
    "mergenetic_ga_25": _entry("pymoo's GA, 25", Population25, "MergeneticGa", 1),
    "mergenetic_ga_10": _entry("pymoo's GA, 10", Population10, "MergeneticGa", 1),
    "mergenetic_nsga2": _entry("pymoo's NSGA-II, 100", NoOptions, "MergeneticNsga2", None),
    "mergenetic_nsga2_25": _entry("pymoo's NSGA-II, 25", Population25, "MergeneticNsga2", None),
    "mergenetic_nsga2_10": _entry("pymoo's NSGA-II, 10", Population10, "MergeneticNsga2", None),
}
