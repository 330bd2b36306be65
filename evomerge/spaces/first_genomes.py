"""First genomes: what an optimizer proposes before anything of its own."""

from evomerge.core.outcomes import Genome
from evomerge.spaces.space import SearchSpace


def first_genomes(space: SearchSpace) -> list[Genome]:
    """The baselines that a space can express, then its own starting points, each once."""
    encoded = [space.encode(baseline.recipe) for baseline in space.baselines()]
    known: dict[tuple[object, ...], Genome] = {}
    for genome in [*encoded, *space.starting_points()]:
        if genome is not None:
            known.setdefault(tuple(genome.items()), genome)
    return list(known.values())
