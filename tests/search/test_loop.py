"""The search loop: budgets, failures, resume by replay, finalists."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from landscapes import ITEMS, LandscapeEvaluate, LandscapeStudy, meta, objectives
from shuffled_workers import ShuffledWorkers

from evomerge.core.errors import StoreError, TrialError
from evomerge.core.outcomes import Failed
from evomerge.search.budget import Budget
from evomerge.search.observer import Observer, Progress
from evomerge.store.study_store import StudyStore

ITEMS_EACH = sum(len(items) for items in ITEMS["search"].values())
OPTIMIZERS = [("nsga2", {"population": 8}, 2), ("cma_es", {}, 1), ("random", {}, 2)]
PLAIN = 7
"""Four sources and three baselines."""


def open_store(run_dir: Path, aims=None) -> StudyStore:
    if (run_dir / "study.db").exists():
        return StudyStore.open(run_dir)
    run_dir.mkdir(exist_ok=True)
    return StudyStore.create(run_dir, meta(aims or objectives(), {}))


def candidates(store: StudyStore) -> list:
    return [t for t in store.trials() if t.kind == "candidate"]


def content(store: StudyStore) -> list:
    return [
        (t.number, t.kind, t.name, t.genome, t.recipe.digest, t.status, t.estimates, t.failure)
        for t in store.trials()
    ]


class Killed(BaseException):
    """Ends a search where a real process would just be gone."""


@dataclass
class DiesAfter(LandscapeEvaluate):
    """Dies while it works on the given numbers of jobs."""

    at: set[int] = field(default_factory=set)
    done: int = 0

    def __call__(self, job):
        self.done += 1
        if self.done in self.at:
            raise Killed
        return super().__call__(job)


@pytest.mark.parametrize(("optimizer", "options", "aims"), OPTIMIZERS)
def test_a_search_killed_again_and_again_ends_as_if_undisturbed(
    tmp_path, optimizer, options, aims
):
    budget = Budget(candidates=40)
    with open_store(tmp_path / "whole", objectives(aims)) as whole:
        LandscapeStudy(whole, optimizer, options, objectives(aims)).search(budget).run()
        expected = content(whole)
        finalists = whole.meta("finalists")
    for at in (3, 9, 11, 8, 5, 4, 10, 5, 3, 3, 2):  # the last ones among the finalists
        with open_store(tmp_path / "killed", objectives(aims)) as store:
            study = LandscapeStudy(
                store, optimizer, options, objectives(aims), DiesAfter(at={at})
            )
            with pytest.raises(Killed):
                study.search(budget).run()
    with open_store(tmp_path / "killed") as store:
        LandscapeStudy(store, optimizer, options, objectives(aims)).search(budget).run()
        assert content(store) == expected
        assert store.meta("finalists") == finalists
        assert store.meta("state") == "finished"


@pytest.mark.parametrize(("optimizer", "options", "aims"), OPTIMIZERS)
def test_an_extended_search_ends_as_if_begun_with_the_larger_budget(
    tmp_path, optimizer, options, aims
):
    with open_store(tmp_path / "whole", objectives(aims)) as whole:
        study = LandscapeStudy(whole, optimizer, options, objectives(aims))
        study.search(Budget(candidates=37)).run()
        expected = content(whole)
    for budget in (13, 14, 37):
        with open_store(tmp_path / "parts", objectives(aims)) as store:
            study = LandscapeStudy(store, optimizer, options, objectives(aims))
            study.search(Budget(candidates=budget)).run()
    with open_store(tmp_path / "parts") as store:
        assert content(store) == expected


@pytest.mark.parametrize("total", [1, 5, 24, 31])
def test_the_candidate_budget_is_a_hard_total_over_sessions(tmp_path, total):
    for _ in range(3):
        with open_store(tmp_path / "run") as store:
            LandscapeStudy(store).search(Budget(candidates=total)).run()
            assert len(candidates(store)) == total


@pytest.mark.parametrize("items", [1000, 1234])
def test_the_item_budget_is_never_exceeded_by_the_search(tmp_path, items):
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store).search(Budget(item_evaluations=items)).run()
        spent = sum(t.item_evaluations for t in store.trials())
        assert items - ITEMS_EACH < spent <= items
        again = len(store.trials())
        LandscapeStudy(store).search(Budget(item_evaluations=items)).run()
        assert len(store.trials()) == again


def test_sources_and_baselines_come_first(tmp_path):
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store).search(Budget(candidates=2)).run()
        names = [trial.name for trial in store.trials()]
    assert names == [
        "base", "e1", "e2", "e3", "uniform average", "task arithmetic", "ties",
        "candidate 1", "candidate 2",
    ]  # fmt: skip


def test_failed_candidates_are_recorded_with_their_reason_and_the_search_goes_on(tmp_path):
    evaluate = LandscapeEvaluate(
        lambda job: "too large" if job.number > PLAIN and job.number % 3 == 0 else None
    )
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store, evaluate=evaluate).search(Budget(candidates=30)).run()
        failed = [t for t in candidates(store) if t.status == "failed"]
        assert len(candidates(store)) == 30
        assert len(failed) == 10
        assert {t.failure for t in failed} == {Failed("evaluate", "too large")}
        assert all(t.number not in store.meta("finalists")["validation"] for t in failed)


def test_a_search_in_which_every_candidate_fails_ends_with_the_baselines(tmp_path):
    evaluate = LandscapeEvaluate(lambda job: "no" if job.number > PLAIN else None)
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store, evaluate=evaluate).search(Budget(candidates=30)).run()
        assert store.meta("finalists")["test"] == list(range(1, PLAIN + 1))


def test_a_search_stops_when_no_source_can_be_scored(tmp_path):
    evaluate = LandscapeEvaluate(lambda job: "broken harness")
    with (
        open_store(tmp_path / "run") as store,
        pytest.raises(TrialError, match=r"no source model could be scored.*broken harness"),
    ):
        LandscapeStudy(store, evaluate=evaluate).search(Budget(candidates=5)).run()


def test_a_recipe_scored_before_is_not_asked_again(tmp_path):
    with open_store(tmp_path / "run") as store:
        study = LandscapeStudy(store, first_baseline="task arithmetic")
        study.search(Budget(candidates=3)).run()
        baseline = next(t for t in store.trials() if t.name == "task arithmetic")
        first, *others = candidates(store)
        assert first.recipe.digest == baseline.recipe.digest
        assert first.estimates == baseline.estimates
        assert first.item_evaluations == 0
        assert [t.item_evaluations for t in others] == [ITEMS_EACH, ITEMS_EACH]


def test_finalists_answer_validation_items_and_only_the_undominated_ones_test_items(tmp_path):
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store).search(Budget(candidates=60)).run()
        finalists = store.meta("finalists")
        plain = list(range(1, PLAIN + 1))
        assert finalists["validation"][:PLAIN] == plain
        assert finalists["test"][:PLAIN] == plain
        assert 0 < len(finalists["validation"]) - PLAIN <= 6
        assert set(finalists["test"]) <= set(finalists["validation"])
        test_items = set(ITEMS["test"]["one"])
        for trial in store.trials():
            known = store.responses(trial.recipe.digest, "s", {"one": "v-one"})["one"]
            assert (set(known.items) >= test_items) == (trial.number in finalists["test"])


def test_a_changed_optimizer_is_noticed_and_nothing_is_lost(tmp_path):
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store, seed=3).search(Budget(candidates=10)).run()
        before = content(store)
        with pytest.raises(StoreError, match=r"no longer proposes.*warm-start"):
            LandscapeStudy(store, seed=4).search(Budget(candidates=12))
        assert content(store) == before


def test_a_genome_edited_in_the_database_is_noticed(tmp_path):
    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store).search(Budget(candidates=10)).run()
    with sqlite3.connect(tmp_path / "run" / "study.db") as db:
        db.execute(
            "UPDATE trials SET genome = json_set(genome, '$.lambda', 0.5) WHERE number = 12"
        )
    with (
        open_store(tmp_path / "run") as store,
        pytest.raises(StoreError, match="trial 12"),
    ):
        LandscapeStudy(store).search(Budget(candidates=12))


def test_an_observer_hears_of_every_recipe_scored(tmp_path):
    heard: list[Progress] = []

    class Listener(Observer):
        def progress(self, progress: Progress) -> None:
            heard.append(progress)

    with open_store(tmp_path / "run") as store:
        LandscapeStudy(store, observer=Listener()).search(Budget(candidates=20)).run()
    searched = [p for p in heard if p.phase == "search"]
    assert [p.done for p in searched] == list(range(1, 21))
    assert {p.total for p in searched} == {20}
    assert searched[-1].front


def test_a_finalist_that_fails_on_further_items_drops_out_and_the_study_ends(tmp_path):
    def fails(job):
        asked = set(job.items["one"])
        if job.number == 5 and asked & set(ITEMS["validation"]["one"]):
            return "overflow on one item"
        if job.number > PLAIN and asked & set(ITEMS["test"]["one"]):
            return "overflow on another"
        return None

    with open_store(tmp_path / "run") as store:
        study = LandscapeStudy(store, evaluate=LandscapeEvaluate(fails))
        study.search(Budget(candidates=30)).run()
        finalists = store.meta("finalists")
        assert store.meta("state") == "finished"
        assert 5 not in finalists["validation"]
        assert finalists["test"] == [n for n in range(1, PLAIN + 1) if n != 5]
        reasons = {(split, reason) for _, split, reason in store.meta("unscored")}
        assert ("validation", "overflow on one item") in reasons
        assert ("test", "overflow on another") in reasons


def test_with_one_objective_several_of_the_best_are_confirmed_on_validation(tmp_path):
    with open_store(tmp_path / "run", objectives(1)) as store:
        LandscapeStudy(store, "cma_es", {}, objectives(1)).search(Budget(candidates=30)).run()
        chosen = store.meta("finalists")["validation"][PLAIN:]
        values = {t.number: t.values[0] for t in candidates(store)}
        best = sorted(values, key=values.__getitem__, reverse=True)
        assert len(chosen) == 6
        assert set(best[:4]) <= set(chosen)  # the last places go by scores smoothed
        assert len(store.meta("finalists")["test"]) == PLAIN + 1


def test_a_search_that_only_repeats_itself_ends_without_a_candidate_limit(tmp_path):
    budget = Budget(item_evaluations=100_000)
    with open_store(tmp_path / "run") as store:
        study = LandscapeStudy(
            store,
            "random",
            space={
                "experts": {"weight": {"choice": [0.1]}},
                "merge": {"lambda": {"choice": [1.0, 2.0]}},
            },
        )
        reason = study.search(budget).run()
        assert "nothing new" in reason
        assert len(candidates(store)) < 250
        before = len(candidates(store))
        study.search(budget).run()
        assert len(candidates(store)) == before


def test_sources_that_workers_failed_at_are_asked_again_by_a_resumed_search(tmp_path):
    def lost(job):
        return Failed("worker", "held too much")

    aims = objectives(2)
    with StudyStore.create(tmp_path, meta(aims, {})) as store:
        study = LandscapeStudy(store, aims=aims, workers=lambda _: ShuffledWorkers(lost, 2, 0))
        with pytest.raises(TrialError, match="held too much"):
            study.search(Budget(candidates=5)).run()
        assert {t.status for t in store.trials()} == {"failed"}
        LandscapeStudy(store, aims=aims).search(Budget(candidates=5)).run()
        assert {t.status for t in store.trials()} == {"complete"}
        assert sum(t.kind == "candidate" for t in store.trials()) == 5


def test_sources_that_fail_by_themselves_stay_failed(tmp_path):
    aims = objectives(2)
    with StudyStore.create(tmp_path, meta(aims, {})) as store:
        broken = LandscapeEvaluate(fails=lambda job: "not finite")
        for _ in range(2):
            with pytest.raises(TrialError, match="not finite"):
                LandscapeStudy(store, aims=aims, evaluate=broken).search(Budget(5)).run()
        assert len(broken.jobs) == len(store.trials())
