import copy
import shutil
from pathlib import Path

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
from evomerge.fitness.sample_logs import read_sample_logs

ITEMS = 12

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}} ? Answer :",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": metric_list("acc", "acc_norm"),
}

WRITTEN = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}} Answer :",
    "doc_to_target": "answer",
    "generation_kwargs": {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]},
    "metric_list": metric_list("exact_match"),
}

WORDS = {"function": "regex", "regex_pattern": r"([A-Za-z]+)"}
NUMBER = {"function": "regex", "regex_pattern": r"(\d+)"}
FIRST = {"function": "take_first"}


def write_tasks(folder: Path, choices, sums) -> None:
    rows = [{**row, "label": k % 4} for k, row in enumerate(choices(*range(ITEMS)))]
    write_lm_eval_task(folder, "choice", rows, **CHOICE)
    write_lm_eval_task(folder, "shots", rows, **CHOICE | {"num_fewshot": 2})
    write_lm_eval_task(
        folder,
        "mutual",
        rows,
        **CHOICE | {"metric_list": metric_list("acc", "acc_mutual_info")},
    )
    several = [{**row, "label": [k % 4, 3]} for k, row in enumerate(rows)]
    write_lm_eval_task(folder, "several", several, **CHOICE)
    digits = [
        {"question": row["question"], "choices": list("2031"), "label": "0123"[k % 4]}
        for k, row in enumerate(rows)
    ]
    write_lm_eval_task(folder, "digits", digits, **CHOICE)
    write_lm_eval_task(
        folder,
        "inputs",
        [{"a": f"{k} is", "b": f"{k} plus", "right": k % 2} for k in range(ITEMS)],
        output_type="multiple_choice",
        doc_to_text="{{right}}",
        doc_to_choice="{{[a, b]}}",
        doc_to_target="the sum",
        metric_list=metric_list("acc"),
    )
    numbers = [{**row, "answer": f"{k}"} for k, row in enumerate(sums(*range(ITEMS)))]
    number = {"filter_list": [{"name": "number", "filter": [NUMBER, FIRST]}]}
    write_lm_eval_task(folder, "number", numbers, **WRITTEN | number)
    lists = [
        {**row, "answer": ["RED", "WHAT", "IS", "OF"] if k % 2 else ["PLUS"]}
        for k, row in enumerate(numbers)
    ]
    two = {
        "filter_list": [
            {"name": "word", "filter": [WORDS, FIRST]},
            {"name": "lower", "filter": [WORDS, {"function": "lowercase"}, FIRST]},
        ],
        "metric_list": [{**metric_list("exact_match")[0], "ignore_case": True}],
    }
    write_lm_eval_task(folder, "words", lists, **WRITTEN | two)
    write_lm_eval_task(
        folder,
        "continue",
        numbers,
        output_type="loglikelihood",
        doc_to_text="{{question}}",
        doc_to_target=" {{answer}}",
        metric_list=[{"metric": "perplexity"}, *metric_list("acc")],
    )
    write_lm_eval_task(
        folder,
        "roll",
        numbers,
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{question}} and {{answer}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )


TASKS = (
    "choice", "shots", "mutual", "several", "digits", "inputs", "number", "words", "continue",
    "roll",
)  # fmt: skip


@pytest.fixture
def home(tmp_path_factory, make_model, tokenizer, choices, sums) -> Path:
    """Task files in ``tasks``, and what two models logged, made once in a session."""
    home = tmp_path_factory.getbasetemp() / "logged"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        write_tasks(home / "tasks", choices, sums)
        for seed, name in enumerate(["one", "two"]):
            make_model(seed).save_pretrained(home / name)
            tokenizer.save_pretrained(home / name)
            logs = log_samples(home / name, home / "tasks", list(TASKS), home / "out")
            logs.rename(home / "out" / name)
        (home / "done").touch()
    return home


def log_of(home: Path, task: str, model: str = "one") -> Path:
    return the_log(home / "out" / model, task)


def changed(log: Path, folder: Path, change) -> Path:
    """A copy of a log and its results with changed lines."""
    rows = rows_of(log)
    for row in rows:
        change(row)
    results = next(log.parent.glob("results_*.json"))
    folder.mkdir()
    shutil.copy(results, folder)
    return write_rows(folder / log.name, rows)


def problem(log: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_tasks([TaskSpec("again", samples=log)])
    (text,) = caught.value.problems
    return text


@pytest.mark.parametrize("task", TASKS)
def test_asking_again_gives_the_logged_answers(home, task, make_model, tokenizer):
    log = log_of(home, task)
    bank = load_tasks([TaskSpec("again", samples=log)])["again"]
    values = (
        ItemScorer({"again": bank}, make_model(0), tokenizer)
        .responses({"again": tuple(range(ITEMS))})["again"]
        .values
    )
    rows = rows_of(log)
    first = [row for row in rows if row["filter"] == rows[0]["filter"]]
    reproduced = [m for m in first[0]["metrics"] if m in values]
    for metric in reproduced:
        assert list(values[metric]) == [row[metric] for row in first]
    expected = {"inputs": ["acc"], "mutual": ["acc"], "continue": ["acc"], "roll": []}
    kind = "exact_match" if task in ("number", "words") else "acc"
    default = [kind] if kind == "exact_match" else ["acc", "acc_norm"]
    assert reproduced == expected.get(task, default)
    if task in ("choice", "several", "inputs", "digits", "words"):
        assert 0 < sum(values["accuracy"]) < ITEMS
    if task in ("continue", "roll"):
        logged = [float(str(row["resps"][0][0]).strip("[]'").split("'")[0]) for row in first]
        assert values["gold_logprob"] == pytest.approx(logged, abs=1e-4)


def test_every_filter_of_a_log_gives_its_own_score(home, make_model, tokenizer):
    log = log_of(home, "words")
    bank = load_tasks([TaskSpec("again", samples=log)])["again"]
    scorer = ItemScorer({"again": bank}, make_model(0), tokenizer)
    values = scorer.responses({"again": tuple(range(ITEMS))})["again"].values
    for chosen in ("word", "lower"):
        logged = [row["exact_match"] for row in rows_of(log) if row["filter"] == chosen]
        assert list(values[f"exact_match,{chosen}"]) == logged


def test_the_requests_are_the_logged_ones_with_their_fewshot_examples(home):
    log = log_of(home, "shots")
    bank = load_tasks([TaskSpec("again", samples=log)])["again"]
    for item, row in enumerate(rows_of(log)):
        asked = [list(instance.args) for instance in bank.requests(item, None)]
        assert asked == [list(request.values()) for request in row["arguments"].values()]
        assert asked[0][0].count("\n\n") == 2


@pytest.mark.parametrize("task", ["choice", "digits", "words", "roll"])
def test_logs_of_two_models_make_the_same_bank(home, task):
    banks = [
        load_tasks([TaskSpec("again", samples=log_of(home, task, model))])["again"].bank
        for model in ("one", "two")
    ]
    assert banks[0].version == banks[1].version
    assert banks[0].splits == banks[1].splits


def test_responses_of_a_bank_made_of_a_log_are_found_by_the_logged_document(home, tmp_path):
    rows = rows_of(log_of(home, "choice"))
    log = write_rows(
        tmp_path / "few.jsonl", [row for row in rows if row["doc_id"] in (3, 5, 8)]
    )
    bank = load_tasks([TaskSpec("few", samples=log)])["few"]
    whole = read_sample_logs([home / "out"], "choice", "acc")
    with pytest.raises(ConfigError, match="its document is none of task few's"):
        read_sample_logs([home / "out"], "choice", "acc", bank)
    folder = tmp_path / "out" / "one"
    write_rows(folder / log_of(home, "choice").name, rows_of(log))
    matrix = read_sample_logs([tmp_path / "out"], "choice", "acc", bank)
    assert matrix.items == ("0", "1", "2")
    assert matrix.values[0].tolist() == whole.values[0, [3, 5, 8]].tolist()


def test_a_log_of_an_older_lm_eval_is_read(home, tmp_path):
    def older(row):
        row["arguments"] = [list(r.values()) for r in row["arguments"].values()]
        row["resps"] = [[[float(r[0][0]), r[0][1] == "True"]] for r in row["resps"]]
        for key in ("filter", "metrics", "doc_hash"):
            del row[key]

    rows = rows_of(log_of(home, "choice"))
    for row in rows:
        older(row)
    log = write_rows(tmp_path / "choice.jsonl", rows)
    bank = load_tasks([TaskSpec("again", samples=log)])["again"]
    newer = load_tasks([TaskSpec("again", samples=log_of(home, "choice"))])["again"]
    assert bank.bank.version == newer.bank.version
    assert {"acc", "acc_norm"} <= bank.metrics.keys()


def test_a_metric_that_the_answers_do_not_give_again_is_left_out(home, tmp_path):
    log = changed(
        log_of(home, "choice"),
        tmp_path / "a",
        lambda row: row.update(acc_norm=1 - row["acc_norm"]),
    )
    bank = load_tasks([TaskSpec("again", samples=log)])["again"]
    assert "acc_norm" not in bank.metrics
    assert "acc" in bank.metrics


def test_a_log_scored_in_a_way_of_its_own_is_refused(home, tmp_path):
    def graded(row):
        row.update(acc=0.3, acc_norm=0.4)

    text = problem(changed(log_of(home, "choice"), tmp_path / "a", graded))
    assert (
        "acc, acc_norm cannot be computed again from its answers (line 1 has 0.3, not" in text
    )
    assert text.endswith("use the task itself.")


def test_a_log_without_a_metric_that_is_known_is_refused(home, tmp_path):
    text = problem(
        changed(log_of(home, "number"), tmp_path / "a", lambda row: row.update(exact_match="?"))
    )
    assert "none of the metrics that can be computed again (exact_match)" in text


def test_filtered_answers_need_the_results_file(home, tmp_path):
    log = log_of(home, "number")
    text = problem(write_rows(tmp_path / log.name, rows_of(log)))
    assert "went through number, which only results_20" in text
    assert "put it beside the log" in text


def test_inputs_whose_right_one_is_not_told_are_refused(home, tmp_path):
    def with_a_third(row):
        row["arguments"]["gen_args_2"] = {"arg_0": "another", "arg_1": " the sum"}
        row["resps"].append([["-99.0", "False"]])
        row["acc"] = 0.0

    text = problem(changed(log_of(home, "inputs"), tmp_path / "a", with_a_third))
    assert "the right ones cannot be deduced" in text


def test_requests_of_several_kinds_or_none_are_refused(home, tmp_path):
    rows = [*rows_of(log_of(home, "choice"))[:2], *rows_of(log_of(home, "roll"))[2:3]]
    text = problem(write_rows(tmp_path / "a.jsonl", rows))
    assert "line 1: multiple_choice, line 3: loglikelihood_rolling" in text
    messages = copy.deepcopy(rows[:1])
    messages[0]["arguments"]["gen_args_0"]["arg_0"] = ["[{role: user}]"]
    assert "line 1: unknown" in problem(write_rows(tmp_path / "b.jsonl", messages))


def test_what_is_no_log_is_told_by_line(tmp_path, home):
    log = tmp_path / "a.jsonl"
    log.write_text('{"doc_id": 0}\n{\n')
    with pytest.raises(ConfigError) as caught:
        load_tasks([TaskSpec("again", samples=log)])
    no_log, broken = caught.value.problems
    assert (
        no_log
        == f"task again: {log}:1: no doc_id, doc and arguments; this is no log of lm_eval 0.4."
    )
    assert f"{log}:2: not JSON" in broken
    log.write_text("")
    assert "holds no sample" in problem(log)
    rows = rows_of(log_of(home, "choice"))[:1]
    rows[0]["resps"] = rows[0]["resps"][:2]
    assert "resps are not one log-likelihood or text for each" in problem(write_rows(log, rows))
