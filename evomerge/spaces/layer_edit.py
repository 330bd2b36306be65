"""The layer_edit space: per layer left out, taken from one source, or merged of some."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import GeneValue, Genome
from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.layer_edit_designs import designs
from evomerge.spaces.layer_edit_origins import origins
from evomerge.spaces.layer_edit_removal import (
    naive_removals,
    so_many_layers,
    without_layers,
)
from evomerge.spaces.layer_edit_spec import MEAN, LayerEditSpec, layer_edit_problems
from evomerge.spaces.parameter_reading import nearest
from evomerge.spaces.sections import Layers, layer_groups_of
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

__all__ = ["LayerEditSpace", "LayerEditSpec", "naive_removals"]

REST_GENE = "rest"
"""The gene of what gives the tensors outside of layers, where there is a choice."""


class LayerEditSpace(SearchSpace):
    """The layers of the sources in their order, edited one by one.

    GPTailor's space (Su et al. 2025, arXiv 2506.20480) and layer swapping (Bandarkar et al.
    2025, arXiv 2410.01335); which layers are left out is coded without permutations
    (``Removal``), and from which models the others come by ``Origins``. Genes of layers that
    are left out have no effect. Embeddings, final norm and head are those of ``rest``.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: The models do not suit it, or an operator does not suit them.
    """

    def __init__(
        self,
        spec: LayerEditSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],
    ) -> None:
        problems = layer_edit_problems(spec, models, operators)
        if problems:
            raise ConfigError(problems)
        self._spec = spec
        self._models = models
        self._removal = spec.removal(models.layers)
        self._origins = origins(spec, models, operators)
        self._groups = layer_groups_of(models.layers, spec.layers_per_group)
        self._rests = {name: _rest(name, spec, models) for name in spec.rests(models)}
        genes: dict[str, Gene] = {gene.name: gene for gene in self._removal.genes}
        if len(self._rests) > 1:
            genes[REST_GENE] = ChoiceGene(REST_GENE, tuple(self._rests))
        for group in self._groups:
            for gene in self._origins.genes(group):
                genes.setdefault(gene.name, gene)
        self._genes = tuple(genes.values())

    @property
    def genes(self) -> tuple[Gene, ...]:
        """How many layers are left out, which, the rest's, then those of each layer group."""
        return self._genes

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """None: another layer is another model."""
        return ()

    @property
    def most_layers(self) -> int | None:
        """The sources' depth where layers can be left out, else None."""
        return self._models.layers if self._removal.high else None

    def decode(self, genome: Genome) -> Recipe:
        """Neighbouring layers made alike share one rule and, if nothing is between, a slice.

        With all layers there are no slices, and a model taken whole from one source is that
        source's plain recipe.
        """
        by_group = {group: self._origins.rule(genome, group) for group in self._groups}
        rule_of = {layer: by_group[group] for group in self._groups for layer in range(*group)}
        kept = self._removal.kept(genome)
        rest = self._rests[str(genome.get(REST_GENE, next(iter(self._rests))))]
        rules = [
            replace(rule, layers=layers)
            for rule, layers in _alike([rule_of[layer] for layer in kept])
            if rule != rest
        ]
        whole = self._models.recipe([*rules, rest])
        if len(kept) == self._models.layers:
            return whole
        members = {layer: self._origins.taking_part(rule_of[layer]) for layer in kept}
        return replace(whole, slices=tuple(_slices(kept, members)))

    def encode(self, recipe: Recipe) -> Genome | None:
        """Genes read off the layers of a recipe.

        A recipe that ``decode`` gave comes back to itself, unless weights that cancel were
        replaced. Of a recipe with one rule for everything (a source alone or without some
        layers, a plain merge by the operator) the layers are taken, whatever ``rest`` is; its
        parameters are the nearest that the space has. None where layers are made otherwise, or
        more or fewer of them than the space can leave out.
        """
        rules = self._layers_of(recipe)
        if rules is None:
            return None
        found: dict[str, GeneValue] | None = self._removal.genome_of([*rules])
        if found is None:
            return None
        found[REST_GENE] = self._rest_of(recipe)
        by_group = {
            group: own
            for group in self._groups
            if (own := [rules[layer] for layer in range(*group) if layer in rules])
        }
        if any(rule != own[0] for own in by_group.values() for rule in own):
            return None
        members = {group: self._origins.members_of(own[0]) for group, own in by_group.items()}
        near = next(iter(members.values()))
        for group in self._groups:
            near = members.get(group, near)  # a group left out is as the one before it
            selecting = None if near is None else self._origins.selecting(near, group)
            if selecting is None:
                return None
            found |= selecting
        values = self._parameters({group: own[0] for group, own in by_group.items()})
        return None if values is None else self._in_order(found | values)

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain ones of any space, and each source without its last layers.

        These are as many as must be left out, and as can be.
        """
        depth = self._models.layers
        counts = sorted({self._removal.low, self._removal.high} - {0})
        return plain_baselines(self._models) + tuple(
            Baseline(
                "baseline",
                f"{source.name} without its last {so_many_layers(count)}",
                without_layers(self._models, source.name, range(depth - count, depth)),
            )
            for count in counts
            for source in self._models.sources
        )

    def starting_points(self) -> tuple[Genome, ...]:
        """GPTailor's warm starts and layer swaps, the plainest first, each model once."""
        encoded = [self.encode(baseline.recipe) for baseline in self.baselines()]
        known = {self.decode(genome).digest for genome in encoded if genome is not None}
        found: list[Genome] = []
        for design in designs(self._removal, self._origins, self._groups):
            if len(found) == self._spec.warm_start:
                break
            genome = self._in_order(self._with_own_rest(design))
            digest = self.decode(genome).digest
            if digest not in known:
                known.add(digest)
                found.append(genome)
        return tuple(found)

    def _rest_of(self, recipe: Recipe) -> str:
        """What gives the rest of a recipe, if that is known, else the first that may."""
        known = [name for name, rule in self._rests.items() if rule == recipe.rules[-1]]
        return next(iter([*known, *self._rests]))

    def _with_own_rest(self, design: Mapping[str, GeneValue]) -> Mapping[str, GeneValue]:
        """A design of one model's layers with that model's rest too, where it may have it."""
        first = next(iter(self._rests))
        rules = self.decode(self._in_order({REST_GENE: first, **design})).rules[:-1]
        models = {name for rule in rules for name in rule.models}
        own = models.pop() if len(models) == 1 else first
        return {REST_GENE: own if own in self._rests else first, **design}

    def _in_order(self, found: Mapping[str, GeneValue]) -> Genome:
        """All genes; those of which nothing is known are in the middle."""
        return {
            gene.name: found[gene.name] if gene.name in found else gene.from_unit(0.5)
            for gene in self._genes
        }

    def _layers_of(self, recipe: Recipe) -> dict[int, Rule] | None:
        """How each of the sources' layers that stay is made; None where they are not theirs."""
        if any(rule.contains or rule.scale != 1 for rule in recipe.rules):
            return None
        if len(recipe.rules) > 1 and recipe.rules[-1] not in self._rests.values():
            return None
        depth = self._models.layers
        found: dict[int, Rule] = {}
        following = 0
        for number in range(recipe.layer_count or depth):
            rule = recipe.rule_for(f"{number}.")
            models = self._origins.taking_part(rule)
            own = {recipe.source_layer(model, number) for model in models}
            layer = own.pop()
            if own or layer is None or not following <= layer < depth:
                return None
            found[layer] = replace(rule, layers=None)
            following = layer + 1
        return found

    def _parameters(self, rules: Mapping[Layers, Rule]) -> dict[str, GeneValue] | None:
        """The genes of parameters; those that several groups share are the first one's."""
        genes = {gene.name: gene for gene in self._genes}
        found: dict[str, GeneValue] = {}
        # Weights of 1 may stand for others that cancel.
        for group in sorted(rules, key=lambda group: _equal_weights(rules[group])):
            for name, value in self._origins.values_of(rules[group], group).items():
                given = nearest(genes[name], value)
                if given is None:
                    return None
                found.setdefault(name, given)
        return found


def _rest(name: str, spec: LayerEditSpec, models: SourceModels) -> Rule:
    """The rule of what is in no layer; of a single model it takes that whole."""
    experts = spec.selectable(models)
    if name == MEAN and len(experts) > 1:
        equal = {expert: {"weight": 1.0} for expert in experts}
        return Rule("linear", equal, {"normalize": True})
    one = next(iter(experts or spec.taken_from(models))) if name == MEAN else name
    return Rule("passthrough", {one: {}})


def _alike(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Layers]]:
    """Runs of equal rules, each with its layers of the merged model."""
    start = 0
    for stop in range(1, len(rules) + 1):
        if stop == len(rules) or rules[stop] != rules[start]:
            yield rules[start], (start, stop)
            start = stop


def _slices(kept: Sequence[int], members: Mapping[int, Sequence[str]]) -> Iterator[Slice]:
    """Runs of layers that follow each other and are made of the same models."""
    start = 0
    for stop in range(1, len(kept) + 1):
        first, last = kept[start], kept[stop - 1]
        goes_on = stop < len(kept) and kept[stop] == last + 1
        if not goes_on or members[kept[stop]] != members[first]:
            yield Slice(dict.fromkeys(members[first], (first, last + 1)))
            start = stop


def _equal_weights(rule: Rule) -> bool:
    return all(own.get("weight") == 1 for own in rule.models.values())
