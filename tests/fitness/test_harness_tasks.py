import json
import logging

import lm_eval
import pytest

from evomerge.core.errors import ConfigError
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.item_bank import SPLITS


def prompt(task, item: int) -> str:
    return task.requests(item, None)[0].args[0]


def test_three_splits_of_the_data_become_search_validation_and_test(folder):
    bank = load_tasks([TaskSpec("choice")], [folder])["choice"].bank
    assert {s: bank.splits[s] for s in SPLITS} == {
        "search": tuple(range(12)),
        "validation": tuple(range(12, 18)),
        "test": tuple(range(18, 26)),
    }


def test_an_item_knows_its_document_and_where_lm_eval_has_it(folder):
    task = load_tasks([TaskSpec("choice")], [folder])["choice"]
    assert [task.origin(i) for i in (0, 11, 12, 25)] == [
        ("train", 0),
        ("train", 11),
        ("valid", 0),
        ("test", 7),
    ]
    assert [task.document(i)["n"] for i in range(26)] == list(range(26))
    with pytest.raises(ConfigError, match="no item 26; items are 0 to 25"):
        task.origin(26)


def test_other_tasks_are_divided_by_the_seed_and_keep_their_version(folder):
    first, same, other = (
        load_tasks([TaskSpec("sum")], [folder], seed)["sum"].bank for seed in (1, 1, 2)
    )
    assert [len(first.splits[s]) for s in SPLITS] == [10, 4, 6]
    assert first.splits == same.splits != other.splits
    assert first.version == same.version == other.version


def test_the_version_follows_documents_and_prompts_but_not_the_place(write_task, choices):
    rows = choices(*range(6))
    folders = {
        "plain": write_task("t", {"test": rows}, "plain"),
        "moved": write_task("t", {"test": rows}, "moved"),
        "document": write_task("t", {"test": [*rows[:5], {**rows[5], "n": 99}]}, "d"),
        "prompt": write_task("t", {"test": rows}, "p", doc_to_text="{{n}}"),
    }
    versions = {
        name: load_tasks([TaskSpec("t")], [place])["t"].bank.version
        for name, place in folders.items()
    }
    assert versions["plain"] == versions["moved"]
    assert len(set(versions.values())) == 3


def test_equal_documents_in_two_splits_are_reported(write_task, choices):
    rows = choices(*range(6))
    place = write_task("t", {"train": rows[:3], "valid": rows[3:5], "test": [rows[5], rows[1]]})
    (sentence,) = load_tasks([TaskSpec("t")], [place])["t"].bank.overlap
    assert "1 documents of the search split are also in the test split" in sentence


def test_metrics_are_known_without_a_model(folder):
    tasks = load_tasks([TaskSpec("choice"), TaskSpec("sum")], [folder])
    assert list(tasks) == ["choice", "sum"]
    assert list(tasks["choice"].metrics) == [
        "acc",
        "acc_norm",
        "accuracy",
        "gold_logprob",
        "margin",
        "entropy",
        "choice",
    ]
    assert tasks["sum"].metrics == {
        "exact_match": True,
        "accuracy": True,
        "gold_logprob": True,
        "truncated": False,
        "choice": True,
    }


def test_functions_and_includes_of_a_task_file_work(write_task, tmp_path, choices):
    rows = choices(*range(8))
    place = write_task("t", {"test": rows}, doc_to_text=None, include="../shared.yaml")
    (tmp_path / "tasks" / "shared.yaml").write_text("doc_to_text: !function words.ask\n")
    (tmp_path / "tasks" / "words.py").write_text(
        "def ask(document):\n    return document['question'] + ' !'\n"
    )
    task = load_tasks([TaskSpec("t")], [place])["t"]
    assert prompt(task, 3) == rows[3]["question"] + " !"


@pytest.mark.parametrize(
    "config",
    [{}, {"fewshot_split": "test"}, {"fewshot_config": {"sampler": "first_n"}}],
    ids=["default", "test split", "first n"],
)
def test_fewshot_examples_never_are_the_item_itself(write_task, config, choices):
    rows = choices(*range(5))
    place = write_task("t", {"test": rows}, **config)
    task = load_tasks([TaskSpec("t", 3)], [place])["t"]
    for item in range(5):
        *examples, question = prompt(task, item).split("\n\n")
        assert len(set(examples)) == 3
        assert not any(e.startswith(question.removesuffix(" Answer :")) for e in examples)


def test_fewshot_examples_of_a_search_item_leave_out_itself(write_task, choices):
    rows = choices(*range(4))
    place = write_task("t", {"train": rows, "valid": rows[:1], "test": rows[:1]})
    task = load_tasks([TaskSpec("t", 3)], [place])["t"]
    for item in range(4):
        assert prompt(task, item).count(rows[item]["question"] + " ?") == 1


def test_an_item_has_the_same_fewshot_examples_in_any_order(write_task, choices):
    rows = choices(*range(20))
    place = write_task("t", {"train": rows[:12], "test": rows[12:]})
    first, second = (load_tasks([TaskSpec("t", 2)], [place], seed)["t"] for seed in (0, 5))
    forward = [prompt(first, item) for item in range(8)]
    backward = [prompt(second, item) for item in reversed(range(8))]
    assert forward == backward[::-1]
    assert len({text.rpartition("\n\n")[0] for text in forward}) > 3


def test_too_few_documents_for_the_fewshot_examples_are_told(write_task, choices):
    place = write_task("t", {"test": choices(*range(3))})
    task = load_tasks([TaskSpec("t", 3)], [place])["t"]
    with pytest.raises(ConfigError, match="3 few-shot examples asked, its data have 2"):
        task.requests(0, None)


def test_the_number_of_fewshot_examples_changes_the_version(folder):
    none, two = (load_tasks([TaskSpec("choice", n)], [folder])["choice"] for n in (None, 2))
    assert (none.num_fewshot, two.num_fewshot) == (0, 2)
    assert none.bank.version != two.bank.version


def test_unsupported_tasks_are_refused_all_at_once(write_task, folder, sums):
    rows = {"test": sums(*range(4))}
    write_task("unsafe", rows, unsafe_code=True)
    write_task("dice", rows, generation_kwargs={"do_sample": True})
    write_task("lost", rows, doc_to_text="{{")
    names = [TaskSpec(n) for n in ("choice", "unsafe", "dice", "lost")]
    with pytest.raises(ConfigError) as caught:
        load_tasks(names, [folder])
    unsafe, dice, lost = caught.value.problems
    assert "task unsafe: it runs code" in unsafe
    assert "task dice: it samples its answers" in dice
    assert "task lost cannot be loaded" in lost


def test_an_unknown_task_is_answered_with_the_nearest_local_and_built_in_names(
    folder, monkeypatch
):
    from evomerge.fitness import harness

    class SmallIndex(harness.TaskManager):
        """Indexing lm-eval's thousands of files takes 10 seconds; its own folders will do."""

        def __init__(self, **options):
            where = f"{lm_eval.__path__[0]}/tasks/hellaswag"
            super().__init__(**{"include_path": where, **options, "include_defaults": False})

    monkeypatch.setattr(harness, "TaskManager", SmallIndex)
    with pytest.raises(ConfigError) as caught:
        load_tasks([TaskSpec("choise"), TaskSpec("helaswag")], [folder])
    assert "did you mean 'choice'" in caught.value.problems[0]
    assert "did you mean 'hellaswag'" in caught.value.problems[1]


def test_loading_prints_nothing_and_leaves_loggers_and_generators(
    folder, capfd, generator_states
):
    before, level = generator_states(), logging.getLogger("lm_eval").level
    use = [TaskSpec("choice", 2), TaskSpec("sum")]
    load_tasks(use, [folder], offline=True)["choice"].requests(3, None)
    assert generator_states() == before
    assert logging.getLogger("lm_eval").level == level
    assert capfd.readouterr() == ("", "")


def test_a_generated_answer_is_also_asked_as_text_after_the_same_delimiter(folder):
    task = load_tasks([TaskSpec("sum")], [folder])["sum"]
    asked = task.requests(2, None)[0]
    gold = task.gold_request(2, asked, None)
    assert gold.request_type == "loglikelihood"
    assert gold.args == (asked.args[0], " " + task.document(2)["answer"])


def test_an_empty_answer_is_refused_before_the_model_is_asked(write_task, choices):
    rows = choices(0, 1, 2)
    rows[1]["choices"][3] = ""
    place = write_task("t", {"test": rows}, target_delimiter="")
    task = load_tasks([TaskSpec("t")], [place])["t"]
    with pytest.raises(ConfigError, match="item 1: an answer is empty"):
        task.requests(1, None)


def test_importing_the_package_loads_neither_torch_nor_lm_eval():
    import subprocess
    import sys

    code = "import evomerge.fitness, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"torch", "lm_eval", "datasets"} & set(json.loads(done.stdout))
