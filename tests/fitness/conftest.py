"""A tiny random Llama, its word-level tokenizer, and small lm-eval tasks on disk."""

import json
import os
import random
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["What", "is", "plus", "the", "sum", "of", "and", "Answer", ":", "?", "red", "blue"]
NUMBERS = [str(n) for n in range(30)]


@pytest.fixture(autouse=True)
def own_datasets_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.getbasetemp() / "datasets"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)


@pytest.fixture
def tokenizer():
    vocabulary = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "\n", *WORDS, *NUMBERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Punctuation(),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def make_model(tokenizer):
    def make(seed: int = 0, scale: float = 0.4) -> LlamaForCausalLM:
        generator = torch.Generator().manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=96,
            bos_token_id=1,
            eos_token_id=2,
        )
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, scale, generator=generator)
        return model.eval()

    return make


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture(scope="session")
def choices():
    """Makes the documents of multiple-choice items."""

    def make(*numbers: int) -> list[dict]:
        return [_choice_document(n) for n in numbers]

    return make


@pytest.fixture(scope="session")
def sums():
    """Makes the documents of items to be answered in writing."""

    def make(*numbers: int) -> list[dict]:
        return [_sum_document(n) for n in numbers]

    return make


def _choice_document(n: int) -> dict:
    a, b = n % 7, (3 * n) % 11
    choices = [str(a + b), str(a + b + 1), str((a * b) % 30), f"{b} and {a}"]
    return {"question": f"What is {a} plus {b}", "choices": choices, "label": 0, "n": n}


def _sum_document(n: int) -> dict:
    a, b = n % 5, (2 * n) % 9
    return {"question": f"the sum of {a} and {b}", "answer": str(a + b), "n": n}


CHOICE: dict = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}} ? Answer :",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [
        {"metric": m, "aggregation": "mean", "higher_is_better": True}
        for m in ("acc", "acc_norm")
    ],
}

GENERATE: dict = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}} Answer :",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]},
    "filter_list": [
        {
            "name": "number",
            "filter": [
                {"function": "regex", "regex_pattern": r"(\d+)"},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def write_task(tmp_path):
    """Write a task's YAML with one JSONL file a split; returns the folder of all tasks.

    Documents that have choices make a multiple-choice task; None removes a key.
    """

    def write(name: str, documents: dict[str, list[dict]], folder: str = "tasks", **config):
        kind = CHOICE if "choices" in documents["test"][0] else GENERATE
        home = tmp_path / folder / name
        home.mkdir(parents=True)
        for split, rows in documents.items():
            lines = "\n".join(json.dumps(row) for row in rows)
            (home / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        keys = {"train": "training_split", "valid": "validation_split", "test": "test_split"}
        plain = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {s: f"{s}.jsonl" for s in documents}},
            **{keys[s]: s for s in documents},
            "num_fewshot": 0,
            "metadata": {"version": 1},
            **kind,
            **config,
        }
        plain = {key: value for key, value in plain.items() if value is not None}
        (home / f"{name}.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
        return Path(tmp_path / folder)

    return write


@pytest.fixture
def folder(write_task, choices, sums):
    """``choice`` with three splits of 12, 6 and 8 items, ``sum`` with 20 test documents."""
    rows = choices(*range(26))
    write_task("choice", {"train": rows[:12], "valid": rows[12:18], "test": rows[18:]})
    return write_task("sum", {"test": sums(*range(20))})


@pytest.fixture
def constant_model(make_model):
    """A model that finds one token the likeliest after any text."""

    def make(token: int) -> LlamaForCausalLM:
        model = make_model()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                    parameter.zero_()
            model.model.embed_tokens.weight.fill_(1.0)
            model.lm_head.weight[token] = 1.0
        return model

    return make


@pytest.fixture
def generator_states():
    """A comparable picture of the global generators of python, numpy and torch."""

    def states() -> tuple:
        numpy_state = np.random.get_state()  # noqa: NPY002 - the state under test
        return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()

    return states
