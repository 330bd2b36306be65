"""Searches whose objectives compare with source models, guard, or need no task."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from landscapes import ITEMS, LandscapeEvaluate, meta, parameter_space
from shuffled_workers import ShuffledWorkers

from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.objectives import Estimate, Objective
from evomerge.core.outcomes import Failed
from evomerge.core.responses import ItemResponses
from evomerge.fitness.estimate import MeanEstimator
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.search.budget import Budget
from evomerge.search.loop import Parts, Search
from evomerge.search.observer import Observer
from evomerge.search.scoring import Scoring
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Answered, Evaluation, Job, JobResult, Workers
from evomerge.workers.inline import InlineWorkers

ACCURACY = Objective("accuracy", {"one": 1.0})
FORGETTING = Objective(
    "forgetting (accuracy, e2)", {"two": 1.0}, "minimize", "forgetting", "e2", "accuracy"
)
SURE = Objective("entropy", {"one": 1.0}, "minimize", collapse=0.95)
SIZE = Objective("parameters", {}, "minimize", kind="parameters")
INFORMATION = Objective("information", {"one": 1.0}, kind="information")
SOURCES, PLAIN = 4, 7


@dataclass
class ChoosingEvaluate(LandscapeEvaluate):
    """Also picks a choice for each item: always the same one where the trial has collapsed."""

    collapsed: Callable[[Job], bool] = lambda job: False

    def __call__(self, job: Job) -> JobResult:
        result = super().__call__(job)
        if isinstance(result, Failed):
            return result
        same = self.collapsed(job)
        responses = {}
        for task, answered in result.responses.items():
            picks = tuple(
                0.0 if same else float((i * 7 + job.number) % 4) for i in answered.items
            )
            beliefs = {"choice": picks, "entropy": tuple(p / 10 for p in picks)}
            responses[task] = ItemResponses(answered.items, {**answered.values, **beliefs})
        return Answered(responses, result.timings)


@dataclass
class Study:
    aims: tuple[Objective, ...]
    evaluate: Callable[[Job], JobResult] = field(default_factory=ChoosingEvaluate)
    workers: Workers | None = None
    scoring: dict = field(default_factory=dict)

    def run(self, run_dir, budget: Budget) -> StudyStore:
        if (run_dir / "study.db").exists():
            store = StudyStore.open(run_dir)
        else:
            run_dir.mkdir(exist_ok=True)
            store = StudyStore.create(run_dir, meta(self.aims, {}))
        space = parameter_space()
        parts = Parts(
            space=space,
            optimizer=make_optimizer(
                "random", {}, SearchProblem(space.genes, len(self.aims), 3, [])
            ),
            scoring=Scoring(
                objectives=self.aims,
                estimator=self.scoring.pop("estimator", MeanEstimator()),
                items=ITEMS,
                versions={task: f"v-{task}" for task in ITEMS["search"]},
                settings="s",
                finalists=4,
                **self.scoring,
            ),
            workers=self.workers or InlineWorkers(lambda _: Evaluation(self.evaluate)),
            store=store,
            observer=Observer(),
        )
        Search(parts, budget).run()
        return store


def values(store: StudyStore, place: int) -> dict[str, float]:
    return {t.name: t.values[place] for t in store.trials() if t.status == "complete"}


def answers(store: StudyStore, name: str, task: str) -> tuple[float, ...]:
    (trial,) = (t for t in store.trials() if t.name == name)
    known = store.responses(trial.recipe.digest, "s", {task: f"v-{task}"})[task]
    return known.only(ITEMS["search"][task]).values["accuracy"]


def test_forgetting_is_measured_against_the_reference_on_the_same_items(tmp_path):
    with Study((ACCURACY, FORGETTING)).run(tmp_path / "run", Budget(candidates=6)) as store:
        before = np.mean(answers(store, "e2", "two"))
        for name, value in values(store, 1).items():
            assert value == pytest.approx(before - np.mean(answers(store, name, "two")))
        assert values(store, 1)["e2"] == 0.0
        assert len(set(values(store, 1).values())) > 3


@pytest.mark.parametrize("seed", range(4))
def test_no_value_depends_on_which_worker_is_faster(tmp_path, seed):
    aims = (FORGETTING, SURE)
    evaluate = ChoosingEvaluate(collapsed=lambda job: job.number % 2 == 1)
    with Study(aims, evaluate).run(tmp_path / "one", Budget(candidates=5)) as store:
        expected = {t.number: (t.estimates, t.failure) for t in store.trials()}
    jumbled = ShuffledWorkers(evaluate, 3, seed)
    with Study(aims, evaluate, jumbled).run(tmp_path / "many", Budget(candidates=5)) as store:
        assert {t.number: (t.estimates, t.failure) for t in store.trials()} == expected
        assert any(t.failure for t in store.trials())


def test_a_reference_that_cannot_be_scored_ends_the_search(tmp_path):
    evaluate = ChoosingEvaluate(lambda job: "too large" if job.number == 3 else None)
    with pytest.raises(TrialError, match=r"source model 'e2', which could not be.*too large"):
        Study((ACCURACY, FORGETTING), evaluate).run(tmp_path / "run", Budget(candidates=2))


def test_a_reference_that_fails_on_validation_items_leaves_the_candidates_unconfirmed(tmp_path):
    def fails(job: Job) -> str | None:
        validation = set(ITEMS["validation"]["one"]) & set(job.items["one"])
        return "overflow" if job.number == 3 and validation else None

    study = Study((ACCURACY, FORGETTING), ChoosingEvaluate(fails))
    with study.run(tmp_path / "run", Budget(candidates=5)) as store:
        assert store.meta("state") == "finished"
        assert max(store.meta("finalists")["test"]) <= PLAIN
        reasons = [reason for n, _, reason in store.meta("unscored") if n > PLAIN]
        assert reasons
        assert all("'e2' has no responses" in reason for reason in reasons)


def test_collapsed_candidates_fail_with_their_reason_and_keep_their_answers(tmp_path):
    study = Study((SURE,), ChoosingEvaluate(collapsed=lambda job: job.number > PLAIN + 2))
    with study.run(tmp_path / "run", Budget(candidates=6)) as store:
        failed = [t for t in store.trials() if t.status == "failed"]
        assert [t.number for t in failed] == [PLAIN + n for n in (3, 4, 5, 6)]
        assert {t.failure.stage for t in failed} == {"score"}
        assert all("outputs have collapsed" in t.failure.reason for t in failed)
        known = store.responses(failed[0].recipe.digest, "s", {"one": "v-one"})
        assert set(known["one"].items) == set(ITEMS["search"]["one"])


def test_collapsed_sources_are_scored_and_merges_like_them_are_refused(tmp_path):
    evaluate = ChoosingEvaluate(collapsed=lambda job: job.number != 2)
    with Study((SURE,), evaluate).run(tmp_path / "run", Budget(candidates=3)) as store:
        status = {t.number: t.status for t in store.trials()}
    assert [status[n] for n in range(1, SOURCES + 1)] == ["complete"] * SOURCES
    assert {status[n] for n in range(SOURCES + 1, PLAIN + 4)} == {"failed"}


def test_nothing_is_refused_where_no_objective_asks_for_it(tmp_path):
    evaluate = ChoosingEvaluate(collapsed=lambda job: job.number > PLAIN)
    aims = (Objective("entropy", {"one": 1.0}, "minimize"),)
    with Study(aims, evaluate).run(tmp_path / "run", Budget(candidates=3)) as store:
        assert {t.status for t in store.trials()} == {"complete"}


def test_an_objective_without_a_task_is_computed_from_the_recipe(tmp_path):
    def weight(objective: Objective, recipe) -> float:
        assert objective is SIZE
        return 1000.0 * len(recipe.rules[0].models)

    study = Study((ACCURACY, SIZE), scoring={"recipe_value": weight})
    with study.run(tmp_path / "run", Budget(candidates=3)) as store:
        for trial in store.trials():
            expected = 1000.0 * len(trial.recipe.rules[0].models)
            assert trial.estimates[1] == Estimate(expected, 0.0)
        assert store.meta("state") == "finished"


def test_items_asked_twice_cost_twice_and_never_exceed_the_budget(tmp_path):
    study = Study((ACCURACY,), scoring={"asks": {"one": 2}})
    each = 20 * 2 + 20 + 20
    with study.run(tmp_path / "run", Budget(item_evaluations=1000)) as store:
        spent = [t.item_evaluations for t in store.trials()]
    assert set(spent) == {each}
    assert 1000 - each < sum(spent) <= 1000


@dataclass(frozen=True)
class OnlyAccuracy:
    """An estimator calibrated for one metric."""

    def estimate(self, responses, objectives):
        if any(o.metric != "accuracy" for o in objectives):
            raise ConfigError("not calibrated")
        return MeanEstimator().estimate(responses, objectives)


def test_values_derived_from_all_answers_go_to_the_plain_mean(tmp_path):
    aims = (FORGETTING, ACCURACY, INFORMATION)
    scoring = {"estimator": OnlyAccuracy(), "derived": MeanEstimator()}
    with Study(aims, scoring=scoring).run(tmp_path / "run", Budget(candidates=2)) as store:
        trials = store.trials()
        assert {t.status for t in trials} == {"complete"}
        assert values(store, 1)["e1"] == pytest.approx(np.mean(answers(store, "e1", "one")))
        assert all(-1.4 < t.values[2] < 1.5 for t in trials)


def test_a_killed_search_that_compares_with_sources_ends_as_if_undisturbed(tmp_path):
    class Killed(BaseException):
        pass

    @dataclass
    class DiesAt(ChoosingEvaluate):
        at: int = 0

        def __call__(self, job: Job) -> JobResult:
            if len(self.jobs) == self.at:
                raise Killed
            return super().__call__(job)

    def collapsed(job: Job) -> bool:
        return job.number % 3 == 0

    aims = (FORGETTING, SURE)
    undisturbed = Study(aims, ChoosingEvaluate(collapsed=collapsed))
    with undisturbed.run(tmp_path / "whole", Budget(candidates=8)) as store:
        expected = [(t.genome, t.estimates, t.failure) for t in store.trials()]
    for at in (1, 2, 3, 4):
        with pytest.raises(Killed):
            Study(aims, DiesAt(at=at, collapsed=collapsed)).run(
                tmp_path / "killed", Budget(candidates=8)
            )
    resumed = Study(aims, ChoosingEvaluate(collapsed=collapsed))
    with resumed.run(tmp_path / "killed", Budget(candidates=8)) as store:
        assert [(t.genome, t.estimates, t.failure) for t in store.trials()] == expected
