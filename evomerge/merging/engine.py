"""Merging by recipe: tensor by tensor, into a resident model or out to an export."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.recipe import Recipe, Rule
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.compatibility import check_tensors, nearest
from evomerge.merging.device_tensors import DeviceTensors
from evomerge.merging.operators.contract import MaskKey, Operator, Settings
from evomerge.merging.operators.registry import operator
from evomerge.merging.recipe_check import OUTPUT_DTYPES, validate_recipe
from evomerge.merging.resident_model import build_resident_model, places
from evomerge.merging.tied_embeddings import embedding_name, head_name, stored_name

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class MergedTensor:
    """A tensor of the merged model before it is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors spells it."""


@dataclass(frozen=True)
class _RulePlan:
    """A rule with its operator found and the models that need not be read left out."""

    operator: Operator
    settings: Settings
    models: tuple[str, ...]


class MergeEngine:
    """Merges source models by recipe.

    The same tensors, bit for bit, go into a resident model and into an export. Sources are
    mapped from disk; besides the result, one tensor a source is in use at a time.

    Args:
        sources: Opened source models by the names that recipes use.
        kept: Those whose tensors stay on the device once they were read.
    """

    def __init__(self, sources: Mapping[str, SourceModel], kept: Collection[str] = ()) -> None:
        self.sources = dict(sources)
        self._tensors = DeviceTensors(self.sources, kept)
        self._fitting: set[tuple[str, tuple[str, ...]]] = set()

    def plan(self, recipe: Recipe) -> list[MergedTensor]:
        """What the merged model will hold, in the order of the reference's tensors.

        If any source that takes part has an output head of its own, so has the merged model.

        Raises:
            ConfigError: The recipe is not valid.
            CheckpointError: Its sources are not open, have changed, or do not fit.
        """
        self._check(recipe)
        reference = self.sources[recipe.reference]
        infos = dict(reference.tensors)
        head = head_name(infos)
        if self.is_tied(recipe):
            if head is not None and embedding_name(infos) is not None:
                del infos[head]
        elif head is None:
            untied = next(s for s in self._used(recipe) if not s.tied)
            name = head_name(untied.tensors)
            embedding = embedding_name(infos)
            if name is not None and embedding is not None:
                infos[name] = infos[embedding]
        wanted = OUTPUT_DTYPES[recipe.dtype] if recipe.dtype else None
        return [
            MergedTensor(name, info.shape, wanted or info.dtype) for name, info in infos.items()
        ]

    def is_tied(self, recipe: Recipe) -> bool:
        """Whether the merged model's output head is its input embedding."""
        return all(source.tied for source in self._used(recipe))

    def parameter_count(self, recipe: Recipe) -> int:
        """Parameters of the merged model; tied ones count once."""
        return sum(math.prod(tensor.shape) for tensor in self.plan(recipe))

    def tensors(
        self, recipe: Recipe, device: str | torch.device = "cpu"
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The merged tensors, one at a time, in the order of ``plan`` and in its dtypes.

        Raises:
            ConfigError, CheckpointError: As ``plan`` does.
            TrialError: A merged tensor is not finite.
        """
        for tensor, rule in self._rules(recipe):
            out = torch.empty(tensor.shape, dtype=_DTYPES[tensor.dtype], device=device)
            self._merge(tensor, rule, recipe, [out])
            yield tensor.name, out

    @torch.no_grad()
    def apply(self, recipe: Recipe, model: torch.nn.Module) -> None:
        """Overwrite a resident model's weights with the merged ones.

        After an error the weights are partly overwritten; the next ``apply`` sets them all.

        Raises:
            ConfigError, CheckpointError, TrialError: As ``tensors`` does.
            CheckpointError: The model's parameters are not those of the merge.
        """
        targets = places(model, {tensor.name: tensor.shape for tensor in self.plan(recipe)})
        for tensor, rule in self._rules(recipe):
            self._merge(tensor, rule, recipe, targets[tensor.name])

    def resident_model(
        self,
        recipe: Recipe | str,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> torch.nn.Module:
        """A transformers model for ``apply``, its weights not yet set.

        Args:
            recipe: The name of the reference, or a recipe that has it. The model is good for
                any recipe of that reference: it shares head and embedding only if all open
                sources do.
            dtype: Of the parameters; by default that of the reference's embedding.
            device: Where the parameters lie.

        Raises:
            CheckpointError: transformers cannot build the architecture.
        """
        reference = recipe if isinstance(recipe, str) else recipe.reference
        if reference not in self.sources:
            raise CheckpointError(f"source {reference!r} is not open.")
        source = self.sources[reference]
        tied = all(source.tied for source in self.sources.values())
        if dtype is None:
            name = embedding_name(source.tensors) or next(iter(source.tensors))
            dtype = _DTYPES[source.tensors[name].dtype]
        return build_resident_model(source, tied=tied, dtype=dtype, device=device)

    def _used(self, recipe: Recipe) -> list[SourceModel]:
        return [self.sources[name] for name in _used_names(recipe)]

    def _check(self, recipe: Recipe) -> None:
        problems = validate_recipe(recipe)
        if problems:
            raise ConfigError(problems)
        used = _used_names(recipe)
        for source in (source for source in recipe.sources if source.name in used):
            if source.name not in self.sources:
                raise CheckpointError(f"source {source.name!r} of the recipe is not open.")
            found = self.sources[source.name]
            if source.fingerprint is not None and source.fingerprint != found.fingerprint:
                raise CheckpointError(
                    f"{source.name}: the weights in {found.folder} are not those that the "
                    f"recipe was made with (fingerprint {found.fingerprint}, "
                    f"the recipe has {source.fingerprint})."
                )
        if (recipe.reference, used) not in self._fitting:
            unfit = check_tensors({n: self.sources[n] for n in used}, recipe.reference)
            if unfit:
                raise CheckpointError("\n".join(unfit))
            self._fitting.add((recipe.reference, used))

    def _rule_plan(self, rule: Rule, recipe: Recipe) -> _RulePlan:
        found = operator(rule.operator)
        settings = found.rule_settings(rule, recipe.base)
        models = found.merged(rule, recipe.base)
        if found.zero_weight_drops_out:
            weights = settings.of_models("weight")
            kept = [k for k, weight in enumerate(weights) if weight != 0]
            if kept or found.needs_base:
                models = tuple(models[k] for k in kept)
                settings = Settings(tuple(settings.models[k] for k in kept), settings.whole)
        return _RulePlan(found, settings, models)

    def _rules(self, recipe: Recipe) -> Iterator[tuple[MergedTensor, _RulePlan]]:
        planned = self.plan(recipe)
        rules = {id(rule): self._rule_plan(rule, recipe) for rule in recipe.rules}
        for tensor in planned:
            yield tensor, rules[id(recipe.rule_for(tensor.name))]

    def _merge(
        self,
        tensor: MergedTensor,
        rule: _RulePlan,
        recipe: Recipe,
        targets: Sequence[torch.Tensor],
    ) -> None:
        device = targets[0].device
        read = self._read(tensor.name, rule.models, device)
        base = None
        if rule.operator.needs_base and recipe.base is not None:
            (base,) = self._read(tensor.name, (recipe.base,), device)
        key = MaskKey(recipe.seed, tensor.name, rule.models)
        rule.operator.merge_into(
            [target.view(-1) for target in targets],
            (read, base, rule.settings, key),
            _DTYPES[tensor.dtype],
        )

    def _read(
        self, name: str, models: Sequence[str], device: str | torch.device
    ) -> list[torch.Tensor]:
        tensors = []
        for model in models:
            source = self.sources[model]
            stored = stored_name(name, source.tensors)
            if stored is None:
                raise CheckpointError(
                    f"{model}: has no tensor {name}{nearest(name, source.tensors)}."
                )
            tensors.append(self._tensors.read(model, stored, device))
        return tensors


def _used_names(recipe: Recipe) -> tuple[str, ...]:
    """The sources that the rules merge, and the reference; in the recipe's order."""
    named = {name for rule in recipe.rules for name in rule.models} | {recipe.reference}
    return tuple(source.name for source in recipe.sources if source.name in named)
