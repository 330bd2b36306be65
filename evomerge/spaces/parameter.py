"""The parameter space: operators and their parameters per expert, layer group and component."""

from collections.abc import Mapping

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import Gene
from evomerge.spaces.parameter_checks import check_parameter_space
from evomerge.spaces.parameter_genes import ParameterGenes
from evomerge.spaces.parameter_reading import read_genome
from evomerge.spaces.parameter_rules import Place, RuleWriter, without_repeats
from evomerge.spaces.parameter_spec import ParameterSpaceSpec
from evomerge.spaces.sections import Section
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

__all__ = ["ParameterSpace", "ParameterSpaceSpec", "check_parameter_space"]


class ParameterSpace(SearchSpace):
    """Genes per expert × layer group × component, plus overall ones such as ``lambda``.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: An operator or parameter is unknown, or the models do not suit it.
    """

    def __init__(
        self,
        spec: ParameterSpaceSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],
    ) -> None:
        problems = check_parameter_space(spec, models, operators)
        key = "layer_groups" if spec.layers_per_group is None else "layers_per_group"
        if (spec.layer_groups > 1 or key == "layers_per_group") and not models.layers:
            instead = "use 1" if key == "layer_groups" else "leave it out"
            problems.append(f"space.{key}: the models have no numbered layers; {instead}.")
        if problems:
            raise ConfigError(problems)
        self.spec = spec
        self.models = models
        self.parameter_genes = ParameterGenes(spec, models)
        self._genes = self.parameter_genes.free
        default = models.base or models.experts[0]
        self._writer = RuleWriter(
            models,
            {name: operators[name] for name in spec.operator},
            spec.rest_from or default.name,
            spec.weights == "simplex",
        )

    @property
    def genes(self) -> tuple[Gene, ...]:
        """In the order: operators, then by section switches, expert, parameter."""
        return self._genes

    def decode(self, genome: Genome) -> Recipe:
        """One rule a section; with ``interpolate``, one a layer and component.

        Parameters that the chosen operator does not have are left out.
        """
        rules = [
            rule
            for section in self.parameter_genes.sections
            for rule in self._rules(genome, section)
        ]
        return self.models.recipe(without_repeats(rules))

    def encode(self, recipe: Recipe) -> Genome | None:
        """Each gene read off the first rule that it is for.

        A recipe that ``decode`` gave comes back to itself, with these exceptions. At knots
        that lie between layers the nearest layer's values are taken, and a knot whose
        operator lacks a parameter, or an expert, does not tell its value. Weights of a
        simplex come back exactly where they are genes in [0, high] with no interpolation, and
        experts that are off have weights by section; else about. Of weights that normalizing
        had to replace nothing is known. A gene of which the recipe says nothing is in the
        middle of its range.
        """
        return read_genome(recipe, self.parameter_genes, self._writer)

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self.models)

    def _rules(self, genome: Genome, section: Section) -> list[Rule]:
        """The rules of a section, one for each run of layers that are merged alike."""
        places = [Place(span.layers, section.component) for span in section.spans]
        if not section.searched:
            return [self._writer.left(place) for place in places]
        here = self.parameter_genes.at(genome, section)
        if section.following is None:
            return [self._writer.written(place, here) for place in places]
        after = self.parameter_genes.at(genome, section.following)
        return [
            self._writer.written(place, self.parameter_genes.between(here, after, span.share))
            for place, span in zip(places, section.spans, strict=True)
        ]
