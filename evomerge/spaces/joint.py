"""The joint space: how models are merged and the path through the merge, searched together."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.data_flow import DataFlowSpace, DataFlowSpec
from evomerge.spaces.genes import ChoiceGene, Gene, genome_from_unit
from evomerge.spaces.joint_recipe import MergedInPlace
from evomerge.spaces.layer_edit import REST_GENE, LayerEditSpace, LayerEditSpec
from evomerge.spaces.layer_edit_spec import NONE
from evomerge.spaces.layer_moves import LayerMovesSpace, LayerMovesSpec
from evomerge.spaces.parameter import ParameterSpace, ParameterSpaceSpec
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

MERGE = "merge:"
"""What the names of the genes begin with that say how models are merged."""

PATH = "path:"
"""What the names of the genes of the path begin with."""

MOST_STARTING_POINTS = 12


class JointSpec(BaseModel):
    """A joint space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["joint"] = "joint"
    merge: ParameterSpaceSpec
    """A parameter space: what the merged model is."""

    path: Annotated[DataFlowSpec | LayerEditSpec | LayerMovesSpec, Field(discriminator="kind")]
    """A space that stacks layers, with its ``kind``: data_flow, layer_edit or layer_moves. It
    sees the merged model as the first expert, before those of the experiment. Every layer must
    be one model's: ``operator: none`` for layer_edit, ``operators: []`` for layer_moves."""

    name: str = Field(default="merged", min_length=1)
    """What ``path`` calls the merged model."""


class JointSpace(SearchSpace):
    """A parameter space and a path space whose pool holds what the other one merges.

    Sakana searches first the one, then the other (Akiba et al. 2024, arXiv 2403.13187, section
    3.3); here the genome has the genes of both. In the path's recipe every layer of the merged
    model is put down as the merge of the models' layers (``joint_recipe.MergedInPlace``), so
    that a candidate is a recipe over the models alone. What a path says of tensors outside of
    layers holds where that is one model, else they are the merged model's.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: One of the two spaces does not suit; the problems of both are named.
    """

    def __init__(
        self,
        spec: JointSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],
    ) -> None:
        merged = Source(spec.name, models.sources[0].model)
        self._models = models
        self._pool = replace(models, experts=(merged, *models.experts))
        self._in_place = MergedInPlace(spec.name, models, operators)
        problems = _problems(spec, models)
        try:
            self._merge = ParameterSpace(spec.merge, models, operators)
        except ConfigError as error:
            problems += [_below("merge", problem) for problem in error.problems]
        try:
            self._path = _path_space(spec, self._pool, operators)
        except ConfigError as error:
            problems += [_below("path", problem) for problem in error.problems]
        if problems:
            raise ConfigError(problems)
        self._outsides = _outsides(self._path)
        self._genes = (*_renamed(MERGE, self._merge), *_renamed(PATH, self._path))

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Those of the merge, then those of the path, each with what they belong to."""
        return self._genes

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """None: another path is another model."""
        return ()

    @property
    def most_layers(self) -> int | None:
        """Depth of the deepest path."""
        return self._path.most_layers

    @property
    def folds_scales(self) -> bool:
        """Whether the path has scales."""
        return self._path.folds_scales

    @property
    def merge(self) -> ParameterSpaceSpec:
        """How models are merged, as written."""
        return self._merge.spec

    def decode(self, genome: Genome) -> Recipe:
        """The path's recipe, with the merged model's rules in place of its layers."""
        merge = {gene.name: genome[MERGE + gene.name] for gene in self._merge.genes}
        path = {gene.name: genome[PATH + gene.name] for gene in self._path.genes}
        return self._in_place.recipe(self._path.decode(path), self._merge.decode(merge))

    def encode(self, recipe: Recipe) -> Genome | None:
        """Genes of both that decode to the recipe, or to the merge nearest to it.

        A recipe without slices is a merge on a path through the merged model alone, or a source
        alone where the path can be that. One with slices has a genome where it is of the form
        that ``decode`` gives; not always where the merge's rules are interpolated between
        knots, grow over the layers or take layers of one source whole, or the path's scales
        come from a network. Layers of the merged model that are not on the path are taken to
        be merged like the next one that is.
        """
        plain = None if recipe.slices else self._plain(recipe)
        if plain is not None and (
            not _mixes(recipe) or self.decode(plain).digest == recipe.digest
        ):
            return plain
        genomes = (self._through(recipe, outside) for outside in self._outsides)
        return next((genome for genome in genomes if genome is not None), None)

    def starting_points(self) -> tuple[Genome, ...]:
        """The plain merges on the path through the merge alone; then usual paths, of one."""
        merges = self._merges()
        alone = self._alone(self._pool.experts[0].name)
        points = [_together(merge, alone) for merge in merges] if alone is not None else []
        first = self._some_merge()
        points += [_together(first, path) for path in self._path.starting_points()]
        different = {tuple(point.items()): point for point in points}
        return tuple(islice(different.values(), MOST_STARTING_POINTS))

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self._models)

    def _plain(self, recipe: Recipe) -> Genome | None:
        """A merge with nothing else on the path, or a source with nothing else on it."""
        merge = self._merge.encode(recipe)
        alone = self._alone(self._pool.experts[0].name)
        if merge is not None and alone is not None:
            return _together(merge, alone)
        (source, *others) = recipe.rules[-1].models
        same = self._models.recipe([Rule("passthrough", {source: {}})])
        path = None if others or recipe.digest != same.digest else self._alone(source)
        return None if path is None else _together(self._some_merge(), path)

    def _through(self, recipe: Recipe, outside: Rule) -> Genome | None:
        """A genome of the recipe whose path has this rule for tensors outside of layers."""
        merged_model = self._pool.experts[0].name
        giving = merged_model if merged_model in outside.models else next(iter(outside.models))
        path_recipe, merged = self._in_place.parts(recipe, self._pool, giving)
        path = self._path.encode(self._as_written(path_recipe, outside))
        if path is None:
            return None
        merge = None if merged is None else self._merge.encode(merged)
        if merge is None:  # its genes may make no difference
            merge = self._some_merge()
        genome = _together(merge, path)
        return genome if self.decode(genome).digest == recipe.digest else None

    def _as_written(self, path: Recipe, outside: Rule) -> Recipe:
        """A path with what the path space itself would say of tensors outside of layers."""
        if len(path.rules) == 1:
            return path
        rules = path.rules[:-1]
        if isinstance(self._path, LayerMovesSpace):
            rules = tuple(_rule_a_slice(path))
        return replace(path, rules=(*rules, outside))

    def _alone(self, source: str) -> Genome | None:
        """The path through all layers of one source of the pool."""
        return self._path.encode(self._pool.recipe([Rule("passthrough", {source: {}})]))

    def _merges(self) -> list[Genome]:
        """The merge space's plain baselines and starting points."""
        encoded = [self._merge.encode(baseline.recipe) for baseline in self.baselines()]
        return [g for g in (*encoded, *self._merge.starting_points()) if g is not None]

    def _some_merge(self) -> Genome:
        """The first plain merge, or where there is none the middle of all ranges."""
        middle = [0.5] * len(self._merge.genes)
        return next(iter(self._merges()), genome_from_unit(self._merge.genes, middle))


def _path_space(
    spec: JointSpec, pool: SourceModels, operators: Mapping[str, OperatorSignature]
) -> DataFlowSpace | LayerEditSpace | LayerMovesSpace:
    if isinstance(spec.path, DataFlowSpec):
        return DataFlowSpace(spec.path, pool, operators)
    if isinstance(spec.path, LayerEditSpec):
        return LayerEditSpace(spec.path, pool, operators)
    return LayerMovesSpace(spec.path, pool, operators)


def _outsides(path: SearchSpace) -> tuple[Rule, ...]:
    """The rules that a path can have for tensors outside of layers; a gene may choose."""
    middle = genome_from_unit(path.genes, [0.5] * len(path.genes))
    chosen = [gene for gene in path.genes if gene.name == REST_GENE]
    options = [
        {REST_GENE: option}
        for gene in chosen
        if isinstance(gene, ChoiceGene)
        for option in gene.options
    ]
    rules = [path.decode({**middle, **option}).rules[-1] for option in options or [{}]]
    return tuple(rules)


def _problems(spec: JointSpec, models: SourceModels) -> list[str]:
    names = [source.name for source in models.sources]
    path = spec.path
    problems = []
    if spec.name in names:
        problems.append(
            f"space.name: a model is called {spec.name!r} too; give the merged one another."
        )
    if isinstance(path, LayerMovesSpec) and path.operators:
        problems.append(
            f"space.path.operators: {[*path.operators]} would merge a layer of the merged "
            "model with others; use 'operators: []', so that each layer is one model's."
        )
    if isinstance(path, LayerEditSpec) and path.operator != NONE:
        problems.append(
            f"space.path.operator: {path.operator} would merge a layer of the merged model "
            f"with others; use 'operator: {NONE}', so that each layer is one model's."
        )
    listed = None if isinstance(path, LayerMovesSpec) else path.sources
    if listed is not None and spec.name not in listed:
        problems.append(
            f"space.path.sources: {spec.name!r} is not among {[*listed]}, so that the genes of "
            "the merge would do nothing; name it."
        )
    return problems


def _below(part: str, problem: str) -> str:
    """A space's own problem, told of the space that it is part of."""
    return f"space.{part}.{problem.removeprefix('space.')}"


def _renamed(prefix: str, space: SearchSpace) -> list[Gene]:
    """The genes under longer names; of the same kinds, which optimizers tell apart."""
    return [
        cast("Gene", replace(cast("Any", gene), name=prefix + gene.name))
        for gene in space.genes
    ]


def _together(merge: Genome, path: Genome) -> Genome:
    renamed = {MERGE + name: value for name, value in merge.items()}
    return renamed | {PATH + name: value for name, value in path.items()}


def _mixes(recipe: Recipe) -> bool:
    """Whether some layers are a source's and others are made otherwise."""
    return (
        any(rule.operator == "passthrough" for rule in recipe.rules) and len(recipe.rules) > 1
    )


def _rule_a_slice(path: Recipe) -> Iterator[Rule]:
    """The rules of a path's layers as layer_moves writes them."""
    first = 0
    for part in path.slices:
        layers = (first, first + part.size)
        yield Rule("passthrough", {source: {} for source in part.layers}, {}, layers)
        first += part.size
