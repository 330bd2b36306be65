"""Statistics files of an experiment's models: found, checked, and part of what a recipe is."""

from collections.abc import Mapping
from dataclasses import replace

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import Source
from evomerge.experiment.spec import ExperimentSpec, PluginSpaceSpec
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.source_model import SourceModel
from evomerge.merging.statistics_files import STATISTICS, SourceStatistics
from evomerge.spaces.space import SourceModels


def with_statistics(
    spec: ExperimentSpec, models: SourceModels, sources: Mapping[str, SourceModel]
) -> tuple[SourceModels, list[str]]:
    """The models with the statistics that the space's operators need, and what is wrong.

    Args:
        spec: With places made absolute.
        models: What is merged.
        sources: Those that could be opened.
    """
    kinds = [OPERATORS[name].statistics for name in spec.space.operator if name in OPERATORS]
    files = SourceStatistics(sources)
    problems: list[str] = []

    def measured(source: Source, *, is_base: bool) -> Source:
        placed = replace(source, statistics=spec.models.statistics.get(source.name))
        if isinstance(spec.space, PluginSpaceSpec):
            return placed  # only the plugin knows which operators its recipes have
        wanted = sorted({k for k in kinds if k is not None and _is_of_base(k) == is_base})
        if not wanted or source.name not in sources:
            return source
        try:
            return replace(placed, statistics_fingerprint=files.fingerprint(placed, wanted))
        except CheckpointError as error:
            problems.append(f"{source.name}: {error}")
            return source

    found = replace(
        models,
        base=measured(models.base, is_base=True) if models.base else None,
        experts=tuple(measured(expert, is_base=False) for expert in models.experts),
    )
    return found, problems


def _is_of_base(kind: str) -> bool:
    return kind in STATISTICS and STATISTICS[kind].of == "base"
