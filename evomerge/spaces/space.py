"""The SearchSpace contract: typed genes, and what a genome means as a recipe."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule, Source, Value
from evomerge.spaces.genes import Gene
from evomerge.spaces.splits_geometry import SeedWeights


@dataclass(frozen=True)
class OperatorSignature:
    """What a search space must know of a merge operator to write valid rules with it."""

    name: str
    model_parameters: tuple[str, ...]
    """Parameters that each merged model has (weight, density …)."""

    merge_parameters: tuple[str, ...]
    """Parameters of the merge as a whole (lambda, normalize, t …)."""

    needs_base: bool
    """Merges differences to the base, which does not count as a model."""

    max_models: int | None = None
    """None for any number; 2 stands for exactly two, where the base may be the first."""

    value_problems: Mapping[str, Callable[[Value], str | None]] = field(default_factory=dict)
    """By parameter: why a value is not allowed, or None. Others take every value."""

    takes_base: bool = False
    """Merges differences to the base where there is one, and else the models themselves."""

    min_models: int = 1


@dataclass(frozen=True)
class SourceModels:
    """The models that a search merges."""

    base: Source | None
    experts: tuple[Source, ...]
    layers: int
    """Number of numbered layers that they share."""

    seed: int = 0
    """Keys the masks of stochastic operators; one for all recipes of a study."""

    dtype: str | None = None
    """Output dtype of every recipe; None keeps the reference model's."""

    tokenizer: str | None = None
    """Tokenizer of every recipe, by which embeddings are merged token by token; None: the
    reference model's, row by row."""

    weights: SeedWeights | None = None
    """Rows and inner products of the opened models; nothing is read before it is asked for."""

    output_projections: tuple[str, ...] = ()
    """Name parts of the tensors that write into the residual stream (``o_proj`` …), by which
    scales of hidden states can be folded into weights; none where the architecture is not
    known to allow that."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Base first, then the experts."""
        return ((self.base,) if self.base else ()) + self.experts

    def recipe(self, rules: Sequence[Rule]) -> Recipe:
        """A recipe over these models."""
        base = self.base.name if self.base else None
        return Recipe(
            self.sources,
            tuple(rules),
            base,
            self.seed,
            self.dtype,
            tokenizer=self.tokenizer,
        )


@dataclass(frozen=True)
class Baseline:
    """A plain recipe that every search must beat."""

    kind: Literal["source", "baseline"]
    name: str
    recipe: Recipe


class SearchSpace(ABC):
    """What may vary, as typed genes.

    ``decode`` is total: every point of the gene space is a valid recipe with finite
    parameters, and equal genomes give equal recipes.
    """

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The genes in a fixed order, names unique."""

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """All genes where models of close genomes score alike, so that each tells of others.

        None where a step in a gene may mean another model altogether.
        """
        return self.genes

    @property
    def most_layers(self) -> int | None:
        """Depth of the deepest recipe; None where all are as deep as the sources."""
        return None

    @property
    def folds_scales(self) -> bool:
        """Whether recipes scale hidden states, which only some architectures allow."""
        return False

    @abstractmethod
    def decode(self, genome: Genome) -> Recipe:
        """The recipe that a genome stands for."""

    @abstractmethod
    def encode(self, recipe: Recipe) -> Genome | None:
        """A genome that decodes to the recipe or the nearest one in range.

        None where the recipe uses what the space does not vary, e.g. another operator.
        """

    def expressed(self, genome: Genome) -> str:
        """What of a genome has an effect: equal where two genomes decode to one recipe."""
        return self.decode(genome).digest

    def starting_points(self) -> tuple[Genome, ...]:
        """Genomes worth proposing first, beside the baselines that the space can express."""
        return ()

    @abstractmethod
    def baselines(self) -> tuple[Baseline, ...]:
        """Each source alone, then plain merges with their usual defaults."""
