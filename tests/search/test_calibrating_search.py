"""Searches that make their estimator from their own first answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from landscapes import ITEMS, TASKS, LandscapeEvaluate, LandscapeStudy, meta, objectives

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Estimate
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.ladder import FixedLadder
from evomerge.search.budget import Budget
from evomerge.search.scoring import Calibration, Fitness, Reference
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial
from evomerge.workers.contract import Evaluation, Job, JobResult, Workers
from evomerge.workers.inline import InlineWorkers

PLAIN = 7
"""Four sources and three baselines."""

SEARCH = ITEMS["search"]
WHOLE = sum(map(len, SEARCH.values()))
CHOSEN = (3, 6)
"""Items of each task on the two rungs of a made fitness."""

SIZES = dict.fromkeys(TASKS, 20)
VERSIONS = {task: f"v-{task}" for task in TASKS}
OPTIMIZERS = [("nsga2", {"population": 8}, 2), ("cma_es", {}, 1), ("random", {}, 2)]


@dataclass
class Corrected:
    """The answers' mean, less what these items had above the bank's in the references."""

    excess: dict[str, float]

    def estimate(self, responses, aims):
        found = []
        for aim in aims:
            value = sum(
                weight * (np.mean(responses[task].values[aim.metric]) - self.excess[task])
                for task, weight in aim.tasks.items()
            )
            found.append(Estimate(float(value), 0.06))
        return tuple(found)


@dataclass
class Fit:
    """Chooses the items on which references differ most; all depends on the references."""

    given: list[list[Reference]] = field(default_factory=list)

    def __call__(self, references: Sequence[Reference]) -> Fitness:
        self.given.append(list(references))
        orders, excess = {}, {}
        for task, items in SEARCH.items():
            rows = np.array([r.responses[task].values["gold_logprob"] for r in references])
            assert all(r.responses[task].items == items for r in references)
            distance = np.abs(rows - rows.mean()).sum(axis=0)
            orders[task] = [items[k] for k in np.argsort(-distance, kind="stable")]
            columns = [items.index(item) for item in orders[task][: CHOSEN[0]]]
            excess[task] = float(rows[:, columns].mean() - rows.mean())
        steps = [{t: tuple(order[:n]) for t, order in orders.items()} for n in CHOSEN]
        return Fitness(Corrected(excess), FixedLadder(tuple(steps)))


def calibrating(
    store: StudyStore,
    candidates: int,
    fit: Fit | None = None,
    optimizer=OPTIMIZERS[0],
    **more,
) -> LandscapeStudy:
    name, options, aims = optimizer
    return LandscapeStudy(
        store,
        name,
        options,
        objectives(aims),
        estimator=MeanEstimator(SIZES),
        calibration=Calibration(candidates, fit or Fit()),
        **more,
    )


def open_store(run_dir: Path, aims: int = 2) -> StudyStore:
    if (run_dir / "study.db").exists():
        return StudyStore.open(run_dir)
    run_dir.mkdir(exist_ok=True)
    return StudyStore.create(run_dir, meta(objectives(aims), {}))


def candidates(store: StudyStore) -> list[Trial]:
    return [t for t in store.trials() if t.kind == "candidate"]


def content(store: StudyStore) -> list:
    """Everything but times."""
    trials = [
        replace(t, timings=sorted(t.timings), asked_at=0.0, finished_at=None)
        for t in store.trials()
    ]
    return [trials, store.meta("finalists")]


def answered(store: StudyStore, trial: Trial) -> dict[str, set[int]]:
    """Which search items a trial's recipe has answered, by task."""
    known = store.responses(trial.recipe.digest, "s", VERSIONS)
    return {task: set(r.items) & set(SEARCH[task]) for task, r in known.items()}


class Killed(BaseException):
    """Ends a search where a real process would just be gone."""


@dataclass
class DiesAt(LandscapeEvaluate):
    """Dies at a job, and notes what was asked before."""

    dies_at: int = -1
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def __call__(self, job: Job) -> JobResult:
        if len(self.jobs) == self.dies_at:
            raise Killed
        self.asked += [
            (job.recipe.digest, t, i) for t, items in job.items.items() for i in items
        ]
        return super().__call__(job)


class LastInFirstOut(InlineWorkers):
    """Holds four jobs and does the newest first."""

    @property
    def capacity(self) -> int:
        return 4

    def finished(self, wait: float | None = None) -> tuple[Job, JobResult]:
        self._waiting.rotate(1)
        return super().finished(wait)


def four_workers(evaluate) -> Workers:
    return LastInFirstOut(lambda _: Evaluation(evaluate))


# ---- who answers what


@pytest.mark.parametrize("first", [0, 1, 5, 8, 13])
def test_the_first_candidates_answer_the_whole_bank_and_later_ones_the_chosen_items(
    tmp_path, first
):
    fit = Fit()
    with open_store(tmp_path / "run") as store:
        calibrating(store, first, fit).search(Budget(candidates=30)).run()
        ladder = Fit()(fit.given[0]).ladder
        rungs = [{t: set(items) for t, items in ladder.items(k, {}).items()} for k in (0, 1)]
        plain = [t for t in store.trials() if t.kind != "candidate"]
        whole = {task: set(items) for task, items in SEARCH.items()}
        found = candidates(store)
        assert len(found) == 30
        assert all(answered(store, t) == whole for t in [*plain, *found[:first]])
        assert all(answered(store, t) in rungs for t in found[first:])
        assert all(e.standard_error == 0 for t in found[:first] for e in t.estimates)
        assert all(e.standard_error == 0.06 for t in found[first:] for e in t.estimates)


def test_the_estimator_is_made_from_sources_baselines_and_first_candidates_in_order(tmp_path):
    fit = Fit()
    with open_store(tmp_path / "run") as store:
        calibrating(store, 5, fit).search(Budget(candidates=12)).run()
        (given,) = fit.given
        expected = store.trials()[: PLAIN + 5]
        assert [(r.kind, r.name) for r in given] == [(t.kind, t.name) for t in expected]
        for reference, trial in zip(given, expected, strict=True):
            known = store.responses(trial.recipe.digest, "s", VERSIONS)
            for task, items in SEARCH.items():
                assert reference.responses[task] == known[task].only(items)


def test_a_recipe_that_is_a_reference_already_counts_once(tmp_path):
    fit = Fit()
    with open_store(tmp_path / "run") as store:
        study = calibrating(store, 4, fit, first_baseline="task arithmetic")
        study.search(Budget(candidates=10)).run()
        first = candidates(store)[0]
        baseline = next(t for t in store.trials() if t.name == "task arithmetic")
        assert first.recipe.digest == baseline.recipe.digest
        names = [r.name for r in fit.given[0]]
        assert names[PLAIN:] == ["candidate 2", "candidate 3", "candidate 4"]
        assert "task arithmetic" in names


def test_a_calibrating_candidate_that_fails_is_left_out(tmp_path):
    fit = Fit()
    evaluate = LandscapeEvaluate(lambda job: "no" if job.number in {3, PLAIN + 2} else None)
    with open_store(tmp_path / "run") as store:
        calibrating(store, 4, fit, evaluate=evaluate).search(Budget(candidates=10)).run()
        assert [r.name for r in fit.given[0]] == [
            "base", "e1", "e3", "uniform average", "task arithmetic", "ties",
            "candidate 1", "candidate 3", "candidate 4",
        ]  # fmt: skip
        assert len(answered(store, candidates(store)[4])["one"]) in CHOSEN


def test_a_calibration_that_cannot_be_made_ends_the_session_and_not_the_study(tmp_path):
    def refuses(references: Sequence[Reference]) -> Fitness:
        raise ConfigError(f"{len(references)} models are too few")

    with open_store(tmp_path / "run") as store:
        with pytest.raises(ConfigError, match="9 models are too few"):
            calibrating(store, 2, refuses).search(Budget(candidates=9)).run()
        assert len(candidates(store)) == 2
    with open_store(tmp_path / "run") as store:
        calibrating(store, 2).search(Budget(candidates=9)).run()
        assert len(candidates(store)) == 9


@pytest.mark.parametrize("first", [10, 12])
def test_a_budget_that_ends_within_the_calibration_ends_the_search(tmp_path, first):
    fit = Fit()
    with open_store(tmp_path / "run") as store:
        calibrating(store, first, fit).search(Budget(candidates=10)).run()
        assert [t.item_evaluations for t in candidates(store)] == [WHOLE] * 10
        assert fit.given == []
        assert store.meta("state") == "finished"
        assert store.meta("finalists")["test"][PLAIN:]


def test_the_item_budget_counts_the_whole_bank_for_calibrating_candidates(tmp_path):
    for total in range(13 * WHOLE, 14 * WHOLE, 11):
        with open_store(tmp_path / str(total)) as store:
            calibrating(store, 5).search(Budget(item_evaluations=total)).run()
            spent = sum(t.item_evaluations for t in store.trials())
            assert total - 3 * CHOSEN[0] < spent <= total
    with open_store(tmp_path / "few") as store:
        reason = calibrating(store, 5).search(Budget(item_evaluations=11 * WHOLE)).run()
        assert "item evaluations" in reason
        assert len(candidates(store)) == 4


# ---- no deadlock, whatever the optimizer waits for


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o[0])
@pytest.mark.parametrize("first", [0, 1, 7, 8, 9, 15])
def test_several_workers_come_to_the_same_trials_as_one(tmp_path, optimizer, first):
    results = []
    for name, workers in (("one", {}), ("four", {"workers": four_workers})):
        with open_store(tmp_path / name, optimizer[2]) as store:
            study = calibrating(store, first, optimizer=optimizer, **workers)
            study.search(Budget(candidates=20)).run()
            assert len(candidates(store)) == 20
            results.append(content(store))
    assert results[0] == results[1]


# ---- kills and resumes


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o[0])
def test_killed_at_every_job_a_calibrating_search_ends_as_if_undisturbed(tmp_path, optimizer):
    budget = Budget(candidates=12)
    aims = optimizer[2]
    with open_store(tmp_path / "whole", aims) as whole:
        undisturbed = DiesAt()
        calibrating(whole, 5, optimizer=optimizer, evaluate=undisturbed).search(budget).run()
        expected = content(whole)
    asked = []
    for _ in undisturbed.jobs[:-1]:
        one = DiesAt(dies_at=1)
        with open_store(tmp_path / "killed", aims) as store, pytest.raises(Killed):
            calibrating(store, 5, optimizer=optimizer, evaluate=one).search(budget).run()
        asked += one.asked
    last = DiesAt()
    with open_store(tmp_path / "killed", aims) as store:
        calibrating(store, 5, optimizer=optimizer, evaluate=last).search(budget).run()
        assert content(store) == expected
    assert asked + last.asked == undisturbed.asked
    assert set(Counter(asked).values()) == {1}


def test_a_resumed_study_makes_the_same_estimator_and_asks_nothing_for_it(tmp_path):
    fits = Fit(), Fit(), Fit()
    asked = DiesAt(), DiesAt(), DiesAt()
    with open_store(tmp_path / "whole") as store:
        study = calibrating(store, 6, fits[0], evaluate=asked[0])
        study.search(Budget(candidates=20)).run()
        expected = [replace(t, asked_at=0.0, finished_at=None) for t in store.trials()]
    for budget, fit, listed in ((11, fits[1], asked[1]), (20, fits[2], asked[2])):
        with open_store(tmp_path / "parts") as store:
            study = calibrating(store, 6, fit, evaluate=listed)
            study.search(Budget(candidates=budget)).run()
            found = [replace(t, asked_at=0.0, finished_at=None) for t in store.trials()]
    assert found == expected
    assert fits[0].given == fits[1].given == fits[2].given
    assert not set(asked[1].asked) & set(asked[2].asked)
