"""The data_flow space: a path through the layers of several models, weights as they are."""

import math
from collections.abc import Mapping
from itertools import chain, islice, zip_longest
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.data_flow_path import PoolLayer, Slots
from evomerge.spaces.data_flow_recipe import path_of_recipe, recipe_of_path
from evomerge.spaces.data_flow_scales import (
    NoScales,
    Scales,
    factors,
    matrix_scales,
    network_scales,
    possible_scales,
    slot_scales,
)
from evomerge.spaces.genes import Gene
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

SCALE_BOUNDS = (0.1, 10.0)
"""How far a scale's range may reach: then scales can be read off six decimals."""

MOST_STARTING_POINTS = 12


class DataFlowSpec(BaseModel):
    """A data_flow space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["data_flow"] = "data_flow"
    sources: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Models whose layers a path can use, ``base`` among them if wanted; None: the experts.
    The first gives embeddings, final norm, head and, with ``keep_ends``, the path's ends."""

    repeats: int = Field(default=1, ge=1, le=100)
    """How often the list of all layers is repeated (Sakana: 3); so often a path can use a
    layer, and so often it can go back, whatever the order of its sources."""

    most_layers: int | None = Field(default=None, ge=1)
    """Depth of the deepest path, ends included; None: twice the first source's. Each worker
    holds a model of this size."""

    keep_ends: bool = True
    """Begin and end every path with the first source's first and last layer; no slots hold
    these then."""

    order: Literal["kept", "permuted"] = "kept"
    """``kept``: the slots that are on follow one another as in the list; ``permuted``: every
    slot has a key too, and they follow by key."""

    scales: Literal["none", "slots", "matrix", "network"] = "none"
    """What the hidden state is multiplied by before each layer: nothing, a gene of the slot, a
    gene of the pair of layers (many), or what a small network says of the pair and the step.
    """

    scale_range: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest scale, spaced by ratio; 1 lies between, best in the middle."""

    hidden: int = Field(default=4, ge=1, le=100)
    """Hidden units of the network; of its genes there are five a unit, and one."""


class DataFlowSpace(SearchSpace):
    """Sakana's data-flow space (Akiba et al. 2024, arXiv 2403.13187, section 3.2).

    All layers of all sources are slots in one list, repeated some times; a gene for each slot
    says whether a path uses its layer. The hidden state goes along the path; tensors outside
    of layers are the first source's. Sakana keeps the first source's first and last layer at
    the ends besides having them as slots; here, with ``keep_ends``, they are no slots, so that
    the first source alone is one of the paths.

    Scales of the hidden state are no part of a model folder. They are folded into the layers'
    output projections (see ``data_flow_scales.factors``). The first layer of a path has none.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators; not needed, since nothing is merged.

    Raises:
        ConfigError: The models do not suit it; every problem is named.
    """

    def __init__(
        self,
        spec: DataFlowSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],  # noqa: ARG002 - all spaces are built alike
    ) -> None:
        problems = _problems(spec, models)
        if problems:
            raise ConfigError(problems)
        self._models = models
        self._slots = _slots(spec, models)
        self._outside = self._slots.pool[0].source
        self._scales = _scales(spec, self._slots)
        self._genes = (*self._slots.genes, *self._scales.genes)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Gates of the slots, then keys, then scales; each where there are any."""
        return self._genes

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """None: another path is another model."""
        return ()

    @property
    def most_layers(self) -> int:
        """Depth of the deepest path."""
        return self._slots.deepest

    @property
    def folds_scales(self) -> bool:
        """Whether there are scales."""
        return not isinstance(self._scales, NoScales)

    def decode(self, genome: Genome) -> Recipe:
        """The path as slices, with rules for the output projections that a scale reaches.

        The first source's own path is written as that source alone.
        """
        path = self._slots.path(genome)
        layers = [(step.layer.source, step.layer.layer) for step in path]
        found = factors(self._scales.along(genome, path))
        return recipe_of_path(self._models, layers, found, self._outside)

    def encode(self, recipe: Recipe) -> Genome | None:
        """A genome that decodes to the recipe: for the first source alone and for every path.

        A layer could often stand in several slots; it is in the first that suits. Scales off
        the path are 1. A network cannot be told from its scales: with ``scales: network`` only
        paths without any have a genome. Every other recipe has none.
        """
        found = path_of_recipe(self._models, recipe)
        if found is None:
            return None
        layers, multiplied = found
        on = self._slots.slots_of(layers)
        if on is None:
            return None
        scales = self._scales.values(self._slots.steps(on), possible_scales(multiplied))
        if scales is None:
            return None
        genome = self._slots.values(on) | scales
        return genome if self.decode(genome).digest == recipe.digest else None

    def starting_points(self) -> tuple[Genome, ...]:
        """The first source's own path, as Sakana begins, and usual stacks of two sources.

        For each other source: its middle block besides the first's; its middle in place of
        the first's (layer swapping, Bandarkar et al. 2024, arXiv 2410.01335); its upper half.
        Then the first's middle block twice. Those that the space cannot express, for want of
        repeats or depth, are left out.
        """
        depth = self._models.layers
        first = self._outside
        others = dict.fromkeys(layer.source for layer in self._slots.pool)
        stacks = [_stacks(first, other, depth) for other in others if other != first]
        own = [(first, layer) for layer in range(depth)]
        third, block = depth // 2, max(1, depth // 4)
        twice = own[: third + block] + own[third:]
        in_turn = chain.from_iterable(zip_longest(*stacks))
        paths = [own, *(path for path in in_turn if path), twice]
        slots = [on for path in paths if (on := self._slots.slots_of(path)) is not None]
        plain = self._scales.values([], []) or {}
        genomes = (self._slots.values(on) | plain for on in dict.fromkeys(map(tuple, slots)))
        return tuple(islice(genomes, MOST_STARTING_POINTS))

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self._models)


def _stacks(first: str, other: str, depth: int) -> list[list[tuple[str, int]]]:
    """Stacks of the first source's and another's layers, both of a depth."""
    own = [(first, layer) for layer in range(depth)]
    foreign = [(other, layer) for layer in range(depth)]
    half, block, quarter = depth // 2, max(1, depth // 4), max(1, depth // 4)
    return [
        own[: half + block] + foreign[half : half + block] + own[half + block :],
        own[:quarter] + foreign[quarter : depth - quarter] + own[depth - quarter :],
        own[:half] + foreign[half : depth - 1] + own[depth - 1 :],
    ]


def _sources(spec: DataFlowSpec, models: SourceModels) -> list[str]:
    return [*(spec.sources or (expert.name for expert in models.experts))]


def _slots(spec: DataFlowSpec, models: SourceModels) -> Slots:
    each = [(name, layer) for name in _sources(spec, models) for layer in range(models.layers)]
    pool = tuple(PoolLayer(place, *own) for place, own in enumerate(each))
    most = spec.most_layers or 2 * models.layers
    return Slots(pool, spec.repeats, most, spec.keep_ends, spec.order == "permuted")


def _scales(spec: DataFlowSpec, slots: Slots) -> Scales:
    if spec.scales == "slots":
        return slot_scales(slots, spec.scale_range)
    if spec.scales == "matrix":
        return matrix_scales(slots, spec.scale_range)
    if spec.scales == "network":
        return network_scales(slots, spec.hidden, spec.scale_range)
    return NoScales()


def _problems(spec: DataFlowSpec, models: SourceModels) -> list[str]:
    known = [source.name for source in models.sources]
    names = _sources(spec, models)
    problems = [
        f"space.sources: {unknown('model', name, known)}."
        for name in names
        if name not in known
    ]
    if len(set(names)) < len(names):
        problems.append(f"space.sources: expected each model once, found {names}.")
    if not names:
        problems.append("space.sources: there is no model; name an expert under 'models'.")
    if not models.layers:
        problems.append("space.kind: the models have no numbered layers to go through.")
    elif spec.keep_ends and models.layers < 2:
        problems.append("space.keep_ends: models of one layer have no two ends; use false.")
    elif spec.keep_ends and len(names) * models.layers < 3:
        problems.append(
            "space.keep_ends: one model of two layers has none between its ends; use false, or "
            "name more sources."
        )
    if spec.keep_ends and spec.most_layers is not None and spec.most_layers < 3:
        problems.append(
            f"space.most_layers: {spec.most_layers} leaves no layer between the two ends; use "
            "3 or more, or 'keep_ends: false'."
        )
    return problems + _scale_problems(spec, models, names)


def _scale_problems(spec: DataFlowSpec, models: SourceModels, names: list[str]) -> list[str]:
    problems = []
    low, high = spec.scale_range
    least, most = SCALE_BOUNDS
    if not (math.isfinite(low + high) and least <= low <= 1 <= high <= most and low < high):
        problems.append(
            f"space.scale_range: expected [low, high] with 1 between them, within "
            f"[{least:g}, {most:g}], found [{low:g}, {high:g}]."
        )
    if spec.scales != "none" and models.layers and not models.output_projections:
        model = next((s.model for s in models.sources if s.name in names), "these models")
        problems.append(
            f"space.scales: scales are folded into the tensors by which layers write into the "
            f"hidden state, and for the architecture of {model} it is not known which these "
            "are; use 'scales: none'."
        )
    return problems
