import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.fitness.reply_values import (
    available_metrics,
    choice_values,
    gold_choices,
    metric_problems,
)


def test_multiple_choice_has_a_margin_and_generation_counts_what_is_cut_off():
    choice = available_metrics("multiple_choice", {"acc": True}, [])
    written = available_metrics("generate_until", {"exact_match": True}, [])
    labelled = ["acc", "accuracy", "gold_logprob", "margin"]
    assert list(choice) == [*labelled, "entropy", "choice"]
    assert list(written) == ["exact_match", "accuracy", "gold_logprob", "truncated", "choice"]
    assert written["truncated"] is False


def test_accuracy_needs_a_metric_of_correctness():
    assert "accuracy" not in available_metrics("generate_until", {"rouge": True}, [])


def test_several_filters_name_each_metric():
    metrics = available_metrics("generate_until", {"exact_match": True}, ["strict", "loose"])
    assert {"exact_match", "exact_match,strict", "exact_match,loose"} <= set(metrics)


def test_unknown_tasks_and_metrics_of_objectives_are_told_once_with_near_names():
    available = {"sum": {"accuracy": True, "margin": True}}
    objectives = [
        Objective("margin", {"sum": 1.0}),
        Objective("margn", {"sum": 1.0}),
        Objective("margn", {"sum": 1.0}, "minimize"),
        Objective("margin", {"sums": 1.0}),
    ]
    metric, task = metric_problems(objectives, available)
    assert "task sum: unknown metric 'margn'; did you mean 'margin'" in metric
    assert "unknown task 'sums'; did you mean 'sum'" in task


def test_the_gold_label_is_a_position_a_text_or_several_positions():
    choices = ["red", "blue", "green"]
    assert gold_choices("t", 1, choices) == (1,)
    assert gold_choices("t", "green", choices) == (2,)
    assert gold_choices("t", [0, 2], choices) == (0, 2)


@pytest.mark.parametrize("label", [-1, 3, "yellow", []])
def test_a_label_that_is_no_choice_is_refused(label):
    with pytest.raises(ConfigError, match="task t, item 4: the label"):
        gold_choices("task t, item 4", label, ["a", "b", "c"])


@given(st.lists(st.floats(-90, 0), min_size=2, max_size=6, unique=True))
def test_the_margin_is_positive_exactly_where_gold_is_likeliest(values):
    for gold in range(len(values)):
        scored = choice_values(values, [gold])
        assert scored["gold_logprob"] == values[gold]
        assert (scored["margin"] > 0) == (max(values) == values[gold])


def test_the_likeliest_of_several_right_choices_counts():
    assert choice_values([-3.0, -1.0, -2.0], [0, 2]) == {"gold_logprob": -2.0, "margin": -1.0}
    assert choice_values([-3.0, -1.0], [0, 1])["margin"] == 0.0
