import json
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from evomerge.core.errors import ConfigError
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.harness_task import HarnessTask
from evomerge.fitness.item_bank import SPLITS
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.jsonl_task import read_jsonl_task
from evomerge.fitness.scoring_settings import JsonlFiles


@pytest.fixture
def write(tmp_path):
    """Write a JSONL file; lines that are texts are written as they are."""

    def write_lines(*lines: dict | str, name: str = "q.jsonl") -> Path:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path = tmp_path / name
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write_lines


def load(path: Path, seed: int = 0, shots: int | None = None, **options) -> HarnessTask:
    files = JsonlFiles({"all": path}, **options)
    return load_tasks([TaskSpec("t", shots, jsonl=files)], seed=seed)["t"]


def problems(path: Path, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **options)
    return caught.value.problems


def choice(n: int, **changes) -> dict:
    row = {
        "question": f"What is {n} ?",
        "choices": [f"{n}", f"{n + 1} red", "blue"],
        "answer": 1,
    }
    return {**row, **changes}


def written_scores(task: HarnessTask, item: int, reply: str) -> float:
    (instance,) = task.requests(item, None)
    instance.resps = [reply]
    return task.values({item: [instance]})[item]["exact_match"]


def test_position_letter_and_text_name_the_same_choice(write):
    rows = [choice(n, answer=answer) for n, answer in enumerate([1, "B", "3 red"])]
    task = load(write(*rows))
    assert [task.document(item)["answer"] for item in range(3)] == [1, 1, 1]
    assert task.metrics.keys() >= {"acc", "acc_norm", "accuracy", "gold_logprob", "margin"}


def test_choices_are_scored_as_by_a_task_file(write, write_task, model, tokenizer):
    rows = [choice(n, answer=n % 3) for n in range(12)]
    folder = write_task(
        "same",
        {"test": [{**row, "label": row["answer"]} for row in rows]},
        doc_to_text="{{question}}",
    )
    ours = load(write(*rows))
    theirs = load_tasks([TaskSpec("same")], [folder])["same"]
    values = [
        ItemScorer({"t": task}, model, tokenizer).responses({"t": tuple(range(12))})["t"].values
        for task in (ours, theirs)
    ]
    assert values[0] == values[1]
    assert 0 < sum(values[0]["acc"]) < 12


def test_written_answers_match_exactly_once_blanks_are_off(write):
    path = write({"prompt": "a", "answer": " Blue "}, {"prompt": "b", "answer": ["red", "1 2"]})
    task = load(path)
    replies = [" Blue", "blue", "Blue.", "red", "1 2\t", "1  2", ""]
    assert [written_scores(task, 0, reply) for reply in replies] == [1, 0, 0, 0, 0, 0, 0]
    assert [written_scores(task, 1, reply) for reply in replies] == [0, 0, 0, 1, 1, 0, 0]
    without_case = load(path, ignore_case=True)
    assert [written_scores(without_case, 0, r) for r in replies] == [1, 1, 0, 0, 0, 0, 0]


def test_a_written_answer_ends_where_the_options_say(write):
    path = write({"question": "a", "answer": "b"}, {"question": "c", "answer": "d"})
    asked = load(path).requests(0, None)[0].args
    assert asked == ("a", {"do_sample": False, "max_gen_toks": 64, "until": ["\n"]})
    asked = load(path, until=(".", ";"), max_tokens=3).requests(0, None)[0].args
    assert asked == ("a", {"do_sample": False, "max_gen_toks": 3, "until": [".", ";"]})


def test_written_answers_of_a_model_are_scored(write, model, tokenizer):
    questions = [f"the sum of {n} and 2 Answer :" for n in range(6)]
    path = write(*({"question": q, "answer": "?"} for q in questions))
    said = []
    for question in questions:
        ids = tokenizer(question, return_tensors="pt").input_ids
        made = model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
        said.append(tokenizer.decode(made).partition("\n")[0].strip())
    said = [text if k % 2 else "wrong" for k, text in enumerate(said)]
    path = write(*({"question": q, "answer": a} for q, a in zip(questions, said, strict=True)))
    scorer = ItemScorer({"t": load(path, max_tokens=4)}, model, tokenizer)
    values = scorer.responses({"t": tuple(range(6))})["t"].values
    assert values["accuracy"] == (0, 1, 0, 1, 0, 1)


def test_texts_are_scored_as_by_a_rolling_task_file(write, write_task, model, tokenizer, sums):
    texts = [f"What is {n} plus the sum of {n} and red" for n in range(5)]
    folder = write_task(
        "same",
        {"test": [{"text": text, "n": 0} for text in texts]},
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        generation_kwargs=None,
        filter_list=None,
        metric_list=[{"metric": "bits_per_byte"}],
    )
    ours = load(write(*({"text": text} for text in texts)))
    theirs = load_tasks([TaskSpec("same")], [folder])["same"]
    assert list(ours.metrics) == ["gold_logprob"]
    values = [
        ItemScorer({"t": task}, model, tokenizer).responses({"t": tuple(range(5))})["t"].values
        for task in (ours, theirs)
    ]
    assert values[0] == values[1]


def test_one_file_is_divided_by_the_seed_and_keeps_its_version(write):
    path = write(*(choice(n) for n in range(20)))
    first, same, other = (load(path, seed).bank for seed in (1, 1, 2))
    assert [len(first.splits[s]) for s in SPLITS] == [10, 4, 6]
    assert first.splits == same.splits != other.splits
    assert first.version == same.version == other.version


def test_three_files_are_the_three_splits(write):
    files = {
        split: write(*(choice(10 * k + n) for n in range(k + 2)), name=f"{split}.jsonl")
        for k, split in enumerate(SPLITS)
    }
    task = load_tasks([TaskSpec("t", jsonl=JsonlFiles(files))])["t"]
    assert {s: len(task.bank.splits[s]) for s in SPLITS} == {
        "search": 2,
        "validation": 3,
        "test": 4,
    }
    assert task.document(task.bank.splits["test"][0])["question"] == "What is 20 ?"


def test_the_version_follows_questions_and_options_but_not_places_and_spelling(write):
    rows = [{"question": f"{n}", "answer": "x"} for n in range(4)]
    version = load(write(*rows)).bank.version
    spelt = [
        "\ufeff" + json.dumps(rows[0]),
        "",
        *({"id": 7, **row} for row in rows[1:]),
        "",
        "",
    ]
    assert load(write(*spelt, name="other.jsonl")).bank.version == version
    assert load(write(*rows), max_tokens=5).bank.version != version
    assert load(write(*rows), ignore_case=True).bank.version != version
    assert load(write(*rows[:3], {"question": "3", "answer": "y"})).bank.version != version


def test_what_makes_the_data_is_no_part_of_the_tasks_configuration(write):
    made = read_jsonl_task("t", JsonlFiles({"all": write(choice(0), choice(1))}))
    task = made.build(lambda c: TaskManager(include_defaults=False).load([c])["tasks"]["t"])
    assert len(task.eval_docs) == 2
    assert not any(key.startswith(("custom", "dataset")) for key in task.dump_config())


def test_fewshot_examples_show_questions_with_their_right_answers(write):
    task = load(write(*(choice(n) for n in range(6))), shots=2)
    *examples, question = task.requests(3, None)[0].args[0].split("\n\n")
    assert question == "What is 3 ?"
    assert {int(e.split()[2]) for e in examples} < {0, 1, 2, 4, 5}
    assert all(e == f"What is {(n := int(e.split()[2]))} ? {n + 1} red" for e in examples)


MISTAKES = {
    "answer not among the choices": (choice(0, answer="green"), "none of the choices (found 'green')"),
    "position": (choice(0, answer=3), "counted from 0 (3 of 3)"),
    "negative position": (choice(0, answer=-1), "counted from 0 (-1 of 3)"),
    "letter beyond": (choice(0, answer="D"), "answer is none of the choices"),
    "ambiguous": (choice(0, choices=["B", "A"], answer="A"), "letter of another"),
    "true": (choice(0, answer=True), "must be the position, the letter or the text"),
    "equal choices": (choice(0, choices=["a", "a"]), "two choices are the same"),
    "one choice": (choice(0, choices=["a"]), "a list of two or more"),
    "number choices": (choice(0, choices=[1, 2]), "numbers in quotes"),
    "empty choice": (choice(0, choices=["a", " "]), "none empty"),
    "no answer": ({"question": "a", "id": 3}, "needs the fields question (or prompt) and answer"),
    "no question": ({"answer": "a"}, "needs the fields question"),
    "nothing": ({}, "it has none"),
    "number answer": ({"question": "a", "answer": 4}, "numbers in quotes"),
    "empty answer": ({"question": "a", "answer": ["x", ""]}, "none empty"),
    "empty question": ({"question": " ", "answer": "x"}, "question must be a text"),
    "both": ({"question": "a", "prompt": "a", "answer": "x"}, "mean the same"),
    "text and answer": ({"text": "a", "answer": "x"}, "a text stands alone (it has answer)"),
    "misspelt": ({"question": "a", "choises": ["x"], "answer": "x"}, "did you mean 'choices'?"),
    "misspelt answer": ({"question": "a", "answers": "x"}, "did you mean 'answer'?"),
    "no JSON": ("{'question': 1}", "not JSON"),
    "no object": ("[1]", "must be a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_line_is_told_with_its_number(write, row, expected):
    path = write(choice(1), "", row)
    (problem,) = [p for p in problems(path) if "one kind" not in p]
    assert problem.startswith(f"task t: {path}:3: ")
    assert expected in problem


def test_lines_of_one_mistake_are_counted_after_a_few(write):
    path = write(choice(0), *(choice(n, answer="green") for n in range(1, 60)))
    (problem,) = problems(path)
    assert f"{path}:2: " in problem
    assert "line 3 (found 'green'), 4 (found 'green') and 56 more" in problem


def test_every_kind_of_mistake_is_told_at_once(write):
    found = problems(write("{", choice(0, answer=9), {"text": "a"}, choice(1), choice(1)))
    assert len(found) == 4
    assert "asks the same as an earlier line; keep one of them (as line 4)" in found[2]
    assert "all questions of a task must be of one kind" in found[3]


def test_bytes_that_are_no_utf8_are_told(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes('{"text": "für"}\n'.encode("latin-1"))
    assert ":1: not UTF-8 text" in problems(path)[0]


def test_missing_and_empty_files_are_told_together(write):
    files = {
        "search": write(name="s"),
        "validation": write(choice(1), name="v"),
        "test": Path("gone"),
    }
    with pytest.raises(ConfigError) as caught:
        load_tasks(
            [TaskSpec("t", jsonl=JsonlFiles(files)), TaskSpec("u", samples=Path("none"))]
        )
    empty, missing, log = caught.value.problems
    assert "holds no question" in empty
    assert missing == "task t: gone: no such file."
    assert log == "task u: none: no such sample log."


def test_options_of_written_answers_are_refused_elsewhere(write):
    (problem,) = problems(write(choice(0)), until=(".",), ignore_case=False)
    assert "until, ignore_case: only for answers in writing" in problem
