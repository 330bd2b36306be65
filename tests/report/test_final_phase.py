import numpy as np
import pytest
from report.study_builder import Builder, Plan

from evomerge.core.pareto import hypervolume
from evomerge.core.responses import ItemResponses
from evomerge.report.final_phase import TOGETHER, trial_scores
from evomerge.report.summary import summarize
from evomerge.store.study_store import StudyStore


def opened(run_dir):
    return StudyStore.open(run_dir, read_only=True)


def answers_to(store, trial, task, split):
    items = store.meta("items")[split][task]
    banks = {t: bank["version"] for t, bank in store.meta("banks").items()}
    known = store.responses(trial.recipe.digest, store.meta("settings_digest"), banks)
    return np.array(known[task].only(items).values["accuracy"])


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_test_scores_are_means_of_the_test_items_with_their_standard_error(build, objectives):
    with opened(build(objectives=objectives)) as store:
        summary = summarize(store)
        for row in summary.final.rows:
            for k, objective in enumerate(summary.objectives):
                (task,) = objective.tasks
                answers = answers_to(store, row.trial, task, "test")
                assert row.test[k].value == pytest.approx(answers.mean())
                assert row.test[k].standard_error == pytest.approx(
                    answers.std(ddof=1) / np.sqrt(len(answers))
                )


def test_differences_are_paired_with_the_best_source_of_each_objective(build):
    with opened(build(candidates=40)) as store:
        final = summarize(store).final
        for k, task in enumerate(("sort", "sum")):
            best = answers_to(store, final.best_sources[k], task, "test")
            for row in final.rows:
                paired = answers_to(store, row.trial, task, "test") - best
                interval = row.differences[k]
                assert interval.value == pytest.approx(paired.mean())
                error = paired.std() / np.sqrt(len(paired))
                assert interval.low == pytest.approx(paired.mean() - 1.96 * error, abs=0.02)
                assert interval.high == pytest.approx(paired.mean() + 1.96 * error, abs=0.02)


@pytest.mark.parametrize(("gain", "seed"), [(0.35, 3), (0.35, 5), (-0.2, 5)])
def test_one_objective_has_one_interval_for_each_difference(build, gain, seed):
    sizes = {"search": 40, "validation": 60, "test": 30}
    run_dir = build(objectives=1, candidates=20, gain=gain, seed=seed, sizes=sizes)
    with opened(run_dir) as store:
        final = summarize(store).final
    (best,) = final.best_sources
    (against,) = [c for c in final.comparisons if c.name == best.name]
    (told,) = [r.differences[0] for r in final.candidates if r.trial == final.chosen[0]]
    assert len(final.candidates) == 1
    assert (told.value, told.low, told.high) == pytest.approx(
        (against.difference.value, against.difference.low, against.difference.high), abs=1e-9
    )


def test_the_best_source_is_chosen_on_validation_not_on_test_items(build):
    with opened(build(candidates=40)) as store:
        final = summarize(store).final
        sources = [t for t in store.trials() if t.kind == "source"]
        for k, task in enumerate(("sort", "sum")):
            by_validation = max(
                sources, key=lambda t: answers_to(store, t, task, "validation").mean()
            )
            assert final.best_sources[k].number == by_validation.number


def test_the_candidate_named_per_objective_is_chosen_on_validation_items(build):
    with opened(build(candidates=60)) as store:
        final = summarize(store).final
        for k in range(2):
            best = max(final.candidates, key=lambda row: row.validation[k].value)
            assert final.chosen[k].number == best.trial.number


def test_volumes_of_the_front_and_of_each_opponent_share_one_reference(build):
    with opened(build(candidates=40)) as store:
        summary = summarize(store)
    final = summary.final
    reference = -np.array(final.reference)
    losses = {r.trial.name: [-e.value for e in r.test] for r in final.rows}
    front = np.array([losses[r.trial.name] for r in final.candidates])
    plain = {n: v for n, v in losses.items() if not n.startswith("candidate")}
    assert final.volume == pytest.approx(hypervolume(front, reference))
    assert [c.name for c in final.comparisons] == [*plain, TOGETHER]
    for comparison in final.comparisons:
        members = (
            list(plain.values()) if comparison.name == TOGETHER else [plain[comparison.name]]
        )
        volume = hypervolume(np.array(members), reference)
        assert comparison.volume == pytest.approx(volume)
        assert comparison.difference.value == pytest.approx(final.volume - volume)
        assert comparison.difference.low < comparison.difference.high


def test_an_objective_without_a_task_keeps_its_value_and_has_no_interval(build):
    with opened(build(parameters=True)) as store:
        final = summarize(store).final
    for row in final.rows:
        assert row.test[2].value == row.trial.values[2]
        difference = row.differences[2]
        assert difference.low == difference.value == difference.high


def test_a_finalist_without_all_test_responses_is_left_out_and_named(build):
    run_dir = build(candidates=30)
    with StudyStore.open(run_dir) as store:
        finalists = store.meta("finalists")
        outsider = next(
            t
            for t in store.trials()
            if t.kind == "candidate" and t.number not in finalists["validation"]
        )
        finalists["test"].append(outsider.number)
        store.set_meta("finalists", finalists)
        final = summarize(store).final
    assert final.unscored == (outsider.name,)
    assert outsider.number not in [row.trial.number for row in final.rows]


def test_the_same_study_gives_the_same_intervals(build):
    run_dir = build()
    with opened(run_dir) as store:
        first, second = summarize(store).final, summarize(store).final
    assert first == second


def test_many_equal_candidates_are_not_called_better_than_few_equal_baselines(tmp_path):
    """With percentile intervals about half of these studies would claim a win."""

    class Equal(Builder):  # with percentile intervals half of these studies would claim a win
        def skill(self, weights, density=0.5):
            return dict.fromkeys(self.tasks, 0.6)

        def responses(self, skill, split):
            return {
                task: ItemResponses(
                    ids,
                    {
                        "accuracy": tuple(
                            float(x < 0.6)
                            for x in 0.5 * self.difficulty[task][list(ids)]
                            + 0.5 * self.rng.random(len(ids))
                        )
                    },
                )
                for task, ids in self.items[split].items()
            }

    claims = 0
    for seed in range(12):
        plan = Plan(
            candidates=30, seed=seed, sizes={"search": 10, "validation": 10, "test": 100}
        )
        run_dir = Equal(plan).write(tmp_path / str(seed))
        with opened(run_dir) as store:
            claims += summarize(store).judgement.tone == "better"
    assert claims <= 2


def test_a_clear_win_is_called_one(build):
    sizes = {"search": 60, "validation": 100, "test": 400}
    with opened(build(candidates=60, gain=0.8, sizes=sizes)) as store:
        summary = summarize(store)
    assert summary.judgement.tone == "better"
    assert (
        "beats the source models and baselines in hypervolume on 800 untouched test items"
        in summary.verdict
    )
    assert summary.final.comparisons[-1].difference.low > 0


@pytest.mark.parametrize("objectives", [1, 2])
def test_no_win_on_test_items_is_said_plainly(build, objectives):
    with opened(build(objectives=objectives, gain=-0.6)) as store:
        verdict = summarize(store).judgement
    assert verdict.tone == "not better"
    assert verdict.sentence.startswith("No candidate beats the source models and baselines on")


def test_one_objective_is_compared_by_its_score_not_by_hypervolume(build):
    with opened(build(objectives=1, candidates=40)) as store:
        summary = summarize(store)
    assert "hypervolume" not in summary.verdict
    rows = summary.final.rows
    best = max(row.test[0].value for row in rows if row.trial.kind != "candidate")
    difference = rows[0].test[0].value - best
    assert summary.final.comparisons[-1].difference.value == pytest.approx(difference)


def test_scores_of_a_trial_are_given_by_objective_and_split(build):
    with opened(build()) as store:
        final_number = store.meta("finalists")["test"][-1]
        scores = trial_scores(store, store.trial(final_number))
        others = [t for t in store.trials() if t.number not in store.meta("finalists")["test"]]
        dominated = trial_scores(store, others[0])
    assert list(scores) == ["accuracy on sort", "accuracy on sum"]
    assert list(scores["accuracy on sort"]) == ["search", "validation", "test"]
    assert "test" not in dominated["accuracy on sort"]
