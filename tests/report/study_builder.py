"""Small real studies, written with StudyStore as a search writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from evomerge.core.constraints import Constraint, total_violation
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.outcomes import Failed
from evomerge.core.pareto import front_mask
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.responses import ItemResponses, Responses
from evomerge.fitness.estimate import MeanEstimator
from evomerge.store.study_store import Answers, StudyStore
from evomerge.store.trials import Trial

TASKS = ("sort", "sum", "facts", "towns", "rhymes", "colours", "dates", "chess")
SETTINGS = "5e771465"
START = 1_700_000_000.0
REASONS = (
    Failed("merge", "candidate weights are not finite in model.layers.3.mlp.up_proj.weight"),
    Failed("evaluate", "out of memory: 8.1 GiB needed, 7.7 GiB free"),
)


@dataclass(frozen=True)
class Plan:
    """What a study should hold."""

    objectives: int = 2
    candidates: int = 30
    failed: int = 0
    open: int = 0
    finals: bool = True
    state: str = "finished"
    seed: int = 7
    name: str = "three-skills"
    tasks: tuple[str, ...] = TASKS
    parameters: bool = False
    """One more objective: the fewest parameters."""

    guard: float | None = None
    """The accuracy that the first task must keep; none where None."""

    gain: float = 0.35
    """How much a good mixture adds to what its sources know; negative makes all worse."""

    sizes: Mapping[str, int] = field(
        default_factory=lambda: {"search": 40, "validation": 60, "test": 120}
    )
    source_names: tuple[str, ...] = ()
    extra_genes: int = 3
    rules: int = 1
    only_sources: bool = False


class Builder:
    """Writes one study; every random number comes from the plan's seed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = np.random.default_rng(plan.seed)
        self.tasks = plan.tasks[: plan.objectives]
        self.objectives = tuple(Objective("accuracy", {t: 1.0}) for t in self.tasks)
        if plan.parameters:
            self.objectives += (Objective("parameters", {}, "minimize"),)
        default = TASKS[: max(2, min(3, plan.objectives))]
        names = plan.source_names or tuple(f"expert {task}" for task in default)
        guarded = plan.guard is not None
        self.constraints = (
            (Constraint(Objective("accuracy", {self.tasks[0]: 1.0}), "at_least", plan.guard),)
            if guarded
            else ()
        )
        self.sources = tuple(Source(n, f"zoo/{n}", f"{k:032x}") for k, n in enumerate(names))
        self.items = {
            split: {t: tuple(range(start, start + n)) for t in self.tasks}
            for split, start, n in self._ranges()
        }
        self.difficulty = {t: self.rng.uniform(0, 1, 10_000) for t in self.tasks}

    def _ranges(self):
        start = 0
        for split, count in self.plan.sizes.items():
            yield split, start, count
            start += count

    def meta(self) -> dict[str, object]:
        sizes = dict(self.plan.sizes)
        return {
            "name": self.plan.name,
            "seed": self.plan.seed,
            "evomerge": "0.1.0",
            "experiment": {
                "name": self.plan.name,
                "seed": self.plan.seed,
                "optimizer": {"name": "nsga2", "population": 24},
                "budget": {"candidates": self.plan.candidates},
            },
            "objectives": [
                {"metric": o.metric, "tasks": dict(o.tasks), "direction": o.direction}
                for o in self.objectives
            ],
            "constraints": [each.to_plain() for each in self.constraints],
            "genes": [
                {"name": name, "kind": "float", "low": 0.0, "high": 1.0, "log": False}
                for name in self.gene_names()
            ]
            + [{"name": "operator", "kind": "choice", "options": ["linear", "ties"]}],
            "items": {s: {t: list(i) for t, i in ts.items()} for s, ts in self.items.items()},
            "banks": {t: {"version": f"v-{t}", **sizes} for t in self.tasks},
            "settings": {"dtype": "float32", "batch_size": 16},
            "settings_digest": SETTINGS,
            "sources": {
                s.name: {
                    "model": s.model,
                    "fingerprint": s.fingerprint,
                    "parameters": 134515008,
                }
                for s in self.sources
            },
            "budget": {"candidates": self.plan.candidates, "minutes": None},
            "state": "running",
        }

    def gene_names(self) -> list[str]:
        weights = [f"weight.{s.name}" for s in self.sources]
        return weights + [f"density.{k}" for k in range(self.plan.extra_genes)]

    def recipe(self, weights: Sequence[float], operator: str, density: float = 1.0) -> Recipe:
        models = {
            s.name: {"weight": round(float(w), 6), "density": round(float(density), 6)}
            for s, w in zip(self.sources, weights, strict=True)
        }
        rules = [Rule(operator, models, layers=(k, k + 1)) for k in range(self.plan.rules - 1)]
        return Recipe(self.sources, (*rules, Rule(operator, models)))

    def skill(self, weights: Sequence[float], density: float = 0.5) -> dict[str, float]:
        shares = np.abs(weights) / max(1e-9, np.abs(weights).sum())
        mixed = 1.0 - float((shares**2).sum())
        bonus = self.plan.gain * mixed * (1 - abs(density - 0.5))
        return {
            task: float(np.clip(0.25 + 0.45 * shares[k % len(shares)] + bonus, 0.02, 0.98))
            for k, task in enumerate(self.tasks)
        }

    def responses(self, skill: Mapping[str, float], split: str) -> Responses:
        answers = {}
        for task, ids in self.items[split].items():
            lucky = self.rng.normal(0, 0.15, len(ids))
            right = self.difficulty[task][list(ids)] + lucky < skill[task]
            answers[task] = ItemResponses(
                ids, {"accuracy": tuple(float(r) for r in right), "nll": (0.5,) * len(ids)}
            )
        return answers

    def estimates(self, responses: Responses, trial_size: int) -> tuple[Estimate, ...]:
        found = MeanEstimator().estimate(responses, [o for o in self.objectives if o.tasks])
        if self.plan.parameters:
            found += (Estimate(float(trial_size), 0.0),)
        return found

    def write(self, run_dir: Path) -> Path:
        run_dir.mkdir(parents=True, exist_ok=True)
        store = StudyStore.create(run_dir, self.meta())
        store.sessions.start({"python": "3.11.9", "evomerge": "0.1.0", "torch": "2.13"})
        skills = self._write_trials(store)
        if self.plan.finals:
            self._write_finals(store, skills)
        store.set_meta("state", self.plan.state)
        store.sessions.end("all candidates are done")
        store.close()
        return run_dir

    def _write_trials(self, store: StudyStore) -> dict[int, dict[str, float]]:
        skills, number = {}, 0
        count = len(self.sources)
        plain = [("source", s.name, np.eye(count)[k]) for k, s in enumerate(self.sources)]
        if not self.plan.only_sources:
            plain.append(("baseline", "uniform average", np.full(count, 1 / count)))
        for kind, name, weights in plain:
            number += 1
            skills[number] = self.skill(weights, density=1.0)
            trial = Trial(
                number,
                kind,
                name,
                self.recipe(weights, "linear"),
                "open",
                asked_at=START + number,
            )
            store.add_trials([trial])
            self._finish(store, trial, skills[number])
        for k in range(self.plan.candidates):
            number += 1
            genome = {
                g: round(float(v), 6)
                for g, v in zip(self.gene_names(), self.rng.random(99), strict=False)
            }
            genome["operator"] = ("linear", "ties")[k % 2]
            weights = [genome[f"weight.{s.name}"] for s in self.sources]
            density = genome.get("density.0", 0.5)
            skills[number] = self.skill(weights, density)
            trial = Trial(
                number,
                "candidate",
                f"candidate {k + 1}",
                self.recipe(weights, genome["operator"], density),
                "open",
                genome=genome,
                asked_at=START + 10 + 2 * k,
            )
            store.add_trials([trial], asked=1)
            if k >= self.plan.candidates - self.plan.open:
                continue
            if k < self.plan.failed:
                failure = REASONS[0 if k % 3 else 1]
                store.finish_trial(
                    replace(
                        trial, status="failed", failure=failure, finished_at=START + 12 + 2 * k
                    )
                )
                continue
            self._finish(store, trial, skills[number])
        return skills

    def _finish(self, store: StudyStore, trial: Trial, skill: Mapping[str, float]) -> None:
        responses = self.responses(skill, "search")
        bounded = MeanEstimator().estimate(responses, [c.quantity for c in self.constraints])
        done = replace(
            trial,
            status="complete",
            constraints=bounded,
            violation=total_violation(self.constraints, bounded),
            estimates=self.estimates(responses, 134_515_008 - trial.number * 1000),
            timings={"merge": 0.4, "evaluate": 1.2},
            finished_at=trial.asked_at + 2,
        )
        store.finish_trial(done, self._answers(trial, responses))

    def _answers(self, trial: Trial, responses: Responses) -> Answers:
        versions = {t: f"v-{t}" for t in self.tasks}
        return Answers(trial.recipe.digest, SETTINGS, versions, responses)

    def _write_finals(self, store: StudyStore, skills) -> None:
        trials = [t for t in store.trials() if t.status == "complete"]
        candidates = [t for t in trials if t.kind == "candidate" and t.feasible]
        if not candidates:
            candidates = [t for t in trials if t.kind == "candidate"]
        plain = [t for t in trials if t.kind != "candidate"]
        signs = np.array([o.sign for o in self.objectives])
        front = [
            t
            for t, on in zip(
                candidates,
                front_mask(
                    np.array([t.values for t in candidates]).reshape(-1, len(signs)) * signs
                ),
                strict=True,
            )
            if on
        ]
        scores = []
        for trial in plain + front:
            responses = self.responses(skills[trial.number], "validation")
            store.add_responses(self._answers(trial, responses))
            if trial.kind == "candidate":
                scores.append(
                    [
                        e.value
                        for e in self.estimates(
                            responses, int(trial.values[-1]) if self.plan.parameters else 0
                        )
                    ]
                )
        kept = front_mask(np.array(scores).reshape(-1, len(signs)) * signs)
        final = [t for t, on in zip(front, kept, strict=True) if on]
        for trial in plain + final:
            responses = self.responses(skills[trial.number], "test")
            store.add_responses(self._answers(trial, responses))
        store.set_meta(
            "finalists",
            {
                "validation": [t.number for t in plain + front],
                "test": [t.number for t in plain + final],
            },
        )
