import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fitness.lm_eval_logs import (
    log_samples,
    metric_list,
    rows_of,
    the_log,
    write_lm_eval_task,
    write_rows,
)

from evomerge.core.errors import ConfigError
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.sample_logs import find_sample_logs, read_sample_logs

MODELS = ("one", "two", "three")
FEWER = 4

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}} ? Answer :",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": metric_list("acc", "acc_norm"),
}


def written(name: str, group: int) -> dict:
    pattern = {"function": "regex", "regex_pattern": r"([A-Za-z]+)", "group_select": group}
    return {"name": name, "filter": [pattern, {"function": "take_first"}]}


@pytest.fixture
def home(tmp_path_factory, make_model, tokenizer, choices, sums) -> Path:
    """Task files in ``tasks``, models, and what lm-eval logged of them in ``out``."""
    home = tmp_path_factory.getbasetemp() / "sample_logs"
    if (home / "done").exists():
        return home
    shutil.rmtree(home, ignore_errors=True)
    rows = [{**row, "label": k % 4} for k, row in enumerate(choices(*range(10)))]
    write_lm_eval_task(home / "tasks", "choice", rows, **CHOICE)
    words = [{**row, "answer": ["plus", "What", "red"]} for row in sums(*range(10))]
    write_lm_eval_task(
        home / "tasks",
        "words",
        words,
        output_type="generate_until",
        doc_to_text="{{question}}",
        doc_to_target="answer",
        generation_kwargs={"do_sample": False, "max_gen_toks": 5, "until": ["\n"]},
        filter_list=[written("first", 0), written("last", -1)],
        metric_list=metric_list("exact_match"),
    )
    for seed, name in enumerate(MODELS):
        make_model(seed).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
        tasks = ["choice", "words"] if name != "three" else ["choice"]
        limit = FEWER if name == "two" else None
        log_samples(home / name, home / "tasks", tasks, home / "out", limit=limit)
    (home / "done").touch()
    return home


@pytest.fixture
def out(home, tmp_path) -> Path:
    """A copy of the logs that a test may change."""
    return Path(shutil.copytree(home / "out", tmp_path / "out"))


def folder_of(out: Path, model: str) -> Path:
    (folder,) = (f for f in out.iterdir() if f.name.endswith(f"__{model}"))
    return folder


def short(matrix) -> tuple[str, ...]:
    return tuple(Path(name).name for name in matrix.models)


def problems(*arguments, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_sample_logs(*arguments, **options)
    return caught.value.problems


def again(folder: Path, task: str, time: str, change=lambda row: row, drop: int = 0) -> Path:
    """A later run of the same model: the same log and results, with changed lines."""
    log = the_log(folder, task)
    stamp = log.name.removeprefix(f"samples_{task}_").removesuffix(".jsonl")
    rows = rows_of(log)[drop:]
    for row in rows:
        change(row)
    shutil.copy(folder / f"results_{stamp}.json", folder / f"results_{time}.json")
    write_rows(folder / f"samples_{task}_{time}.jsonl", rows)
    return folder / f"results_{time}.json"


LATER = "2099-01-01T00-00-00.000000"


def test_scores_are_those_of_lm_eval_with_models_by_their_names(home, make_model, tokenizer):
    matrix = read_sample_logs([home / "out"], "choice", "acc_norm")
    assert short(matrix) == MODELS
    assert matrix.items == tuple(map(str, range(10)))
    task = load_tasks([TaskSpec("choice")], [home / "tasks"])["choice"]
    for seed in range(2):
        scorer = ItemScorer({"choice": task}, make_model(seed), tokenizer)
        values = scorer.responses({"choice": tuple(range(10))})["choice"].values["acc_norm"]
        answered = 10 if seed == 0 else FEWER
        assert matrix.values[seed, :answered].tolist() == list(values[:answered])
        assert np.isnan(matrix.values[seed, answered:]).all()
    assert 0 < np.nansum(matrix.values) < 24


def test_items_are_the_banks_wherever_its_splits_put_them(home, tmp_path):
    rows = [json.loads(line) for line in (home / "tasks/choice/test.jsonl").open()]
    tasks = tmp_path / "tasks"
    write_lm_eval_task(tasks, "choice", rows[6:], **CHOICE)
    config = {**CHOICE, "training_split": "a", "validation_split": "b"}
    paths = {}
    for name, part in {"a": rows[:3][::-1], "b": rows[3:6], "test": rows[6:]}.items():
        paths[name] = str(tmp_path / f"{name}.jsonl")
        write_rows(Path(paths[name]), part)
    write_lm_eval_task(tasks, "choice", [], **config, dataset_kwargs={"data_files": paths})
    task = load_tasks([TaskSpec("choice")], [tasks])["choice"]
    plain = read_sample_logs([home / "out"], "choice", "acc")
    matrix = read_sample_logs([home / "out"], "choice", "acc", task)
    assert matrix.items == tuple(map(str, range(10)))
    order = [2, 1, 0, *range(3, 10)]
    assert np.array_equal(matrix.values, plain.values[:, order], equal_nan=True)


def test_items_of_equal_documents_are_told_apart_by_number(home, out, tmp_path):
    rows = [json.loads(line) for line in (home / "tasks/choice/test.jsonl").open()]
    rows[7] = rows[2]
    write_lm_eval_task(tmp_path / "tasks", "choice", rows, **CHOICE)
    task = load_tasks([TaskSpec("choice")], [tmp_path / "tasks"])["choice"]
    folder = folder_of(out, "one")
    logged = rows_of(the_log(folder, "choice"))
    logged[7] = {**logged[2], "doc_id": 7, "acc": 0.0}
    logged[2]["acc"] = 1.0
    write_rows(the_log(folder, "choice"), logged)
    matrix = read_sample_logs([folder], "choice", "acc", task)
    assert matrix.items == tuple(map(str, range(10)))
    assert matrix.values[0, [2, 7]].tolist() == [1, 0]


def test_accuracy_means_what_counts_as_such(home):
    choice = read_sample_logs([home / "out"], "choice", "accuracy")
    assert np.array_equal(
        choice.values, read_sample_logs([home / "out"], "choice", "acc").values, equal_nan=True
    )
    words = read_sample_logs([home / "out"], "words", "accuracy")
    assert short(words) == ("one", "two")


def test_a_metric_belongs_to_the_first_filter_unless_another_is_named(home):
    rows = rows_of(the_log(folder_of(home / "out", "one"), "words"))
    by_filter = {
        name: [row["exact_match"] for row in rows if row["filter"] == name]
        for name in ("first", "last")
    }
    assert by_filter["first"] != by_filter["last"]
    for metric, name in {
        "exact_match": "first",
        "exact_match,first": "first",
        "exact_match,last": "last",
    }.items():
        matrix = read_sample_logs([home / "out"], "words", metric)
        assert matrix.values[0].tolist() == by_filter[name]


def test_of_two_runs_the_newer_answers_count_and_the_older_fill_in(out):
    folder = folder_of(out, "one")
    before = read_sample_logs([folder], "choice", "acc").values[0]
    again(folder, "choice", LATER, lambda row: row.update(acc=1 - row["acc"]), drop=6)
    after = read_sample_logs([folder], "choice", "acc").values
    assert after.shape == (1, 10)
    assert after[0].tolist() == [*before[:6], *(1 - before[6:])]


def test_runs_that_were_set_up_differently_are_refused(out):
    results = again(folder_of(out, "one"), "choice", LATER)
    plain = json.loads(results.read_text())
    plain["config"]["model_args"]["dtype"] = "float16"
    results.write_text(json.dumps(plain))
    (problem,) = problems([out], "choice", "acc")
    assert "that differ in model_args" in problem
    assert "keep the one that is meant" in problem


def test_models_that_were_asked_differently_are_refused(out):
    results = next(folder_of(out, "two").glob("results_*.json"))
    plain = json.loads(results.read_text())
    plain["configs"]["choice"]["num_fewshot"] = 5
    results.write_text(json.dumps(plain))
    (problem,) = problems([out], "choice", "acc")
    assert "in different ways: num_fewshot (5 and 0)" in problem


def test_a_model_without_results_is_called_like_its_folder(out):
    folder = folder_of(out, "one")
    next(folder.glob("results_*.json")).unlink()
    renamed = folder.rename(out / "my-model")
    assert "my-model" in read_sample_logs([out], "choice", "acc").models
    assert [
        log.model for log in find_sample_logs([renamed / the_log(renamed, "words").name])
    ] == ["my-model"]


def test_documents_that_differ_between_models_are_refused(out):
    def change(row):
        row["doc"]["question"] += "!"
        row["doc_hash"] = "0" + row["doc_hash"]

    folder = folder_of(out, "three")
    rows = rows_of(the_log(folder, "choice"))
    for row in rows[:6]:
        change(row)
    write_rows(the_log(folder, "choice"), rows)
    (problem,) = problems([out], "choice", "acc")
    assert problem.startswith(f"{the_log(folder, 'choice')}:1: its document is not the one")
    assert "and 3 more" in problem


def test_documents_that_are_not_in_the_bank_are_refused(home, tmp_path):
    rows = [json.loads(line) for line in (home / "tasks/choice/test.jsonl").open()]
    rows[4]["question"] += "!"
    write_lm_eval_task(tmp_path / "tasks", "choice", rows, **CHOICE)
    task = load_tasks([TaskSpec("choice")], [tmp_path / "tasks"])["choice"]
    (problem,) = problems([home / "out"], "choice", "acc", task)
    assert ":5: its document is none of task choice's" in problem
    assert "(doc_id 4)" in problem


def test_lines_that_are_no_samples_are_told(out):
    log = the_log(folder_of(out, "one"), "choice")
    log.write_text("{\n" + log.read_text() + '{"doc_id": "a"}\n')
    broken, strange = problems([out], "choice", "acc")
    assert f"{log}:1: not JSON" in broken
    assert f"{log}:12: no doc_id and doc" in strange


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [
        ("choyce", "acc", "unknown task 'choyce'; did you mean 'choice'? known: choice, words"),
        ("choice", "ac", "unknown metric 'ac'; did you mean 'acc'? known: acc, acc_norm"),
        ("words", "acc", "unknown metric 'acc'; known: exact_match"),
        ("words", "exact_match,lust", "unknown filter 'lust'; did you mean 'last'?"),
    ],
)
def test_names_that_are_not_there_are_told(home, task, metric, expected):
    (problem,) = problems([home / "out"], task, metric)
    assert expected in problem


@pytest.mark.parametrize("value", [[-3.5, 7], -3.5, 1.5, float("nan"), "1"])
def test_a_metric_that_is_not_one_number_within_0_and_1_is_refused(out, value):
    log = the_log(folder_of(out, "one"), "choice")
    rows = rows_of(log)
    rows[0]["acc"] = value
    write_rows(log, rows)
    (problem,) = problems([out], "choice", "acc")
    assert "must be one number of 0 to 1 an item. The log has: acc, acc_norm" in problem


def test_missing_and_empty_folders_are_told(tmp_path):
    assert len(problems([tmp_path / "a", tmp_path / "b"], "choice", "acc")) == 2
    assert "no samples_*.jsonl there" in problems([tmp_path], "choice", "acc")[0]


def test_a_results_file_that_is_broken_is_told(out):
    results = next(folder_of(out, "one").glob("results_*.json"))
    results.write_text("{")
    assert problems([out], "choice", "acc")[0].startswith(f"{results}: not JSON")
