"""The plain recipes that every search must beat: sources alone and merges with defaults."""

from evomerge.core.recipe import Rule
from evomerge.spaces.space import Baseline, SourceModels

TASK_ARITHMETIC_LAMBDA = 0.4
"""Scaling that Ilharco et al. (2212.04089) recommend where none can be tuned."""

TIES_DENSITY = 0.2
"""Share of a task vector kept in TIES' own recipe (Yadav et al., 2306.01708)."""


def plain_baselines(models: SourceModels) -> tuple[Baseline, ...]:
    """Every source alone, the uniform average and, with a base, task arithmetic and TIES."""
    sources = tuple(
        Baseline("source", source.name, models.recipe([Rule("passthrough", {source.name: {}})]))
        for source in models.sources
    )
    equal = {expert.name: {"weight": 1.0} for expert in models.experts}
    average = Rule("linear", equal, {"normalize": True})
    merges = [Baseline("baseline", "uniform average", models.recipe([average]))]
    if models.base is not None:
        sum_of_vectors = Rule(
            "task_arithmetic", equal, {"lambda": TASK_ARITHMETIC_LAMBDA, "normalize": False}
        )
        trimmed = {name: {"weight": 1.0, "density": TIES_DENSITY} for name in equal}
        ties = Rule("ties", trimmed, {"lambda": 1.0, "normalize": True})
        merges += [
            Baseline("baseline", "task arithmetic", models.recipe([sum_of_vectors])),
            Baseline("baseline", "ties", models.recipe([ties])),
        ]
    return sources + tuple(merges)
