"""Random search: genomes drawn uniformly and independently, the baseline to beat."""

from collections.abc import Mapping, Sequence

from typing_extensions import override

from evomerge.core.outcomes import Candidate, Genome, Outcome
from evomerge.core.streams import stream
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.designs.options import RandomSearchOptions
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.starting_points import units_of_genomes
from evomerge.spaces.genes import Gene, genome_from_unit


class RandomSearch(Optimizer):
    """Uniform in gene space: evenly within ranges (by ratio for log genes) and over options.

    Draws are independent, so the same genome may come twice where genes are few and discrete.
    ``ask`` always gives as many as asked for, and what is told has no effect.

    Args:
        genes: The genes of the search space.
        objectives: Losses a scored candidate has.
        seed: Names the random stream.
        options: None to set.
        initial: Genomes proposed before the first draw.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        seed: int,
        options: RandomSearchOptions,  # noqa: ARG002 - all optimizers are built alike
        initial: Sequence[Genome] = (),
    ) -> None:
        self._genes = tuple(genes)
        self._candidates = OpenCandidates(objectives)
        self._rng = stream(seed, "optimizer", "random")
        self._initial = units_of_genomes(genes, initial).tolist()

    @override
    def ask(self, count: int) -> list[Candidate]:
        return [
            self._candidates.issue(genome_from_unit(self._genes, self._next_units()))
            for _ in range(count)
        ]

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)

    def _next_units(self) -> list[float]:
        if self._initial:
            units: list[float] = self._initial.pop(0)
            return units
        return list(self._rng.random(len(self._genes)).tolist())
