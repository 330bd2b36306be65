import json
import logging

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer


@pytest.fixture
def reported(make_model, tokenizer, tmp_path, monkeypatch):
    """What lm-eval itself reports for the model, saved to disk and loaded by lm-eval."""
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    language_model = HFLM(
        pretrained=str(tmp_path / "model"), device="cpu", dtype="float32", batch_size=16
    )

    def report(task: str, samples: list[int], **options) -> dict:
        monkeypatch.chdir(tmp_path / "tasks" / task)  # where lm-eval looks for data files
        return lm_eval.simple_evaluate(
            model=language_model,
            tasks=[task],
            task_manager=TaskManager(
                include_path=str(tmp_path / "tasks"), include_defaults=False
            ),
            samples={task: samples},
            bootstrap_iters=0,
            **options,
        )

    yield report
    logging.getLogger("lm_eval").setLevel(logging.NOTSET)


def ours(folder, model, tokenizer, task: str, items: tuple[int, ...], shots=None):
    tasks = load_tasks([TaskSpec(task, shots)], [folder])
    return ItemScorer(tasks, model, tokenizer).responses({task: items})[task].values


def mean(values) -> float:
    return sum(values) / len(values)


def test_zero_shot_accuracies_are_those_of_simple_evaluate(
    folder, model, tokenizer, reported, write_task, choices
):
    write_task("many", {"test": choices(*range(60))})
    samples = list(range(0, 60, 2))
    report = reported("many", samples)
    values = ours(folder, model, tokenizer, "many", tuple(samples))
    for metric in ("acc", "acc_norm"):
        assert mean(values[metric]) == report["results"]["many"][f"{metric},none"]
        assert list(values[metric]) == [s[metric] for s in report["samples"]["many"]]
    assert 0 < mean(values["acc"]) < 1
    for sample, gold in zip(report["samples"]["many"], values["gold_logprob"], strict=True):
        assert sample["resps"][0][0][0] == pytest.approx(gold, abs=1e-4)


def test_items_of_the_test_split_are_those_that_simple_evaluate_numbers(
    folder, model, tokenizer, reported
):
    task = load_tasks([TaskSpec("choice")], [folder])["choice"]
    items = (18, 20, 25)
    samples = [task.origin(item)[1] for item in items]
    values = ours(folder, model, tokenizer, "choice", items)
    report = reported("choice", samples)
    assert list(values["acc"]) == [s["acc"] for s in report["samples"]["choice"]]
    assert [s["doc"]["n"] for s in report["samples"]["choice"]] == list(items)


def test_generated_answers_match_as_in_simple_evaluate(
    folder, model, tokenizer, reported, write_task, sums
):
    # Half of the answers are made right by asking lm-eval first what the model says.
    said = reported("sum", list(range(20)))["samples"]["sum"]
    rows = sums(*range(20))
    for k, (row, sample) in enumerate(zip(rows, said, strict=True)):
        if k % 2 and sample["filtered_resps"][0] != "[invalid]":
            row["answer"] = sample["filtered_resps"][0]
    write_task("known", {"test": rows})
    samples = list(range(1, 18))
    report = reported("known", samples)
    values = ours(folder, model, tokenizer, "known", tuple(samples))
    assert mean(values["exact_match"]) == report["results"]["known"]["exact_match,number"]
    assert list(values["exact_match"]) == [s["exact_match"] for s in report["samples"]["known"]]
    assert 0.1 < mean(values["exact_match"]) < 1


def test_first_n_examples_give_the_accuracy_of_simple_evaluate(
    folder, model, tokenizer, reported, write_task, choices
):
    rows = choices(*range(30))
    first = {"sampler": "first_n", "split": "train"}
    write_task(
        "shots", {"train": rows[:6], "test": rows[6:]}, num_fewshot=2, fewshot_config=first
    )
    report = reported("shots", list(range(24)))
    values = ours(folder, model, tokenizer, "shots", tuple(range(24)))
    assert [s["acc"] for s in report["samples"]["shots"]] == list(values["acc"])
    for sample, gold in zip(report["samples"]["shots"], values["gold_logprob"], strict=True):
        assert sample["resps"][0][0][0] == pytest.approx(gold, abs=1e-4)


def test_random_examples_are_those_of_simple_evaluate_asked_with_the_items_seed(
    folder, model, tokenizer, reported, write_task, choices
):
    rows = choices(*range(30))
    write_task("drawn", {"train": rows[:10], "test": rows[10:]}, num_fewshot=2)
    task = load_tasks([TaskSpec("drawn")], [folder])["drawn"]
    for item in (0, 9):
        report = reported("drawn", [item], fewshot_random_seed=task.fewshot_seed(item))
        (sample,) = report["samples"]["drawn"]
        asked = [request.args for request in task.requests(item, None)]
        assert list(sample["arguments"]) == asked
        values = ours(folder, model, tokenizer, "drawn", (item,))
        assert values["acc"] == (sample["acc"],)


def test_shipped_tasks_load_offline_with_three_disjoint_splits():
    from pathlib import Path

    place = Path(__file__).parents[2] / "fitness" / "tasks"
    names = sorted(path.stem for path in place.glob("*/*.yaml"))
    tasks = load_tasks([TaskSpec(name) for name in names], [place], offline=True)
    assert names
    for name, task in tasks.items():
        rows = {
            split: len((place / name / f"{split}.jsonl").read_text().splitlines())
            for split in ("search", "validation", "test")
        }
        assert {split: len(task.bank.items(split)) for split in rows} == rows
        assert task.bank.overlap == ()
        assert json.dumps(task.metrics)
