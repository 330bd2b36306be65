"""The splits space: merges that are cut along the depth, each part a mixture of the seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import Gene
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels
from evomerge.spaces.splits_gene import SplitsGene
from evomerge.spaces.splits_geometry import SplitGeometry
from evomerge.spaces.splits_rules import rules_of_table, table_of_recipe
from evomerge.spaces.splits_table import SplitTable, rounded

GENE = "splits"
"""Name of the space's only gene."""


class SplitsSpaceSpec(BaseModel):
    """A splits space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: tuple[str, ...] | None = Field(default=None, min_length=2)
    """Names of the models that are mixed, ``base`` among them if wanted; None: the experts."""


class SplitsSpace(SearchSpace):
    """One gene: a table of boundaries over the model's rows and coefficients of the seeds.

    Made for the optimizer ``m2n2``, whose crossover of two merges is again such a table.
    Others take the gene for a number, the place on the path from seed to seed.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name; ``linear`` and ``segments`` are
            used.

    Raises:
        ConfigError: A seed is unknown, or there are too few.
    """

    def __init__(
        self,
        spec: SplitsSpaceSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],  # noqa: ARG002 - all spaces are built alike
    ) -> None:
        names = [source.name for source in models.sources]
        seeds = spec.seeds or tuple(expert.name for expert in models.experts)
        problems = [
            f"space.seeds: {unknown('model', s, names)}" for s in seeds if s not in names
        ]
        if len(seeds) < 2 or len(set(seeds)) < len(seeds):
            problems.append(
                f"space.seeds: expected two or more different models to mix, found {[*seeds]}."
            )
        if models.weights is None:
            problems.append(
                "space.kind: splits needs opened models, to know their rows; name an "
                "experiment file."
            )
        if problems or models.weights is None:
            raise ConfigError(problems)
        self._models = models
        base = models.base.name if models.base else None
        self._gene = SplitsGene(GENE, seeds, SplitGeometry(models.weights, seeds, base))

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The table."""
        return (self._gene,)

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """None: tables have no place in the unit cube at which others tell of them."""
        return ()

    def decode(self, genome: Genome) -> Recipe:
        """Linear rules for whole layers, ``segments`` for tensors that a cut goes through.

        A seed by itself and the plain mean of the experts are written as the baselines are, so
        that their answers need not be asked for twice.
        """
        table = self._gene.table(genome[GENE])
        plain = self._plain_rule(table)
        if plain is not None:
            return self._models.recipe([plain])
        layout = self._gene.geometry.layout
        return self._models.recipe(rules_of_table(table, layout, self._gene.seeds))

    def encode(self, recipe: Recipe) -> Genome | None:
        """The table that the recipe's rules make; None for others than weighted sums."""
        if recipe.slices:
            return None
        table = table_of_recipe(recipe, self._gene.geometry.layout, self._gene.seeds)
        return None if table is None else {GENE: table.text}

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain ones, and the lower half of each seed below the upper half of the next."""
        return plain_baselines(self._models) + tuple(self._halves())

    def _halves(self) -> Sequence[Baseline]:
        seeds = self._gene.seeds
        middle = max(1, self._gene.row_at(0.5))
        if middle >= self._gene.geometry.layout.rows:
            return []
        found = []
        for k, seed in enumerate(seeds):
            following = (k + 1) % len(seeds)
            halves = [[float(j == own) for j in range(len(seeds))] for own in (k, following)]
            table = SplitTable.of([0, middle], np.array(halves))
            found.append(
                Baseline(
                    "baseline",
                    f"{seed} below {seeds[following]}",
                    self.decode({GENE: table.text}),
                )
            )
        return found

    def _plain_rule(self, table: SplitTable) -> Rule | None:
        if len(table.starts) > 1 or table.noise_seeds:
            return None
        (row,) = table.coefficients
        experts = tuple(expert.name for expert in self._models.experts)
        if sorted(row) == [0.0] * (len(row) - 1) + [1.0]:
            return Rule("passthrough", {self._gene.seeds[row.index(1.0)]: {}})
        if self._gene.seeds == experts and set(row) == {rounded(1 / len(row))}:
            return Rule(
                "linear", {name: {"weight": 1.0} for name in experts}, {"normalize": True}
            )
        return None
