"""From the constraints of an experiment file to checked constraints of the search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import combinations

from evomerge.core.constraints import Constraint
from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.recipe import Recipe, Rule
from evomerge.core.streams import stream
from evomerge.experiment.constraint_spec import ConstraintSpec
from evomerge.experiment.objectives import objective, recipe_value
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.reply_values import CORRECTNESS, metric_problems
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.engine import MergeEngine
from evomerge.spaces.first_genomes import first_genomes
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.space import SearchSpace, SourceModels

_SHARES = ("accuracy", *CORRECTNESS)
"""Metrics that lie between 0 and 1."""

_DRAWN = 64
"""Random recipes by which sizes are judged, beside those that a search begins with."""


@dataclass
class ConstraintFindings:
    """The constraints, and what is to be said of them."""

    constraints: list[Constraint] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Each with the constraint's place."""

    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OpenedModels:
    """What sizes are told by."""

    sources: Mapping[str, SourceModel]
    models: SourceModels
    space: SearchSpace

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """Recipes that the space makes: baselines, first genomes, and a fixed random draw."""
        return tuple({recipe.digest: recipe for recipe in self._made()}.values())

    def _made(self) -> Iterator[Recipe]:
        yield from (baseline.recipe for baseline in self.space.baselines())
        yield from map(self.space.decode, first_genomes(self.space))
        genes, random = self.space.genes, stream(self.models.seed, "constraints", "sizes")
        for _ in range(_DRAWN):
            yield self.space.decode(genome_from_unit(genes, random.random(len(genes)).tolist()))


def find_constraints(
    spec: ExperimentSpec,
    metrics: Mapping[str, Mapping[str, bool]],
    opened: OpenedModels | None,
) -> ConstraintFindings:
    """Resolve and check every constraint; headers are read, no weights.

    Args:
        spec: The experiment.
        metrics: Metrics with one number an item, by task; empty where the tasks could not be
            loaded, so that only what needs none of them is checked.
        opened: None where models or space could not be opened; sizes are not checked then.
    """
    found = ConstraintFindings()
    for place, each in enumerate(spec.constraints):
        made = _scored(each, spec) if not each.of_recipe else None
        if made is not None:
            found.problems += [(place, p) for p in _score_problems(made, metrics)]
        if each.reference is not None and each.reference not in spec.models.all:
            named = unknown("source model", each.reference, spec.models.all)
            found.problems.append((place, f"reference: {named}"))
        elif made is None and opened is not None:
            made = _sized(each, place, opened, found)
        if made is not None:
            found.constraints.append(made)
    if len(found.constraints) == len(spec.constraints):
        found.problems += _contradictions(found.constraints)
    return found


def _reference(each: ConstraintSpec, spec: ExperimentSpec) -> str:
    return each.reference or next(iter(spec.models.all))


def _quantity(each: ConstraintSpec) -> Objective:
    # No guard against collapsed outputs: a bound rewards nothing beyond itself.
    return replace(objective(each.objective_spec), collapse=None)


def _scored(each: ConstraintSpec, spec: ExperimentSpec) -> Constraint:
    lost = each.lose_at_most is not None
    return Constraint(
        quantity=_quantity(each),
        sense=each.sense,
        bound=float(each.raw_bound),
        margin=each.margin,
        reference=_reference(each, spec) if lost else None,
    )


def _score_problems(made: Constraint, metrics: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """What is wrong with the bound of a score."""
    quantity = made.quantity
    problems = _range_problems(made) if quantity.metric in _SHARES else []
    if made.is_loss and quantity.kind != "mean":
        problems.append(f"{quantity.metric} is of a whole task, so none of it is lost by item.")
    if not metrics:
        return problems
    problems += [_unused(task, metrics) for task in quantity.tasks if task not in metrics]
    used = {task: weight for task, weight in quantity.tasks.items() if task in metrics}
    known = [replace(quantity, tasks=used)] if used else []
    problems += [p.removeprefix("objectives: ") for p in metric_problems(known, metrics)]
    if made.is_loss:
        problems += [
            f"task {task}: lose_at_most needs a metric of which more is better; of "
            f"{quantity.metric} less is."
            for task in quantity.tasks
            if metrics.get(task, {}).get(quantity.metric) is False
        ]
    return problems


def _unused(task: str, metrics: Mapping[str, Mapping[str, bool]]) -> str:
    """A task that is asked for but not used, whether or not there is one of that name."""
    near = get_close_matches(task, list(metrics), n=1, cutoff=0.5)
    hint = f"; or did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(metrics)
    return f"task {task!r} has to be in tasks.use, which has {listed}: add it there{hint}"


def _range_problems(made: Constraint) -> list[str]:
    """Bounds of a share of 1 that nothing can pass, or nothing can keep."""
    low, high = (-1.0, 1.0) if made.is_loss else (0.0, 1.0)
    reached = [made.violation(Estimate(value, 0.0)) == 0 for value in (low, high)]
    inside = low < made.bound < high
    written = "a loss of two points is 0.02" if made.is_loss else "60 points are 0.6"
    what = f"{made.name} lies between {low:g} and {high:g} ({written})"
    if not any(reached):
        return [f"can never be met: {what}, the bound is {made.bound:g}."]
    if all(reached) and not inside:
        return [f"always holds: {what}, the bound is {made.bound:g}."]
    return []


def _sized(
    each: ConstraintSpec, place: int, opened: OpenedModels, found: ConstraintFindings
) -> Constraint | None:
    """The bound of a size, resolved; notes what is wrong with it."""
    quantity, space = _quantity(each), opened.space
    value = recipe_value(MergeEngine(opened.sources))
    name = each.reference or opened.models.sources[0].name
    alone = opened.models.recipe([Rule("passthrough", {name: {}})])
    try:
        whole = float(value(quantity, alone))
        sizes = [float(value(quantity, baseline.recipe)) for baseline in space.baselines()]
    except (ConfigError, CheckpointError) as error:
        found.problems.append((place, str(error)))
        return None
    bound = float(each.raw_bound) if each.share is None else each.share * whole
    made = Constraint(
        quantity, each.sense, bound, scale=bound, reference=name, share=each.share,
        reference_value=whole,
    )  # fmt: skip
    low, high = _reach(quantity, sizes, opened)
    met = [low is not None and _keeps(made, low), high is not None and _keeps(made, high)]
    if low is not None and high is not None and not any(met):
        known = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
        found.problems.append(
            (
                place,
                f"can never be met: every recipe of this space has {known} {made.name}, "
                f"the bound is {bound:,.6g}.",
            )
        )
    elif all(met):
        found.notes.append(
            f"constraints.{place}: every recipe of this space has at "
            f"{'most' if each.sense == 'at_most' else 'least'} "
            f"{high if each.sense == 'at_most' else low:,.0f} {made.name}, so that the bound "
            f"of {bound:,.6g} always holds."
        )
    elif (low is None or low != high) and (note := _tried(made, opened)):
        found.notes.append(f"constraints.{place}: {note}")
    return made


def _tried(made: Constraint, opened: OpenedModels) -> str | None:
    """What recipes of the space say of a bound that headers alone don't decide."""
    value = recipe_value(MergeEngine(opened.sources))
    sizes = []
    for recipe in opened.recipes:
        try:
            sizes.append(float(value(made.quantity, recipe)))
        except (ConfigError, CheckpointError):
            continue  # such a candidate fails when its turn comes, and says why
    met = [_keeps(made, size) for size in sizes]
    if sizes and not any(met):
        nearest = min(sizes, key=made.excess)
        which = "smallest" if made.sense == "at_most" else "largest"
        return (
            f"none of {len(sizes)} recipes tried meets {made.name} {made.limit}: the {which} "
            f"has {nearest:,.0f}, the bound is {made.bound:,.6g}."
        )
    if sizes and all(met):
        nearest = max(sizes, key=made.excess)
        which = "largest" if made.sense == "at_most" else "smallest"
        return (
            f"all of {len(sizes)} recipes tried meet {made.name} {made.limit}: the {which} has "
            f"{nearest:,.0f}, the bound is {made.bound:,.6g}."
        )
    return None


def _keeps(made: Constraint, value: float) -> bool:
    return made.violation(Estimate(value, 0.0)) == 0


def _reach(
    quantity: Objective, sizes: Sequence[float], opened: OpenedModels
) -> tuple[float | None, float | None]:
    """The smallest and largest size that a recipe of the space can have, where that is known.

    A space that keeps the depth merges tensor by tensor, so that sources of one size give
    merges of it.
    """
    deepest = opened.space.most_layers
    if deepest is None and min(sizes) == max(sizes):
        return sizes[0], sizes[0]
    if deepest is not None and quantity.kind == "layers":
        return 1.0, float(max(deepest, 1))
    return None, None


def _contradictions(constraints: Sequence[Constraint]) -> list[tuple[int, str]]:
    """Bounds of one quantity that no value keeps both of."""
    problems = []
    for (_, one), (place, other) in combinations(enumerate(constraints), 2):
        if one.measured != other.measured:
            continue
        if one.sense == other.sense:
            problems.append(
                (place, f"a second bound: {one.name} {one.limit} is asked for already.")
            )
            continue
        low, high = (one, other) if one.sense == "at_least" else (other, one)
        if low.bound > high.bound:
            problems.append(
                (
                    place,
                    f"no {one.name} is at least {low.bound:,.6g} and at most "
                    f"{high.bound:,.6g}, as another constraint asks.",
                )
            )
    return problems
