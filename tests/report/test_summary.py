from dataclasses import replace

import numpy as np
import pytest

from evomerge.core.errors import StoreError
from evomerge.core.pareto import hypervolume, reference_point
from evomerge.report.search_phase import balanced
from evomerge.report.summary import summarize
from evomerge.store.session_log import Session
from evomerge.store.study_store import StudyStore


def summary_of(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        return summarize(store)


def stored(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        return store.trials()


def signed(summary, trials):
    signs = np.array([o.sign for o in summary.objectives])
    return np.array([t.values for t in trials]) * signs


def dominates(a, b):
    return (a <= b).all() and (a < b).any()


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_the_front_is_what_pairwise_comparison_gives(build, objectives):
    run_dir = build(objectives=objectives, candidates=40)
    summary = summary_of(run_dir)
    candidates = [t for t in stored(run_dir) if t.kind == "candidate"]
    points = signed(summary, candidates)
    expected = {tuple(p) for p in points if not any(dominates(other, p) for other in points)}
    found = signed(summary, [m.trial for m in summary.front])
    assert {tuple(p) for p in found} == expected
    assert len(found) == len(expected), "equal points are listed once"
    assert [m.trial.number for m in summary.front] == [
        m.trial.number
        for m in sorted(summary.front, key=lambda m: tuple(signed(summary, [m.trial])[0]))
    ]


def test_front_members_name_the_baselines_that_match_or_dominate_them(build):
    run_dir = build(gain=-0.5, candidates=40)
    summary = summary_of(run_dir)
    with StudyStore.open(run_dir) as store:
        store.set_meta("state", "interrupted")
    plain = [t for t in stored(run_dir) if t.kind != "candidate"]
    for member in summary_of(run_dir).front:
        point = signed(summary, [member.trial])[0]
        assert member.beaten_by == tuple(
            t.name for t in plain if (signed(summary, [t])[0] <= point).all()
        )


def test_baselines_on_the_joint_front_are_undominated_by_every_trial(build):
    run_dir = build(gain=-0.2, candidates=40)
    summary = summary_of(run_dir)
    points = signed(summary, stored(run_dir))
    for trial in summary.plain_on_front:
        own = signed(summary, [trial])[0]
        assert trial.kind != "candidate"
        assert not any(dominates(p, own) for p in points)


def test_counts_add_up_to_what_was_asked(build):
    run_dir = build(candidates=30, failed=6, open=4, finals=False, state="running")
    counts = summary_of(run_dir).counts
    assert (counts.asked, counts.complete, counts.failed, counts.open) == (30, 20, 6, 4)
    assert (counts.sources, counts.baselines) == (2, 1)
    assert counts.item_evaluations == (20 + 3) * 2 * 40
    assert dict(counts.stage_seconds) == pytest.approx(
        {"merge": 23 * 0.4, "evaluate": 23 * 1.2}
    )


def test_failures_are_grouped_by_reason_most_frequent_first(build):
    failures = summary_of(build(failed=7)).failures
    assert [(f.stage, len(f.trials)) for f in failures] == [("merge", 4), ("evaluate", 3)]
    assert "not finite" in failures[0].reason


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_hypervolume_history_uses_one_reference_fixed_by_sources_and_baselines(
    build, objectives
):
    run_dir = build(objectives=objectives, candidates=25, finals=False)
    summary = summary_of(run_dir)
    trials = stored(run_dir)
    plain = signed(summary, [t for t in trials if t.kind != "candidate"])
    points = signed(summary, [t for t in trials if t.kind == "candidate"])
    reference = reference_point(plain)
    np.testing.assert_allclose(summary.volume.reference, reference)
    expected = [hypervolume(points[:n], reference) for n in range(1, 26)]
    np.testing.assert_allclose(summary.history.volumes, expected, rtol=1e-9)
    assert summary.history.baseline_volume == pytest.approx(hypervolume(plain, reference))


def test_best_so_far_follows_the_order_in_which_candidates_finished(build):
    run_dir = build(candidates=20, parameters=True)
    summary = summary_of(run_dir)
    done = sorted(
        (t for t in stored(run_dir) if t.kind == "candidate"), key=lambda t: t.finished_at
    )
    values = np.array([t.values for t in done])
    for n in range(len(done)):
        assert summary.history.best[n, 0] == values[: n + 1, 0].max()
        assert summary.history.best[n, 2] == values[: n + 1, 2].min()


def test_bests_are_the_best_in_each_objectives_own_direction(build):
    run_dir = build(candidates=20, parameters=True)
    best = summary_of(run_dir).bests
    candidates = [t for t in stored(run_dir) if t.kind == "candidate"]
    assert best[0].candidate.values[0] == max(t.values[0] for t in candidates)
    assert best[2].candidate.values[2] == min(t.values[2] for t in candidates)
    assert best[2].baseline.kind != "candidate"


def test_the_balanced_point_has_the_smallest_largest_shortfall():
    points = np.array([[0.0, 1.0], [0.4, 0.5], [1.0, 0.0]])
    assert balanced(points) == 1
    assert balanced(points[:0]) is None


def test_a_study_without_candidates_says_so(build):
    summary = summary_of(build(candidates=0, finals=False, state="running"))
    assert summary.verdict == "No candidate has been scored yet."
    assert summary.front == ()
    assert summary.counts.candidates_per_minute is None


def test_a_study_whose_candidates_all_failed_names_the_reason(build):
    summary = summary_of(build(candidates=9, failed=9, finals=False))
    assert summary.verdict.startswith("All 9 finished candidates failed")
    assert "not finite" in summary.judgement.details[0]
    assert summary.front == ()


def test_no_win_on_search_items_is_said_plainly(build):
    summary = summary_of(build(objectives=1, gain=-0.6, finals=False, state="interrupted"))
    assert summary.verdict == (
        "No candidate beats the source models and baselines on the search items."
    )


def test_a_lead_on_search_items_is_called_unconfirmed(build):
    summary = summary_of(build(candidates=60, finals=False, state="interrupted"))
    assert "not confirmed on test items" in summary.verdict
    assert summary.final is None
    assert summary.result == summary.front
    assert summary.result_kind == "search front"


def test_finalists_of_before_an_extension_do_not_count(build):
    run_dir = build(state="running")
    with StudyStore.open(run_dir, read_only=True) as store:
        assert store.meta("finalists")
    assert summary_of(run_dir).final is None


def test_the_result_of_a_finished_study_is_the_final_front(build):
    run_dir = build(candidates=60)
    summary = summary_of(run_dir)
    with StudyStore.open(run_dir, read_only=True) as store:
        finalists = set(store.meta("finalists")["test"])
    kinds = {t.number: t.kind for t in stored(run_dir)}
    expected = {n for n in finalists if kinds[n] == "candidate"}
    assert {m.trial.number for m in summary.result} == expected
    assert summary.balanced in expected


def test_a_database_without_objectives_is_refused(tmp_path):
    StudyStore.create(tmp_path, {"name": "empty"}).close()
    with pytest.raises(StoreError, match="objectives"):
        summary_of(tmp_path)


def test_time_between_sessions_does_not_slow_the_rate(build):
    from evomerge.report.search_phase import count
    from evomerge.report.study_facts import read_facts

    run_dir = build(candidates=10, finals=False)
    with StudyStore.open(run_dir, read_only=True) as store:
        facts = read_facts(store)
    start = facts.of_kind("candidate")[0].asked_at
    late = [
        replace(t, asked_at=t.asked_at + 3600, finished_at=t.finished_at + 3600)
        if t.number > 8
        else t
        for t in facts.trials
    ]
    ends = max(t.finished_at for t in facts.trials if t.number <= 8)
    sessions = (
        Session(1, start, ends, None, ends - start, None, {}),  # killed
        Session(2, ends + 3600, ends + 3600, late[-1].finished_at, 1.0, "done", {}),
    )
    together = replace(
        facts,
        sessions=(Session(1, start, start, facts.trials[-1].finished_at, 1.0, "done", {}),),
    )
    paused = replace(facts, trials=tuple(late), sessions=sessions)
    assert count(paused).candidates_per_minute == pytest.approx(
        count(together).candidates_per_minute, rel=0.01
    )
