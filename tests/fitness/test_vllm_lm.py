"""The vLLM backend; with vLLM installed (a GPU, or its CPU build), on a real engine."""

import importlib.util
import math
from dataclasses import dataclass

import pytest
import torch

from evomerge.core.errors import ConfigError
from evomerge.fitness.harness import ScoringSettings, TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.vllm_lm import continuation_loglikelihood, greedy_options

INSTALLED = importlib.util.find_spec("vllm") is not None
VLLM = ScoringSettings(backend="vllm")


@dataclass
class Logprob:
    """As vLLM gives it, of one token."""

    logprob: float


def test_a_continuation_has_the_sum_of_its_tokens_and_is_greedy_if_each_is_the_likeliest():
    known = [
        None,
        {7: Logprob(-9.0), 1: Logprob(-0.1)},  # of the context, which does not count
        {8: Logprob(-0.5)},
        {9: Logprob(-0.25), 3: Logprob(-0.25)},
    ]
    assert continuation_loglikelihood([5, 7, 8, 9], 2, known) == (-0.75, True)
    known[2] = {8: Logprob(-0.5), 4: Logprob(-0.4)}
    assert continuation_loglikelihood([5, 7, 8, 9], 2, known) == (-0.75, False)
    assert continuation_loglikelihood([5, 7, 8, 9], 1, known) == (-0.25, True)


def test_a_log_probability_that_is_no_number_stays_none():
    known = [None, {8: Logprob(math.nan)}]
    assert math.isnan(continuation_loglikelihood([5, 8], 1, known)[0])


def test_a_missing_log_probability_is_an_error():
    with pytest.raises(ConfigError, match="no log-probability"):
        continuation_loglikelihood([5], 1, [None])


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens"])
def test_every_name_for_the_longest_answer_is_understood(name):
    given = {"do_sample": False, name: 7, "until": ["\n", ""]}
    assert greedy_options(given, 256) == {"max_tokens": 7, "stop": ["\n"]}
    assert given == {"do_sample": False, name: 7, "until": ["\n", ""]}


def test_what_the_task_does_not_say_has_a_default():
    assert greedy_options({"until": "."}, 99) == {"max_tokens": 99, "stop": ["."]}


@pytest.mark.parametrize("option", [{"num_beams": 4}, {"do_sample": True, "temperature": 0.7}])
def test_options_for_more_than_greedy_answers_are_refused(option):
    with pytest.raises(ConfigError, match="use transformers"):
        greedy_options({"until": ["\n"], **option}, 256)


@pytest.mark.skipif(INSTALLED, reason="vllm is installed here")
def test_without_vllm_the_error_says_how_to_get_it(folder, model, tokenizer):
    tasks = load_tasks([TaskSpec("choice")], [folder])
    with pytest.raises(ConfigError, match=r"pip install vllm.*or use backend: transformers"):
        ItemScorer(tasks, model, tokenizer, VLLM)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="vllm is not installed here")
def test_an_engine_answers_as_transformers_before_and_after_weights_change():
    from pathlib import Path

    import transformers

    root = Path(__file__).parents[2]
    zoo = root / "experiments" / "quickstart" / "zoo"
    tokenizer = transformers.AutoTokenizer.from_pretrained(zoo / "base")

    def loaded(name: str):
        return transformers.AutoModelForCausalLM.from_pretrained(
            zoo / name, dtype=torch.float32
        ).eval()

    names = ("sort", "score", "town")
    tasks = load_tasks([TaskSpec(name) for name in names], [root / "fitness" / "tasks"])
    items = {name: task.bank.items("search")[:25] for name, task in tasks.items()}
    resident = loaded("base")
    engine = ItemScorer(tasks, resident, tokenizer, VLLM)
    assert engine.settings["backend"].startswith("vllm ")
    assert engine.settings["max_length"] == 62
    for name in ("base", "sort", "score", "base"):
        expert = loaded(name)
        with torch.no_grad():
            for parameter, new in zip(resident.parameters(), expert.parameters(), strict=True):
                parameter.copy_(new)
        ours = engine.responses(items)
        theirs = ItemScorer(tasks, expert, tokenizer, ScoringSettings(max_length=62)).responses(
            items
        )
        for task, answered in theirs.items():
            for metric, values in answered.values.items():
                exact = metric in ("acc", "acc_norm", "accuracy", "exact_match", "truncated")
                expected = values if exact else pytest.approx(values, abs=1e-3)
                assert ours[task].values[metric] == expected, (name, task, metric)
    with torch.no_grad():
        resident.model.norm.weight.fill_(math.nan)
    from evomerge.core.errors import TrialError

    for task in names:
        with pytest.raises(TrialError, match="not a finite number"):
            engine.responses({task: items[task][:2]})
