import copy
import logging
import math

import pytest
import torch
from tokenizers import pre_tokenizers

from evomerge.core.errors import ConfigError, TrialError
from evomerge.fitness.harness import ScoringSettings, TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer


@pytest.fixture
def tasks(folder):
    return load_tasks([TaskSpec("choice", 1), TaskSpec("sum")], [folder])


@pytest.fixture
def scorer(tasks, model, tokenizer):
    return ItemScorer(tasks, model, tokenizer)


ITEMS = {"choice": (0, 3, 5, 19, 25), "sum": (0, 1, 7, 12)}


def test_every_metric_that_a_task_promises_has_a_value_for_every_item(scorer, tasks):
    responses = scorer.responses(ITEMS)
    for name, items in ITEMS.items():
        assert responses[name].items == items
        assert set(responses[name].values) == set(tasks[name].metrics)
        assert all(len(v) == len(items) for v in responses[name].values.values())


def test_choices_follow_from_their_loglikelihoods(scorer):
    values = scorer.responses({"choice": tuple(range(26))})["choice"].values
    assert 0 < sum(values["acc"]) < 26
    assert values["accuracy"] == values["acc"]
    for accuracy, margin in zip(values["acc"], values["margin"], strict=True):
        assert accuracy == (margin >= 0)
    assert max(values["gold_logprob"]) < 0


def test_the_gold_loglikelihood_is_the_sum_of_its_tokens(tasks, model, tokenizer):
    for name, item in (("choice", 4), ("sum", 4)):
        asked = tasks[name].requests(item, None)[0]
        gold = (
            asked
            if name == "choice"  # its first choice is the right one
            else tasks[name].gold_request(item, asked, None)
        )
        context, answer = (tokenizer.encode(text) for text in gold.args)
        with torch.no_grad():
            logits = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
        expected = sum(
            float(logits[len(context) - 1 + k, token]) for k, token in enumerate(answer)
        )
        values = ItemScorer(tasks, model, tokenizer).responses({name: (item,)})[name].values
        assert values["gold_logprob"][0] == pytest.approx(expected, abs=1e-4)


def test_items_answered_alone_answer_as_they_do_together(scorer):
    together = scorer.responses(
        {"choice": tuple(range(26)), "sum": tuple(range(20))},
    )
    for name in ("choice", "sum"):
        for item in (0, 7, 19):
            alone = scorer.responses({name: (item,)})[name]
            again = together[name].only([item])
            for metric in alone.values:
                exact = metric in ("acc", "acc_norm", "accuracy", "exact_match", "truncated")
                assert alone.values[metric] == (
                    again.values[metric]
                    if exact
                    else pytest.approx(again.values[metric], abs=1e-4)
                )


def test_weights_changed_in_place_change_the_answers(tasks, make_model, tokenizer):
    resident, other = make_model(0), make_model(1)
    scorer = ItemScorer(tasks, resident, tokenizer)
    first = scorer.responses(ITEMS)
    with torch.no_grad():
        for parameter, new in zip(resident.parameters(), other.parameters(), strict=True):
            parameter.copy_(new)
    second = scorer.responses(ITEMS)
    assert second == ItemScorer(tasks, other, tokenizer).responses(ITEMS)
    assert second != first


def test_an_items_requests_are_built_once(scorer, tasks, monkeypatch):
    first = scorer.responses(ITEMS)
    monkeypatch.delattr(type(tasks["choice"]), "requests")
    assert scorer.responses(ITEMS) == first


def test_the_gold_of_a_generation_is_only_asked_where_it_is_wanted(tasks, model, tokenizer):
    wanted = {"choice": ("accuracy",), "sum": ("accuracy",)}
    frugal = ItemScorer(tasks, model, tokenizer, metrics=wanted).responses(ITEMS)
    assert set(frugal["sum"].values) == {"exact_match", "accuracy", "truncated", "choice"}
    assert "gold_logprob" in frugal["choice"].values


@pytest.mark.parametrize("name", ["choice", "sum"])
def test_a_model_whose_outputs_are_nan_gets_no_score(scorer, model, name):
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    with pytest.raises(TrialError, match=f"task {name}, item 3.*not a finite number"):
        scorer.responses({name: (3,)})


def test_nan_in_one_score_of_a_generation_is_noticed(tasks, model, tokenizer):
    scorer = ItemScorer(tasks, model, tokenizer, metrics={"sum": ("accuracy",)})
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    with pytest.raises(TrialError, match="task sum, item 3: a generated score"):
        scorer.responses({"sum": (3,)})


@pytest.mark.parametrize(
    ("token", "truncated"),
    [("red", 1.0), ("\n", 0.0), ("</s>", 0.0)],
    ids=["on", "stop", "end"],
)
def test_a_generation_that_neither_stops_nor_ends_counts_as_truncated(
    tasks, constant_model, tokenizer, token, truncated
):
    model = constant_model(tokenizer.convert_tokens_to_ids(token))
    values = ItemScorer(tasks, model, tokenizer).responses({"sum": (1, 2)})["sum"].values
    assert values["truncated"] == (truncated, truncated)


def test_every_end_token_of_the_model_ends_an_answer(tasks, constant_model, tokenizer):
    end = tokenizer.convert_tokens_to_ids("blue")
    model = constant_model(end)
    model.generation_config.eos_token_id = [2, end]
    values = ItemScorer(tasks, model, tokenizer).responses({"sum": (1,)})["sum"].values
    assert values["truncated"] == (0.0,)


def test_a_right_constant_answer_is_matched_through_the_filter(
    tasks, constant_model, tokenizer
):
    model = constant_model(tokenizer.convert_tokens_to_ids("4"))
    items = tuple(range(20))
    answers = [tasks["sum"].document(i)["answer"] for i in items]
    values = ItemScorer(tasks, model, tokenizer).responses({"sum": items})["sum"].values
    assert values["exact_match"] == tuple(float(a == "4") for a in answers)
    assert 0 < sum(values["exact_match"]) < 20


def test_scoring_prints_nothing_and_leaves_generators_tokenizer_and_loggers(
    tasks, model, tokenizer, capfd, generator_states
):
    before = generator_states()
    model.generation_config.top_p = 0.5  # generation would draw, if it were left to itself
    model.generation_config.do_sample = True
    ItemScorer(tasks, model, tokenizer).responses(ITEMS)
    assert generator_states() == before
    assert tokenizer.pad_token is None  # which lm-eval sets on the tokenizer it is given
    assert logging.getLogger("lm_eval").level == logging.NOTSET
    assert capfd.readouterr() == ("", "")


def test_functions_of_a_task_may_draw_without_disturbing_anyone(
    write_task, sums, model, tokenizer, generator_states
):
    place = write_task("t", {"test": sums(*range(9))}, "drawing", include="../draws.yaml")
    (place / "draws.yaml").write_text(
        "process_docs: !function draws.documents\nprocess_results: !function draws.score\n"
    )
    (place / "draws.py").write_text(
        "import random, numpy, torch\n"
        "def draw():\n    return random.random() + numpy.random.rand() + torch.rand(1).item()\n"
        "def documents(rows):\n    draw()\n    return rows\n"
        "def score(document, replies):\n    return {'exact_match': draw()}\n"
    )
    before = generator_states()
    tasks = load_tasks([TaskSpec("t")], [place])
    assert generator_states() == before
    values = ItemScorer(tasks, model, tokenizer).responses({"t": (0, 1)})["t"].values
    assert values["exact_match"][0] != values["exact_match"][1]
    assert generator_states() == before


def test_settings_are_plain_and_tell_what_can_change_an_answer(tasks, model, tokenizer):
    one = ItemScorer(tasks, model, tokenizer).settings
    assert one["num_fewshot"] == {"choice": 1, "sum": 0}
    assert (one["dtype"], one["device"], one["max_length"]) == ("float32", "cpu", 96)
    other = ItemScorer(
        tasks, model, tokenizer, ScoringSettings(batch_size=4, max_length=50)
    ).settings
    assert {k for k in one if one[k] != other[k]} == {"batch_size", "max_length"}


def test_settings_follow_the_tokenizer_but_not_what_it_was_last_used_for(
    tasks, model, tokenizer
):
    one = ItemScorer(tasks, model, tokenizer).settings["tokenizer"]
    tokenizer("What is", truncation=True, max_length=1)
    assert ItemScorer(tasks, model, tokenizer).settings["tokenizer"] == one


def test_a_chat_template_wraps_the_prompts(tasks, model, tokenizer, monkeypatch):
    settings = ScoringSettings(apply_chat_template=True)
    with pytest.raises(ConfigError, match="no chat template"):
        ItemScorer(tasks, model, tokenizer, settings)
    plain = ItemScorer(tasks, model, tokenizer).responses(ITEMS)
    template = "{% for m in messages %}blue {{ m['content'] }} red {% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    chat = ItemScorer(tasks, model, tokenizer, settings)
    assert chat.settings["apply_chat_template"]
    assert chat.responses(ITEMS) != plain


def test_an_answer_that_melts_into_the_prompt_is_refused(write_task, choices, model, tokenizer):
    place = write_task("t", {"test": choices(0, 1, 2)}, target_delimiter="")
    glued = load_tasks([TaskSpec("t")], [place])
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(ConfigError, match="adds no token to a prompt that ends in"):
        ItemScorer(glued, model, tokenizer).responses({"t": (0,)})


def test_what_does_not_exist_is_told_with_near_names(scorer):
    with pytest.raises(ConfigError, match="unknown task 'chioce'; did you mean 'choice'"):
        scorer.responses({"chioce": (0,)})
    with pytest.raises(ConfigError, match="no item 99; items are 0 to 25"):
        scorer.responses({"choice": (99,)})


def test_a_batch_size_that_is_no_positive_number_is_refused(tasks, model, tokenizer):
    for size in (0, "auto"):
        with pytest.raises(ConfigError, match="batch_size must be 1 or more"):
            ItemScorer(tasks, model, tokenizer, ScoringSettings(batch_size=size))


def test_answers_longer_than_the_model_can_hold_are_refused(write_task, sums, model, tokenizer):
    place = write_task("t", {"test": sums(1)}, generation_kwargs={"until": ["\n"]})
    tasks = load_tasks([TaskSpec("t")], [place])
    with pytest.raises(ConfigError, match=r"up to 256 tokens.*have 96 tokens"):
        ItemScorer(tasks, model, tokenizer)


def test_no_items_give_no_responses(scorer):
    assert scorer.responses({"choice": ()})["choice"].items == ()
    assert scorer.responses({}) == {}


def test_loglikelihood_tasks_score_their_one_continuation(write_task, sums, model, tokenizer):
    greedy = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    place = write_task(
        "t",
        {"test": sums(*range(6))},
        output_type="loglikelihood",
        doc_to_target=" {{answer}}",
        metric_list=[greedy],
        filter_list=None,
        generation_kwargs=None,
    )
    tasks = load_tasks([TaskSpec("t")], [place])
    values = ItemScorer(tasks, model, tokenizer).responses({"t": (0, 5)})["t"].values
    assert list(tasks["t"].metrics) == list(values) == ["acc", "accuracy", "gold_logprob"]
    assert max(values["gold_logprob"]) < 0


def test_rolling_tasks_have_the_loglikelihood_of_their_text(
    write_task, sums, model, tokenizer, capfd
):
    place = write_task(
        "t",
        {"test": sums(*range(6))},
        output_type="loglikelihood_rolling",
        doc_to_target="{{question}}",
        metric_list=[{"metric": "byte_perplexity"}],
        filter_list=None,
        generation_kwargs=None,
    )
    tasks = load_tasks([TaskSpec("t")], [place])
    values = ItemScorer(tasks, model, tokenizer).responses({"t": (0, 5)})["t"].values
    assert list(tasks["t"].metrics) == list(values) == ["gold_logprob"]
    assert max(values["gold_logprob"]) < 0
    assert capfd.readouterr() == ("", "")


def test_every_filter_has_its_value_and_the_first_gives_the_plain_name(
    write_task, sums, constant_model, tokenizer
):
    def first(pattern: str) -> list[dict]:
        return [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]

    place = write_task(
        "t",
        {"test": sums(2)},
        doc_to_target="4",
        repeats=3,
        filter_list=[
            {"name": "strict", "filter": first("^4$")},
            {"name": "loose", "filter": first("4")},
        ],
    )
    tasks = load_tasks([TaskSpec("t")], [place])
    model = constant_model(tokenizer.convert_tokens_to_ids("4"))
    values = ItemScorer(tasks, model, tokenizer).responses({"t": (0,)})["t"].values
    assert set(values) == set(tasks["t"].metrics)
    assert values["exact_match"] == values["exact_match,strict"] == values["accuracy"] == (0.0,)
    assert values["exact_match,loose"] == (1.0,)


def test_a_document_without_a_valid_label_is_named(write_task, choices, model, tokenizer):
    rows = choices(0, 1, 2)
    rows[2]["label"] = -1
    tasks = load_tasks([TaskSpec("t")], [write_task("t", {"test": rows})])
    with pytest.raises(ConfigError, match="task t, item 2: the label -1 is none of the 4"):
        ItemScorer(tasks, model, tokenizer).responses({"t": (0, 2)})


def test_a_generation_ends_by_itself_whatever_shares_its_batch(
    write_task, model, tokenizer, sums
):
    """Half of the rows meet a stop text at once, the others never do."""
    rows = sums(*range(8))
    options = {"do_sample": False, "max_gen_toks": 6}
    probe = write_task("probe", {"test": rows}, "p", generation_kwargs={**options, "until": []})
    asked = load_tasks([TaskSpec("probe")], [probe])["probe"]
    context = torch.tensor([tokenizer.encode(asked.requests(0, None)[0].args[0])])
    first = tokenizer.decode(model(context).logits[0, -1].argmax())
    place = write_task("t", {"test": rows}, generation_kwargs={**options, "until": [first]})
    scorer = ItemScorer(load_tasks([TaskSpec("t")], [place]), model, tokenizer)
    together = scorer.responses({"t": tuple(range(8))})["t"]
    for item in range(8):
        assert (
            scorer.responses({"t": (item,)})["t"].values["truncated"]
            == (together.only([item]).values["truncated"])
        )
    assert 0 < sum(together.values["truncated"]) < 8
