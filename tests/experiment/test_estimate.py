"""The estimate of a run against the run itself."""

import pytest
from quickstart import ZOO, write_experiment

import evomerge
from evomerge.core.errors import TrialError
from evomerge.experiment.estimate import estimate
from evomerge.store.study_store import StudyStore

RACE = {
    "items": {"search": [4, 20], "validation": 10, "test": 12},
    "finalists": 3,
}


def spent(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        return store.count_responses(store.meta("asks"))


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"candidates": 20}},
        {"budget": {"candidates": 20}, "fitness": RACE},
        {"budget": {"item_evaluations": 700}},
    ],
    ids=["fixed", "race", "items"],
)
def test_a_run_spends_between_least_and_most(tmp_path, changes):
    file = write_experiment(tmp_path, **changes)
    found = estimate(file, (), offline=True)
    study = evomerge.run(file, out=tmp_path / "run")
    least, most = found.item_evaluations
    # Candidates that repeat a baseline cost nothing: two at most, which the space can express.
    assert least - 3 * (20 + 10 + 12) * 2 <= spent(study.path) <= most
    size = (study.path / "study.db").stat().st_size
    assert size / 3 < found.database + 50_000 < 4 * size
    candidates = next(p.models for p in found.phases if p.name == "search")
    with StudyStore.open(study.path, read_only=True) as store:
        asked = sum(t.kind == "candidate" for t in store.trials())
    assert abs(candidates - asked) <= 3


def test_more_workers_share_the_work_and_take_more_memory(tmp_path):
    file = write_experiment(tmp_path)
    found = estimate(file, ("workers.count=4",), offline=True)
    work = sum(p.models * found.merge + p.most * found.item for p in found.phases)
    assert found.seconds[1] == pytest.approx(found.loading + work / 4)
    assert found.worker_memory > 50 * 2**20
    weights = sum(
        (ZOO / n / "model.safetensors").stat().st_size for n in ("base", "town", "sort")
    )
    assert found.shared_memory == pytest.approx(weights, rel=0.02)
    assert found.exported == pytest.approx(weights / 3, rel=0.02)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_time_budget_tells_how_many_candidates_fit(tmp_path, workers):
    file = write_experiment(tmp_path, budget={"minutes": 10})
    found = estimate(file, (f"workers.count={workers}",), offline=True)
    plain, search = found.phases[:2]
    taken = sum(p.models * found.merge + p.most * found.item for p in (plain, search))
    assert taken == pytest.approx(600 * workers, rel=0.01)


def test_a_space_whose_middle_cannot_be_scored_says_why(tmp_path):
    (tmp_path / "judge.py").write_text(
        "def score(model, tokenizer, items):\n    raise ValueError('no opinion')\n"
    )
    file = write_experiment(
        tmp_path,
        tasks={"use": [{"name": "judge", "score": "judge:score", "items": 80}]},
        objectives=[{"maximize": "score", "task": "judge"}],
    )
    with pytest.raises(TrialError, match=r"nothing could be timed: .*no opinion"):
        estimate(file, (), offline=True)
