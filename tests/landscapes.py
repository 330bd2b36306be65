"""Closed-form landscapes over recipes: searches without models, for tests of the loop."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Objective
from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe, Source
from evomerge.core.responses import ItemResponses, Items
from evomerge.fitness.estimate import Estimator, MeanEstimator
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts, Search
from evomerge.search.objective_values import RecipeValue
from evomerge.search.observer import Observer
from evomerge.search.scoring import Calibration, Fitness, Scoring
from evomerge.spaces.parameter import ParameterSpace, ParameterSpaceSpec
from evomerge.spaces.space import OperatorSignature, SourceModels
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Answered, Evaluate, Evaluation, Job, JobResult, Workers
from evomerge.workers.inline import InlineWorkers

SIGNATURES = {
    "linear": OperatorSignature("linear", ("weight",), ("normalize",), needs_base=False),
    "task_arithmetic": OperatorSignature(
        "task_arithmetic", ("weight",), ("lambda", "normalize"), needs_base=True
    ),
    "ties": OperatorSignature(
        "ties", ("weight", "density"), ("lambda", "normalize"), needs_base=True
    ),
    "slerp": OperatorSignature(
        "slerp", (), ("t",), needs_base=False, max_models=2, min_models=2
    ),
}

TASKS = ("one", "two", "three")
ITEMS = {
    split: {task: tuple(range(start, start + 20)) for task in TASKS}
    for split, start in (("search", 0), ("validation", 20), ("test", 40))
}


def source_models(experts: int = 3, layers: int = 4) -> SourceModels:
    return SourceModels(
        base=Source("base", "/models/base", "f0"),
        experts=tuple(Source(f"e{k}", f"/models/e{k}", f"f{k}") for k in range(1, experts + 1)),
        layers=layers,
        seed=11,
    )


def parameter_space(models: SourceModels | None = None, **spec: object) -> ParameterSpace:
    written = {
        "operator": "task_arithmetic",
        "experts": {"weight": [0, 1]},
        "merge": {"lambda": [0.3, 2.0], "normalize": False},
    } | spec
    return ParameterSpace(
        ParameterSpaceSpec.model_validate(written), models or source_models(), SIGNATURES
    )


def landscape_skill(recipe: Recipe, number: int) -> float:
    """A smooth trade-off: expert ``number`` helps its own task, the others disturb it."""
    rule = recipe.rules[0]
    weights = {name: float(p.get("weight", 1.0)) for name, p in rule.models.items()}
    scale = float(rule.parameters.get("lambda", 1.0))
    own = scale * weights.get(f"e{number}", 0.0)
    others = scale * sum(w for name, w in weights.items() if name != f"e{number}")
    return math.exp(-((own - 1.0) ** 2) - 0.15 * others**2)


@dataclass
class LandscapeEvaluate:
    """Answers each item by a threshold of its own, so that responses are graded by skill."""

    fails: Callable[[Job], str | None] = lambda job: None
    jobs: list[int] = field(default_factory=list)

    def __call__(self, job: Job) -> JobResult:
        self.jobs.append(job.number)
        if reason := self.fails(job):
            return Failed("evaluate", reason)
        return Answered(
            {
                task: _answers(task, items, landscape_skill(job.recipe, TASKS.index(task) + 1))
                for task, items in job.items.items()
            },
            {"merge": 0.0, "evaluate": 0.0},
        )


def _answers(task: str, items: tuple[int, ...], skill: float) -> ItemResponses:
    thresholds = [zlib.crc32(f"{task} {item}".encode()) / 2**32 for item in items]
    return ItemResponses(
        items,
        {
            "accuracy": tuple(float(skill > t) for t in thresholds),
            "gold_logprob": tuple(math.log(max(skill, 1e-6)) - t for t in thresholds),
        },
    )


def objectives(count: int = 2) -> tuple[Objective, ...]:
    if count == 1:
        return (Objective("gold_logprob", {"one": 0.5, "two": 0.5}),)
    return tuple(Objective("accuracy", {task: 1.0}) for task in TASKS[:count])


def meta(aims: tuple[Objective, ...], budget: Mapping[str, object]) -> dict[str, object]:
    """What a study's creation records, as far as search and report read it."""
    return {
        "name": "landscape",
        "seed": 3,
        "objectives": [
            {"metric": o.metric, "tasks": dict(o.tasks), "direction": o.direction} for o in aims
        ],
        "genes": [],
        "items": ITEMS,
        "banks": {task: {"version": f"v-{task}"} for task in TASKS},
        "settings": {},
        "settings_digest": "s",
        "sources": {},
        "budget": dict(budget),
        "state": "running",
    }


@dataclass
class LandscapeStudy:
    """A search over a landscape in a run directory, begun or taken up again."""

    store: StudyStore
    optimizer: str = "nsga2"
    options: Mapping[str, object] = field(default_factory=dict)
    aims: tuple[Objective, ...] = field(default_factory=objectives)
    evaluate: LandscapeEvaluate = field(default_factory=LandscapeEvaluate)
    observer: Observer = field(default_factory=Observer)
    seed: int = 3
    space: Mapping[str, object] = field(default_factory=dict)
    first_baseline: str | None = None
    """Name of a baseline that the optimizer is to propose first."""

    estimator: Estimator = field(default_factory=MeanEstimator)
    items: Mapping[str, Items] = field(default_factory=lambda: ITEMS)
    fitness: Fitness | None = None
    calibration: Calibration | None = None
    confidence: float = 0.9
    constraints: tuple[Constraint, ...] = ()
    recipe_value: RecipeValue | None = None
    workers: Callable[[Evaluate], Workers] = lambda evaluate: InlineWorkers(
        lambda _: Evaluation(evaluate)
    )

    def search(self, budget: Budget) -> Search:
        space = parameter_space(**self.space)
        scoring = Scoring(
            objectives=self.aims,
            estimator=self.estimator,
            items=self.items,
            versions={task: f"v-{task}" for task in TASKS},
            settings="s",
            finalists=6,
            fitness=self.fitness,
            calibration=self.calibration,
            confidence=self.confidence,
            constraints=self.constraints,
            recipe_value=self.recipe_value,
        )
        initial = [
            genome
            for baseline in space.baselines()
            if baseline.name == self.first_baseline
            and (genome := space.encode(baseline.recipe)) is not None
        ]
        optimizer = make_optimizer(
            self.optimizer,
            self.options,
            SearchProblem(space.genes, len(self.aims), self.seed, initial, space.expressed),
        )
        parts = Parts(
            space=space,
            optimizer=optimizer,
            scoring=scoring,
            workers=self.workers(self.evaluate),
            store=self.store,
            observer=self.observer,
        )
        return Search(parts, budget)
