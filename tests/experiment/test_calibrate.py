"""Calibrations from studies, matrices and sample logs, and searches that use them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from quickstart import ROOT, experiment

import evomerge
from evomerge.cli.main import main
from evomerge.core.errors import ConfigError, StoreError
from evomerge.experiment.calibrate import CalibrateOptions, calibrate
from evomerge.fitness.calibration_file import CalibrationFile, read_calibration
from evomerge.search.observer import Observer, Progress
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial

PLAIN = 6
"""Three sources and three baselines."""

COUNTS = {"search": 24, "validation": 4, "test": 4}
ACCURACY = {"maximize": "accuracy", "task": "town"}
LOGPROB = {"maximize": "gold_logprob", "task": "town"}
FACTOR = {"estimator": "factor", "items": {"search": 6, "validation": 4, "test": 4}}


def documents(split: str) -> list[dict]:
    text = (ROOT / "fitness/tasks/town" / f"{split}.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()[: COUNTS[split]]]
    return [
        {"question": r["prompt"], "choices": r["choices"], "answer": r["label"]} for r in rows
    ]


def write(folder: Path, *objectives: dict, **changes) -> Path:
    """An experiment on a few questions of the quickstart's towns."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        lines = "\n".join(map(json.dumps, documents(split)))
        (folder / f"{split}.jsonl").write_text(lines)
    files = {split: f"{split}.jsonl" for split in COUNTS}
    plain = experiment(
        **{
            "tasks": {"use": [{"name": "town", "jsonl": files}]},
            "objectives": list(objectives or [ACCURACY]),
            "fitness": FACTOR | {"calibration": "town.npz"},
            **changes,
        }
    )
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def trials_of(run_dir: Path) -> list[Trial]:
    with StudyStore.open(run_dir, read_only=True) as store:
        return store.trials()


def answers(run_dir: Path, trial: Trial, metric: str, items) -> list[float]:
    with StudyStore.open(run_dir, read_only=True) as store:
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        known = store.responses(trial.recipe.digest, store.meta("settings_digest"), versions)
    return list(known["town"].only([int(item) for item in items]).values[metric])


class Interrupting(Observer):
    """A user who stops the study after so many models."""

    def __init__(self, after: int) -> None:
        self._left = after

    def progress(self, progress: Progress) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def equal(one: CalibrationFile, other: CalibrationFile) -> bool:
    return (
        list(one.matrices) == list(other.matrices)
        and one.versions == other.versions
        and one.scales == other.scales
        and all(
            (m.models, m.items, m.families) == (o.models, o.items, o.families)
            and np.array_equal(m.values, o.values)
            for m, o in zip(one.matrices.values(), other.matrices.values(), strict=True)
        )
    )


# ---- from a study


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """The folder of an experiment with the calibration that it names."""
    folder = tmp_path_factory.mktemp("calibrated")
    path = write(folder, ACCURACY, LOGPROB)
    calibrate(path, CalibrateOptions(folder / "town.npz", merges=5))
    return folder


def test_sources_baselines_and_merges_answer_every_search_item(calibrated):
    file = read_calibration(calibrated / "town.npz")
    assert list(file.matrices) == [("town", "accuracy"), ("town", "gold_logprob")]
    study = calibrated / "town.npz.study"
    trials = trials_of(study)
    assert len(trials) == PLAIN + 5
    recipes = {trial.recipe.digest: trial for trial in reversed(trials)}
    first = sorted(recipes.values(), key=lambda trial: trial.number)
    for (task, metric), matrix in file.matrices.items():
        assert len(matrix.items) == COUNTS["search"]
        assert len(matrix.models) == len(first) > PLAIN
        assert matrix.models[:3] == ("source base", "source town", "source sort")
        raw = file.scale(task, metric).raw(matrix.values)
        for trial, row in zip(first, raw, strict=True):
            np.testing.assert_allclose(row, answers(study, trial, metric, matrix.items))
    assert set(np.unique(file.matrices["town", "accuracy"].values)) == {0.0, 1.0}


def test_an_interrupted_calibration_goes_on_and_ends_as_if_undisturbed(calibrated, tmp_path):
    path = write(tmp_path, ACCURACY, LOGPROB)
    out = tmp_path / "town.npz"
    for after in (2, 7):
        with pytest.raises(KeyboardInterrupt):
            calibrate(path, CalibrateOptions(out, merges=5, observer=Interrupting(after)))
        assert not out.exists()
    made = calibrate(path, CalibrateOptions(out, merges=5))
    assert equal(made, read_calibration(calibrated / "town.npz"))
    assert equal(made, read_calibration(out))


def test_a_calibration_is_enlarged_and_that_of_another_experiment_is_refused(tmp_path):
    path = write(tmp_path)
    out = tmp_path / "town.npz"
    small = calibrate(path, CalibrateOptions(out, merges=4)).matrices["town", "accuracy"]
    large = calibrate(path, CalibrateOptions(out, merges=7)).matrices["town", "accuracy"]
    assert len(trials_of(tmp_path / "town.npz.study")) == PLAIN + 7
    assert large.models[: len(small.models)] == small.models
    assert len(large.models) > len(small.models)
    content = out.read_bytes()
    with pytest.raises(StoreError, match=r"town.npz.study: .* differs in seed, objectives"):
        calibrate(write(tmp_path, LOGPROB, seed=8), CalibrateOptions(out, merges=7))
    assert out.read_bytes() == content


def test_only_means_of_item_scores_are_calibrated(tmp_path):
    others = (
        {"minimize": "forgetting", "task": "town", "reference": "town", "metric": "accuracy"},
        {"minimize": "parameters"},
    )
    out = tmp_path / "town.npz"
    made = calibrate(write(tmp_path, ACCURACY, *others), CalibrateOptions(out, merges=2))
    assert list(made.matrices) == [("town", "accuracy")]
    out.unlink()
    shutil.rmtree(tmp_path / "town.npz.study")
    with pytest.raises(ConfigError, match="no objective is a mean of item scores"):
        calibrate(write(tmp_path, *others), CalibrateOptions(out, merges=2))
    assert not out.exists()


# ---- searches that use it


def test_a_search_with_a_calibration_asks_candidates_the_chosen_items_alone(
    calibrated, tmp_path
):
    out = tmp_path / "run"
    evomerge.run(calibrated / "experiment.yaml", out=out)
    trials = trials_of(out)
    own = [t for t in trials if t.kind == "candidate" and t.item_evaluations]
    assert [t.item_evaluations for t in trials[:PLAIN]] == [COUNTS["search"]] * PLAIN
    assert {t.item_evaluations for t in own} == {6}
    assert all(e.standard_error > 0 for t in own for e in t.estimates)
    assert all(0 <= t.values[0] <= 1 and t.values[1] < 0 for t in trials)


def test_a_run_moved_with_its_calibration_finds_it_and_one_without_says_what_is_missing(
    calibrated, tmp_path
):
    there = tmp_path / "there"
    path = write(there, ACCURACY, LOGPROB, budget={"candidates": 7})
    shutil.copy(calibrated / "town.npz", there / "town.npz")
    undisturbed = evomerge.run(path, out=there / "whole").trials()
    evomerge.run(path, out=there / "runs" / "one", overrides={"budget.candidates": 4})
    there.rename(tmp_path / "here")
    run_dir = tmp_path / "here" / "runs" / "one"
    study = evomerge.resume(run_dir, add=3)
    columns = ["name", "accuracy on town", "gold_logprob on town"]
    assert study.trials()[columns].equals(undisturbed[columns])
    (tmp_path / "here" / "town.npz").unlink()
    with pytest.raises(ConfigError, match=r"town\.npz: no such file; 'evomerge calibrate'"):
        evomerge.resume(run_dir, add=1)


def test_changed_questions_make_a_calibration_useless_and_that_is_told(calibrated, tmp_path):
    path = write(tmp_path)
    shutil.copy(calibrated / "town.npz", tmp_path / "town.npz")
    lines = (tmp_path / "search.jsonl").read_text().splitlines()
    (tmp_path / "search.jsonl").write_text("\n".join(lines[::-1]))
    with pytest.raises(ConfigError, match=r"another version of task town.*calibrate again"):
        evomerge.run(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_calibration_that_lacks_a_metric_is_told_before_a_model_is_scored(tmp_path):
    path = write(tmp_path)
    matrix = write_matrix(tmp_path / "town.csv", range(COUNTS["search"]))
    calibrate(path, CalibrateOptions(tmp_path / "town.npz", {"town": matrix}))
    path = write(tmp_path, LOGPROB)
    with pytest.raises(ConfigError, match="unknown matrix 'gold_logprob of town'"):
        evomerge.run(path, out=tmp_path / "run")
    assert trials_of(tmp_path / "run") == []


# ---- from matrices and logs


def pool(models: int = 9, items: int = COUNTS["search"], seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=(models, 1)) - rng.normal(size=items)
    return (rng.random((models, items)) < 1 / (1 + np.exp(-logit))).astype(int)


def write_matrix(path: Path, items) -> Path:
    rows = [f"model,{','.join(map(str, items))}"]
    values = pool(items=len(items))
    rows += [f"m{k},{','.join(map(str, row))}" for k, row in enumerate(values.tolist())]
    path.write_text("\n".join(rows))
    return path


def test_a_matrix_of_other_models_makes_a_calibration_that_a_search_works_with(tmp_path):
    path = write(tmp_path, budget={"candidates": 5})
    matrix = write_matrix(tmp_path / "pool.csv", range(COUNTS["search"]))
    made = calibrate(path, CalibrateOptions(tmp_path / "town.npz", {"town": matrix}))
    assert not (tmp_path / "town.npz.study").exists()
    np.testing.assert_array_equal(made.matrices["town", "accuracy"].values, pool())
    evomerge.run(path, out=tmp_path / "run")
    asked = {t.item_evaluations for t in trials_of(tmp_path / "run") if t.kind == "candidate"}
    assert asked <= {0, 6}


def write_log(folder: Path, task: str, rows: list[dict]) -> None:
    """A log as ``lm_eval --log_samples`` names it."""
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"samples_{task}_2026-01-01T00-00-00.jsonl").write_text(lines)


def test_sample_logs_make_a_calibration_by_the_documents_content(tmp_path):
    path = write(tmp_path)
    everything = [row for split in COUNTS for row in documents(split)]
    shown = everything[::-1]
    values = pool(items=len(shown))
    for model, row in enumerate(values.tolist()):
        rows = [
            {"doc_id": k, "doc": doc, "filter": "none", "metrics": ["acc"], "acc": float(right)}
            for k, (doc, right) in enumerate(zip(shown, row, strict=True))
        ]
        write_log(tmp_path / "logs" / f"m{model}", "town", rows)
    options = CalibrateOptions(tmp_path / "town.npz", samples=(tmp_path / "logs",))
    matrix = calibrate(path, options).matrices["town", "accuracy"]
    assert matrix.models == tuple(f"m{k}" for k in range(9))
    assert matrix.items == tuple(map(str, range(len(shown))))
    np.testing.assert_array_equal(matrix.values, values[:, ::-1])


# ---- what is wrong


@pytest.mark.parametrize(
    ("matrices", "told"),
    [
        ({"twon": "pool.csv"}, "--matrix twon: unknown task 'twon'; did you mean 'town'?"),
        ({"town": "gone.csv"}, "gone.csv: no such file"),
        ({"town": "experiment.yaml"}, "unknown kind of file '.yaml'"),
        ({"town": "far.csv"}, "item '32' is none of the task's (8 such)"),
        ({"town": "names.csv"}, "item 'first' is none of the task's (1 such)"),
    ],
)
def test_a_matrix_that_does_not_fit_is_told(tmp_path, matrices, told):
    path = write(tmp_path)
    write_matrix(tmp_path / "pool.csv", range(24))
    write_matrix(tmp_path / "far.csv", range(40))
    write_matrix(tmp_path / "names.csv", ["first", *range(1, 24)])
    places = {task: tmp_path / name for task, name in matrices.items()}
    with pytest.raises(ConfigError) as caught:
        calibrate(path, CalibrateOptions(tmp_path / "town.npz", places))
    assert told in str(caught.value)
    assert not (tmp_path / "town.npz").exists()


def test_one_matrix_for_two_metrics_is_refused(tmp_path):
    path = write(tmp_path, ACCURACY, LOGPROB)
    matrix = write_matrix(tmp_path / "pool.csv", range(24))
    with pytest.raises(ConfigError, match=r"holds one metric.*accuracy and gold_logprob"):
        calibrate(path, CalibrateOptions(tmp_path / "town.npz", {"town": matrix}))


def test_a_task_without_a_matrix_is_told(tmp_path):
    both = [{"name": name, "jsonl": "search.jsonl"} for name in ("town", "other")]
    path = write(tmp_path, ACCURACY, ACCURACY | {"task": "other"}, tasks={"use": both})
    matrix = write_matrix(tmp_path / "pool.csv", range(24))
    with pytest.raises(ConfigError, match="--matrix: none for task other"):
        calibrate(path, CalibrateOptions(tmp_path / "town.npz", {"town": matrix}))


def test_logs_without_the_task_are_told(tmp_path):
    path = write(tmp_path)
    write_log(tmp_path / "logs" / "m", "city", [])
    options = CalibrateOptions(tmp_path / "town.npz", samples=(tmp_path / "logs",))
    with pytest.raises(ConfigError, match="unknown task 'town'"):
        calibrate(path, options)


def test_a_folder_that_is_not_there_is_told_before_anything_is_done(tmp_path):
    with pytest.raises(ConfigError, match=r"--out .*gone/town.npz: the folder .*gone is not"):
        calibrate(tmp_path / "none.yaml", CalibrateOptions(tmp_path / "gone" / "town.npz"))


# ---- the command


def called(capfd, *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0), *capfd.readouterr()


def test_the_command_writes_the_file_and_says_how_to_use_it(capfd, tmp_path):
    path = write(tmp_path)
    matrix = write_matrix(tmp_path / "pool.csv", range(24))
    out = tmp_path / "town.npz"
    code, shown, errors = called(
        capfd, "calibrate", path, "--out", out, "--matrix", f"town={matrix}"
    )
    assert code == 0, errors
    assert "accuracy of town: 9 models × 24 items" in shown
    assert f"wrote {out}" in shown
    assert list(read_calibration(out).matrices) == [("town", "accuracy")]
    code, shown, errors = called(capfd, "validate", path)
    assert code == 0, errors


def test_the_command_scores_merges_where_no_answers_are_given(capfd, tmp_path):
    path = write(tmp_path)
    out = tmp_path / "town.npz"
    code, shown, errors = called(
        capfd, "calibrate", path, "--out", out, "--merges", 2, "-o", "seed=6"
    )
    assert code == 0, errors
    assert "× 24 items" in shown
    assert len(trials_of(tmp_path / "town.npz.study")) == PLAIN + 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--matrix", "town"], 2, "--matrix town: expected NAME=PLACE"),
        (["--matrix", "town=gone.csv"], 2, "gone.csv: no such file"),
        (["--samples", "/nowhere"], 2, "/nowhere"),
        (["--merges", "0"], 2, "--merges"),
        (["-o", "tasks.usee=[]"], 2, "did you mean 'use'"),
    ],
)
def test_the_command_tells_wrong_arguments(capfd, tmp_path, arguments, code, told):
    path = write(tmp_path)
    out = tmp_path / "town.npz"
    found, _, errors = called(capfd, "calibrate", path, "--out", out, *arguments)
    assert found == code
    assert told in errors
    assert "Traceback" not in errors
    assert not out.exists()


def test_the_command_tells_a_missing_experiment(capfd, tmp_path):
    code, _, errors = called(
        capfd, "calibrate", tmp_path / "gone.yaml", "--out", tmp_path / "x.npz"
    )
    assert code == 2
    assert "gone.yaml" in errors
