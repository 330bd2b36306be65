"""The layer_moves space: a model stacked by moves over the layers of its sources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.space import Baseline, OperatorSignature, SearchSpace, SourceModels

SKIP = "skip"
"""The move that leaves a layer out."""

BACK = "back"
"""The move that goes back to the layer before, without removing what is there."""

_Layers = list[tuple[str, int]]
"""The merged model's layers: each a source's or operator's name, and the sources' layer."""


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


class LayerMovesSpec(BaseModel):
    """A layer_moves space as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["layer_moves"] = "layer_moves"
    operators: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ("linear",)
    """Merge operators that a layer can be merged by, of all experts with default parameters."""

    base: bool = False
    """Whether layers of the base can be taken too."""

    spare: int = Field(default=4, ge=0, le=1000)
    """Moves beyond one a layer, which steps back need."""

    most_layers: int | None = Field(default=None, ge=1)
    """Depth of the deepest model; none means as many layers as there are moves."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.operators)) < len(self.operators):
            raise ValueError(f"'operators' names one twice: {list(self.operators)}")
        return self


class LayerMovesSpace(SearchSpace):
    """RMM's encoding (Han et al. 2025, arXiv 2503.21272): a cursor walks over the layers.

    Every gene is a move. A source's or operator's name appends the layer at the cursor, of that
    source or merged of all experts, and the cursor goes on; ``skip`` goes on without; ``back``
    goes back one layer and removes nothing, so that this depth comes twice. It ends when the
    cursor has passed the last layer. Every genome means a model:

    * ``back`` at the first layer stays there (RMM ends with a penalty).
    * When the moves run out, the remaining layers are those of the first expert.
    * At ``most_layers`` it ends. Where nothing was appended, the model is the first expert's
      last layer.

    Embeddings, final norm and head are the mean of the experts'.

    Args:
        spec: The space as written.
        models: What is merged.
        operators: Signatures of the merge operators by name.

    Raises:
        ConfigError: The models do not suit it, or an operator does not suit them.
    """

    def __init__(
        self,
        spec: LayerMovesSpec,
        models: SourceModels,
        operators: Mapping[str, OperatorSignature],
    ) -> None:
        problems = _problems(spec, models, operators)
        if problems:
            raise ConfigError(problems)
        self._models = models
        self._operators = {name: operators[name] for name in spec.operators}
        self._experts = [expert.name for expert in models.experts]
        taken = [models.base.name] if spec.base and models.base else []
        self._sources = [*self._experts, *taken]
        options = (*self._sources, *spec.operators, SKIP, BACK)
        moves = models.layers + spec.spare
        self._most_layers = spec.most_layers or moves
        self._genes = tuple(ChoiceGene(f"move {k}", options) for k in range(1, moves + 1))

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The moves in order."""
        return self._genes

    @property
    def smooth_genes(self) -> tuple[Gene, ...]:
        """None: another move is another model."""
        return ()

    @property
    def most_layers(self) -> int:
        """Depth of the deepest model that a genome can mean."""
        return self._most_layers

    def decode(self, genome: Genome) -> Recipe:
        """Slices of neighbouring layers that come from the same place, one rule each."""
        layers = self._walked([str(genome[gene.name]) for gene in self._genes])
        slices: list[Slice] = []
        rules: list[Rule] = []
        first = 0
        for origin, start, stop in _runs(layers):
            members = [origin] if origin in self._sources else self._experts
            taking_part = dict.fromkeys([*self._base_of(origin), *members], (start, stop))
            slices.append(Slice(taking_part))
            rules.append(self._rule(origin, (first, first + stop - start)))
            first += stop - start
        return self._recipe(slices, rules)

    def encode(self, recipe: Recipe) -> Genome | None:
        """Moves that decode to the recipe, or to a plain merge's with all of its layers.

        A source alone is that source's layers, a merge by one of the operators with its
        defaults those merged; embeddings, norm and head are then the mean of the experts'.
        """
        layers = self._layers_of(recipe) if recipe.slices else self._plain_layers(recipe)
        if layers is None:
            return None
        moves = (self._moves_to(layers) + [SKIP] * len(self._genes))[: len(self._genes)]
        genome = {gene.name: move for gene, move in zip(self._genes, moves, strict=True)}
        if recipe.slices and self.decode(genome).digest != recipe.digest:
            return None
        return genome

    def baselines(self) -> tuple[Baseline, ...]:
        """The plain baselines of any space over these models."""
        return plain_baselines(self._models)

    def _walked(self, moves: Sequence[str]) -> _Layers:
        """What the moves append, and what follows where they run out."""
        depth, most = self._models.layers, self._most_layers
        layers: _Layers = []
        cursor = 0
        for move in moves:
            if cursor >= depth or len(layers) >= most:
                break
            if move == BACK:
                cursor = max(0, cursor - 1)
                continue
            if move != SKIP:
                layers.append((move, cursor))
            cursor += 1
        layers += [(self._experts[0], layer) for layer in range(cursor, depth)]
        return layers[:most] or [(self._experts[0], depth - 1)]

    def _base_of(self, origin: str) -> list[str]:
        """The base where an operator merges differences to it; sources have none."""
        operator, base = self._operators.get(origin), self._models.base
        takes = operator is not None and (operator.needs_base or operator.takes_base)
        return [base.name] if takes and base else []

    def _rule(self, origin: str, layers: tuple[int, int] | None) -> Rule:
        if origin in self._sources:
            return Rule("passthrough", {origin: {}}, {}, layers)
        return Rule(origin, {expert: {} for expert in self._experts}, {}, layers)

    def _recipe(self, slices: Sequence[Slice], rules: Sequence[Rule]) -> Recipe:
        mean = Rule("linear", {expert: {"weight": 1.0} for expert in self._experts})
        return replace(self._models.recipe([*rules, mean]), slices=tuple(slices))

    def _plain_layers(self, recipe: Recipe) -> _Layers | None:
        """All layers of the one place that a recipe of one rule takes them from."""
        if len(recipe.rules) != 1:
            return None
        (rule,) = recipe.rules
        origin = rule.operator
        if origin == "passthrough":
            origin = next(iter(rule.models))
        known = origin in self._sources or (
            origin in self._operators
            and (rule == self._rule(origin, None) or _is_plain_mean(rule, self._experts))
        )
        depth = min(self._models.layers, self._most_layers)
        return [(origin, layer) for layer in range(depth)] if known else None

    def _layers_of(self, recipe: Recipe) -> _Layers | None:
        """The layers of a recipe with slices; None where one is none that a move appends."""
        layers: _Layers = []
        for number in range(recipe.layer_count or 0):
            rule = recipe.rule_for(f"{number}.")
            origin = (
                next(iter(rule.models)) if rule.operator == "passthrough" else rule.operator
            )
            own = recipe.source_layer(next(iter(rule.models)), number)
            if own is None or origin not in (*self._sources, *self._operators):
                return None
            layers.append((origin, own))
        return layers or None

    def _moves_to(self, layers: _Layers) -> list[str]:
        """The shortest moves that append the layers and leave out what follows."""
        moves: list[str] = []
        cursor = 0
        for origin, layer in layers:
            moves += [SKIP] * (layer - cursor) + [BACK] * (cursor - layer) + [origin]
            cursor = layer + 1
        return moves


def _runs(layers: _Layers) -> Iterator[tuple[str, int, int]]:
    """Neighbouring layers of one origin that follow each other there, as half-open ranges."""
    start = 0
    for k in range(1, len(layers) + 1):
        origin, layer = layers[k - 1]
        if k == len(layers) or layers[k] != (origin, layer + 1):
            yield origin, layers[start][1], layer + 1
            start = k


def _is_plain_mean(rule: Rule, experts: Sequence[str]) -> bool:
    weights = {p.get("weight", 1.0) for p in rule.models.values()}
    return rule.operator == "linear" and [*rule.models] == [*experts] and len(weights) == 1


def _problems(
    spec: LayerMovesSpec, models: SourceModels, operators: Mapping[str, OperatorSignature]
) -> list[str]:
    problems = []
    if not models.layers:
        problems.append("space.kind: the models have no numbered layers to move over.")
    if not models.experts:
        problems.append("space.kind: layer_moves needs an expert; name one under 'models'.")
    if spec.base and models.base is None:
        problems.append("space.base: there is no base; name it under 'models.base'.")
    for name in spec.operators:
        if name not in operators:
            problems.append(f"space.operators: {unknown('operator', name, operators)}.")
        elif problem := _unsuited(operators[name], models):
            problems.append(f"space.operators: {name} {problem}")
    names = [source.name for source in models.sources]
    clashing = sorted({SKIP, BACK, *spec.operators} & {*names})
    if clashing:
        problems.append(
            f"space.kind: {clashing} are moves of this space and names of models; call the "
            "models otherwise."
        )
    return problems


def _unsuited(operator: OperatorSignature, models: SourceModels) -> str | None:
    many = len(models.experts)
    if operator.needs_base and models.base is None:
        return "takes differences to a base model; name it under 'models.base'."
    if not operator.min_models <= many <= (operator.max_models or many):
        most = "or more" if operator.max_models is None else f"to {operator.max_models}"
        return (
            f"merges {operator.min_models} {most} models, the experiment names {many} "
            "experts; leave it out, or name others."
        )
    return None
