import io

import pandas as pd
import pytest

from evomerge.report.frames import front_frame, trials_frame
from evomerge.report.summary import summarize
from evomerge.store.study_store import StudyStore


def test_the_trials_frame_has_one_row_a_trial_with_scores_genes_and_reasons(build):
    with StudyStore.open(build(candidates=12, failed=3, open=2), read_only=True) as store:
        frame, trials = trials_frame(store), store.trials()
    assert frame["number"].tolist() == [t.number for t in trials]
    for trial, (_, row) in zip(trials, frame.iterrows(), strict=True):
        assert (row["kind"], row["name"], row["status"]) == (
            trial.kind,
            trial.name,
            trial.status,
        )
        if trial.status == "complete":
            assert row["accuracy on sum"] == trial.values[1]
            assert row["accuracy on sum s.e."] == trial.estimates[1].standard_error
            assert row["merge s"] == 0.4
        if trial.status == "failed":
            assert row["reason"] == trial.failure.reason
            assert pd.isna(row["accuracy on sum"])
        for name, value in (trial.genome or {}).items():
            assert row[f"gene {name}"] == value


@pytest.mark.parametrize("finals", [True, False])
def test_the_front_frame_lists_the_result_in_order_and_survives_csv(build, finals):
    run_dir = build(finals=finals, state="finished" if finals else "interrupted")
    with StudyStore.open(run_dir, read_only=True) as store:
        frame, summary = front_frame(store), summarize(store)
    assert frame["number"].tolist() == [m.trial.number for m in summary.result]
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    assert ("test accuracy on sort" in frame) == finals
    back = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        back[["number", "accuracy on sort"]], frame[["number", "accuracy on sort"]]
    )


def test_frames_of_a_study_without_candidates_have_columns_and_no_front(build):
    with StudyStore.open(build(candidates=0, finals=False), read_only=True) as store:
        assert len(trials_frame(store)) == 3
        front = front_frame(store)
    assert len(front) == 0
    assert "accuracy on sort" in front
