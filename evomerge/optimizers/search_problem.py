"""What an optimizer is given to search, without models or items."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from evomerge.core.outcomes import Genome
from evomerge.spaces.genes import Gene


@dataclass(frozen=True)
class SearchProblem:
    """Genes, the number of losses, where to begin, and which genomes come to the same."""

    genes: Sequence[Gene]
    """The genes of the search space."""

    objectives: int
    """Number of losses that a scored candidate will have."""

    seed: int
    """Names the random stream; equal seeds give equal searches."""

    initial: Sequence[Genome] = ()
    """Genomes to propose first, such as encoded baselines; each of them once."""

    expressed: Callable[[Genome], Hashable] | None = None
    """What of a genome has an effect: genomes for which it is equal are one recipe, so that
    one of them is enough. None: every genome is another one."""
