"""What the values of a section mean as a rule of the recipe, whatever they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evomerge.core.recipe import Rule, Scalar
from evomerge.spaces.parameter_genes import Key, SectionValues
from evomerge.spaces.parameter_spec import WEIGHT
from evomerge.spaces.sections import Layers
from evomerge.spaces.simplex import shares
from evomerge.spaces.space import OperatorSignature, SourceModels

ALONE = "passthrough"
"""The operator of tensors that are taken from one source as they are."""

SMALLEST_WEIGHT_SUM = 1e-3
"""Below this, normalized weights are replaced by equal ones: dividing would explode."""

_DIVIDE = ("normalize", "normalize_weights")
"""Flags, on by default, that divide by the sum of weights."""

_Models = Mapping[str, Mapping[str, Scalar]]


@dataclass(frozen=True)
class Place:
    """Which tensors a rule is for."""

    layers: Layers | None = None
    component: str | None = None

    def rule(
        self, operator: str, models: _Models, whole: Mapping[str, Scalar] | None = None
    ) -> Rule:
        """The rule of an operator for these tensors."""
        contains = (self.component,) if self.component else ()
        return Rule(operator, models, whole or {}, self.layers, contains)


@dataclass(frozen=True)
class RuleWriter:
    """Writes the rules of one space."""

    models: SourceModels
    operators: Mapping[str, OperatorSignature]
    rest_from: str
    """The source of tensors that are not searched."""

    simplex: bool
    """Whether the weights of a rule are divided by their sum."""

    def merged(self, operator: OperatorSignature) -> list[str]:
        """The models of every rule: the experts, for a pair with one expert the base first."""
        names = [expert.name for expert in self.models.experts]
        pair = operator.max_models == 2 and not operator.takes_base
        if pair and len(names) == 1 and self.models.base:
            return [self.models.base.name, *names]
        return names

    def left(self, place: Place) -> Rule:
        """The rule of tensors that are not searched."""
        return place.rule(ALONE, {self.rest_from: {}})

    def written(self, place: Place, given: SectionValues) -> Rule:
        """The rule of tensors that are merged by these values.

        Experts that are off are left out. Where fewer are on than the operator merges, the
        one that is on stays alone; where none is, the base, and without a base all are on.
        """
        operator = self.operators[given.operator]
        names = self.merged(operator)
        off = {expert.name for expert in self.models.experts} - {*given.on}
        on = [name for name in names if name not in off]
        base = self.models.base.name if self.models.base else None
        if [*on] in ([], [base]) and base is not None:
            return place.rule(ALONE, {base: {}})
        if not on:
            on = names
        elif len(on) < self.fewest(operator):
            return place.rule(ALONE, {on[0]: {}})
        return self._merge(place, operator, on, given.values)

    def fewest(self, operator: OperatorSignature) -> int:
        """How many models a rule of this operator needs at least."""
        return operator.max_models if operator.max_models == 2 else operator.min_models

    def _merge(
        self,
        place: Place,
        operator: OperatorSignature,
        names: Sequence[str],
        values: Mapping[Key, Scalar],
    ) -> Rule:
        models = {
            name: {p: values[name, p] for p in operator.model_parameters if (name, p) in values}
            for name in names
        }
        whole = {p: values[None, p] for p in operator.merge_parameters if (None, p) in values}
        if self.simplex and WEIGHT in operator.model_parameters:
            return place.rule(operator.name, _with_shares(models), whole)
        return place.rule(operator.name, with_safe_weights(operator, models, whole), whole)


def without_repeats(rules: list[Rule]) -> list[Rule]:
    """One rule where all sections turned out alike, so that equal merges have equal hashes."""
    last = Rule(rules[-1].operator, rules[-1].models, rules[-1].parameters)
    alike = all(replace(rule, layers=None, contains=()) == last for rule in rules)
    return [last] if alike else rules


def _with_shares(models: _Models) -> _Models:
    weights = shares({n: float(own[WEIGHT]) for n, own in models.items() if WEIGHT in own})
    return {
        name: {**own, WEIGHT: weights[name]} if name in weights else own
        for name, own in models.items()
    }


def with_safe_weights(
    operator: OperatorSignature, models: _Models, whole: Mapping[str, Scalar]
) -> _Models:
    """The models, with weights of 1 where theirs cancel and are divided by their sum.

    Args:
        operator: That merges them.
        models: Parameters by model.
        whole: Parameters of the merge as a whole.
    """
    divides = any(
        name in operator.merge_parameters and whole.get(name, True) for name in _DIVIDE
    )
    weights = [float(p[WEIGHT]) for p in models.values() if WEIGHT in p]
    safe = not weights or abs(sum(weights)) >= SMALLEST_WEIGHT_SUM
    if safe or not divides or operator.needs_base:
        return models
    return {name: {**parameters, WEIGHT: 1.0} for name, parameters in models.items()}
