"""Random search: genomes drawn uniformly and independently, the baseline to beat."""

from collections.abc import Mapping

from typing_extensions import override

from evomerge.core.outcomes import Candidate, Genome, Outcome
from evomerge.core.streams import stream
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.designs.options import RandomSearchOptions
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import units_of_genomes
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.splits_gene import SplitsGene


class RandomSearch(Optimizer):
    """Uniform in gene space: evenly within ranges (by ratio for log genes) and over options.

    Draws are independent, so the same genome may come twice where genes are few and discrete.
    A table of splits is drawn with cuts and weights of its own (``SplitsGene.drawn``).
    ``ask`` always gives as many as asked for, and what is told has no effect.

    Args:
        problem: What is searched; its initial genomes are proposed before the first draw.
        options: None to set.
    """

    def __init__(
        self,
        problem: SearchProblem,
        options: RandomSearchOptions,  # noqa: ARG002 - all optimizers are built alike
    ) -> None:
        self._genes = tuple(problem.genes)
        self._candidates = OpenCandidates(problem.objectives)
        self._rng = stream(problem.seed, "optimizer", "random")
        self._initial = units_of_genomes(problem.genes, problem.initial).tolist()

    @override
    def ask(self, count: int) -> list[Candidate]:
        return [self._candidates.issue(self._next_genome()) for _ in range(count)]

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)

    def _next_genome(self) -> Genome:
        if self._initial:
            return genome_from_unit(self._genes, self._initial.pop(0))
        units = self._rng.random(len(self._genes)).tolist()
        genome = genome_from_unit(self._genes, units)
        tables = [gene for gene in self._genes if isinstance(gene, SplitsGene)]
        return genome | {gene.name: gene.drawn(self._rng).text for gene in tables}
