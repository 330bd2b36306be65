"""Label-free responses, the values derived from them, and the guard against collapse."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import TrialError
from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses
from evomerge.fitness.collapse import collapsed, commonest_share
from evomerge.fitness.derived_metrics import (
    information_values,
    response_metrics,
    with_derived,
)
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.label_free import answer_code, choice_beliefs, with_stability
from evomerge.fitness.reply_values import metric_problems, objective_metrics

LIKELIHOODS = st.lists(st.floats(-200, 0), min_size=2, max_size=6)
CHOICES = st.lists(st.integers(0, 3), min_size=3, max_size=40)

ENTROPY = Objective("entropy", {"t": 1.0}, "minimize", collapse=0.95)
INFORMATION = Objective("information", {"t": 1.0}, kind="information")
FORGETTING = Objective(
    "forgetting (acc, base)", {"t": 1.0}, "minimize", "forgetting", "base", "acc"
)


def answers(**values) -> dict[str, ItemResponses]:
    """Responses to items 0, 1, … of task t."""
    count = len(next(iter(values.values())))
    floats = {metric: tuple(map(float, v)) for metric, v in values.items()}
    return {"t": ItemResponses(tuple(range(count)), floats)}


# ---- entropy and choice


def beliefs(values: list[float]) -> dict[str, float]:
    return choice_beliefs(values, [f"choice {k}" for k in range(len(values))])


@given(LIKELIHOODS)
def test_entropy_is_that_of_the_softmax(values):
    p = np.exp(np.array(values) - max(values))
    p /= p.sum()
    expected = -sum(x * math.log(x) for x in p if x > 0)
    assert beliefs(values)["entropy"] == pytest.approx(expected, abs=1e-9)


@given(LIKELIHOODS, st.floats(-50, 0))
def test_entropy_does_not_depend_on_a_common_factor_and_stays_in_range(values, shift):
    entropy = beliefs(values)["entropy"]
    assert 0 <= entropy <= math.log(len(values)) + 1e-12
    moved = beliefs([v + shift for v in values])["entropy"]
    assert moved == pytest.approx(entropy, abs=1e-9)


def test_the_first_of_equally_likely_choices_is_the_choice():
    assert beliefs([-3.0, -1.0, -1.0])["choice"] == answer_code("choice 1")


def test_a_choice_is_known_by_its_text_wherever_it_stands():
    first = choice_beliefs([-1.0, -2.0], ["yes", "no"])
    second = choice_beliefs([-2.0, -1.0], ["No", "yes "])
    assert first["choice"] == second["choice"]


def test_written_answers_differ_by_more_than_case_and_spaces():
    assert answer_code("The  answer\nIS 4") == answer_code("the answer is 4 ")
    assert answer_code("the answer is 4") != answer_code("the answer is 5")


def test_the_code_of_an_answer_is_a_whole_number_and_the_same_in_every_process():
    code = answer_code("forty two")
    assert code.is_integer()
    assert code < 2**53
    program = (
        "from evomerge.fitness.label_free import answer_code; print(answer_code('forty two'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert float(done.stdout) == code


def test_choices_of_a_task_agree_with_its_accuracy(folder, model, tokenizer):
    tasks = load_tasks([TaskSpec("choice")], [folder])
    values = ItemScorer(tasks, model, tokenizer).responses({"choice": tuple(range(26))})
    told = values["choice"].values
    right = [answer_code(tasks["choice"].document(i)["choices"][0]) for i in range(26)]
    assert [float(c == r) for c, r in zip(told["choice"], right, strict=True)] == (
        list(told["acc"])
    )
    assert len(set(told["choice"])) > 1
    assert all(0 < e <= math.log(4) for e in told["entropy"])


@pytest.mark.parametrize(("word", "tokens"), [("red", 5.0), ("</s>", 0.0)])
def test_a_generated_answer_has_its_length_in_tokens(
    folder, constant_model, tokenizer, word, tokens
):
    """Five tokens are allowed; an end token at once leaves an empty text."""
    task = load_tasks([TaskSpec("sum")], [folder])["sum"]
    counted = task.counting(lambda text: len(tokenizer(text)["input_ids"]))
    model = constant_model(tokenizer.convert_tokens_to_ids(word))
    values = ItemScorer({"sum": counted}, model, tokenizer).responses({"sum": (1, 2)})
    assert values["sum"].values["output_tokens"] == (tokens, tokens)


def test_generated_answers_are_told_apart_by_what_the_first_filter_gives(
    folder, constant_model, tokenizer
):
    task = load_tasks([TaskSpec("sum")], [folder])
    codes = {
        word: ItemScorer(
            task, constant_model(tokenizer.convert_tokens_to_ids(word)), tokenizer
        ).responses({"sum": (1,)})["sum"]
        for word in ("7", "8", "red", "blue")
    }
    seven, eight, red, blue = (codes[w].values["choice"] for w in ("7", "8", "red", "blue"))
    assert seven != eight
    assert red == blue  # no number in either


# ---- stability


def test_stability_is_one_where_the_neighbour_that_was_asked_agrees():
    own = answers(choice=[0, 1, 2, 3], acc=[1, 0, 0, 1])
    even = {"t": ItemResponses((0, 2), {"choice": (0.0, 1.0)})}
    odd = {"t": ItemResponses((3, 1), {"choice": (3.0, 0.0)})}
    joined = with_stability(own, [even, odd], ["t"])["t"]
    assert joined.values["stability"] == (1.0, 0.0, 0.0, 1.0)
    assert joined.values["acc"] == own["t"].values["acc"]


def test_tasks_without_a_stability_objective_keep_their_responses():
    own = answers(choice=[0, 1])
    assert with_stability(own, [], []) == own


# ---- information


def plug_in(choices, entropies) -> float:
    shares = np.unique(choices, return_counts=True)[1] / len(choices)
    return float(-(shares * np.log(shares)).sum() - np.mean(entropies))


@given(CHOICES, st.data())
def test_information_values_are_jackknife_pseudo_values(choices, data):
    entropies = data.draw(
        st.lists(st.floats(0, 1.3), min_size=len(choices), max_size=len(choices))
    )
    count, whole = len(choices), plug_in(choices, entropies)
    expected = [
        count * whole
        - (count - 1)
        * plug_in(choices[:k] + choices[k + 1 :], entropies[:k] + entropies[k + 1 :])
        for k in range(count)
    ]
    assert information_values(choices, entropies) == pytest.approx(expected, abs=1e-7)


def test_information_is_high_for_sure_and_different_answers_only():
    sure, unsure = [0.0] * 40, [math.log(4)] * 40
    varied, same = [0, 1, 2, 3] * 10, [2] * 40
    value = {
        name: np.mean(information_values(c, e))
        for name, c, e in (
            ("good", varied, sure),
            ("same", same, sure),
            ("lost", varied, unsure),
        )
    }
    assert value["good"] == pytest.approx(math.log(4), abs=0.05)
    assert value["same"] == pytest.approx(0.0)
    assert abs(value["lost"]) < 0.05


def test_the_jackknife_takes_most_of_the_bias_off_and_its_error_is_honest():
    """True information log 4 - .3 of uniform choices; the plug-in is 3/(2n) too low."""
    rng = np.random.default_rng(5)
    truth, count = math.log(4) - 0.3, 20
    estimates, plain = [], []
    for _ in range(600):
        choices = list(rng.integers(0, 4, count))
        entropies = list(rng.uniform(0, 0.6, count))
        responses = answers(choice=choices, entropy=entropies)
        derived = with_derived(responses, [INFORMATION], {})
        estimates += MeanEstimator().estimate(derived, [INFORMATION])
        plain.append(plug_in(choices, entropies))
    values = np.array([e.value for e in estimates])
    assert abs(np.mean(plain) - truth) > 0.06
    assert abs(values.mean() - truth) < 0.02
    errors = np.array([e.standard_error for e in estimates])
    assert 0.85 < np.sqrt((errors**2).mean()) / values.std() < 1.5


# ---- forgetting


def test_forgetting_is_the_loss_against_the_reference_with_a_paired_error():
    before = answers(acc=[1, 1, 1, 0, 0, 1])
    now = answers(acc=[1, 0, 1, 0, 0, 1])
    (estimate,) = MeanEstimator().estimate(
        with_derived(now, [FORGETTING], {"base": before}), [FORGETTING]
    )
    difference = np.array([0, 1, 0, 0, 0, 0])
    assert estimate.value == pytest.approx(1 / 6)
    assert estimate.standard_error == pytest.approx(difference.std(ddof=1) / math.sqrt(6))


def test_the_reference_has_forgotten_nothing_for_sure():
    before = answers(acc=[1, 0, 1])
    (estimate,) = MeanEstimator().estimate(
        with_derived(before, [FORGETTING], {"base": before}), [FORGETTING]
    )
    assert (estimate.value, estimate.standard_error) == (0.0, 0.0)


def test_items_are_compared_by_their_number_not_by_their_place():
    before = {"t": ItemResponses((5, 3, 4), {"acc": (1.0, 0.0, 1.0)})}
    now = {"t": ItemResponses((3, 4), {"acc": (0.0, 0.0)})}
    derived = with_derived(now, [FORGETTING], {"base": before})["t"]
    assert derived.values[FORGETTING.metric] == (0.0, 1.0)


@pytest.mark.parametrize(
    "sources", [{}, {"base": {}}, {"base": {"t": ItemResponses((0,), {"acc": (1.0,)})}}]
)
def test_a_reference_without_the_items_is_a_failed_trial(sources):
    with pytest.raises(TrialError, match="source model 'base' has no responses to the same"):
        with_derived(answers(acc=[1, 0]), [FORGETTING], sources)


def test_only_derived_objectives_add_values():
    responses = answers(acc=[1, 0], entropy=[0.1, 0.2], choice=[0, 1])
    assert with_derived(responses, [Objective("acc", {"t": 1.0}), ENTROPY], {}) == responses


def test_each_objective_tells_which_responses_it_needs():
    assert response_metrics(ENTROPY) == ("entropy", "choice")
    assert response_metrics(INFORMATION) == ("choice", "entropy")
    assert response_metrics(FORGETTING) == ("acc",)
    assert response_metrics(Objective("acc", {"t": 1.0})) == ("acc",)


# ---- the guard


def picks(share: float, count: int = 20) -> dict[str, ItemResponses]:
    """Choices of which a share is 0 and the others differ."""
    same = round(share * count)
    return answers(choice=[0] * same + [k % 3 + 1 for k in range(count - same)])


def test_outputs_have_collapsed_where_nearly_all_are_the_same():
    sources = {"base": picks(0.5), "expert": picks(0.3)}
    reason = collapsed(picks(0.95), [ENTROPY], sources)
    assert reason is not None
    assert "95% of its answers to task t are the same" in reason
    assert "'expert'" in reason
    assert collapsed(picks(0.9), [ENTROPY], sources) is None


def test_the_reason_is_the_same_for_every_collapsed_model():
    """So that reports count them together."""
    sources = {"base": picks(0.5)}
    assert collapsed(picks(0.95), [ENTROPY], sources) == collapsed(
        picks(1.0), [ENTROPY], sources
    )


def test_a_collapsed_source_does_not_hide_a_collapsed_merge():
    assert collapsed(picks(1.0), [ENTROPY], {"base": picks(1.0), "expert": picks(0.3)})


def test_nothing_is_refused_where_every_sources_answers_are_the_same():
    assert collapsed(picks(1.0), [ENTROPY], {"a": picks(0.95), "b": picks(1.0)}) is None
    assert collapsed(picks(1.0), [ENTROPY], {}) is None


def test_objectives_without_a_limit_are_not_guarded():
    sources = {"a": picks(0.2)}
    assert collapsed(picks(1.0), [Objective("acc", {"t": 1.0})], sources) is None


def test_a_few_equal_answers_are_no_collapse():
    assert collapsed(picks(1.0, 9), [ENTROPY], {"a": picks(0.2, 9)}) is None
    assert collapsed(picks(1.0, 10), [ENTROPY], {"a": picks(0.2, 10)})


def test_the_share_of_the_commonest_answer():
    assert commonest_share(picks(0.25)["t"]) == pytest.approx(0.25)
    assert commonest_share(ItemResponses((), {})) == 0.0


# ---- which objectives a task can have


CHOICE_TASK = {"acc": True, "accuracy": True, "margin": True, "entropy": False, "choice": True}
WRITTEN_TASK = {"accuracy": True, "truncated": False, "choice": True}


def test_objectives_of_multiple_choice_and_of_generation():
    known = objective_metrics(CHOICE_TASK)
    assert known == {
        "acc": True, "accuracy": True, "margin": True,
        "entropy": False, "stability": True, "information": True,
    }  # fmt: skip
    assert objective_metrics(WRITTEN_TASK) == {
        "accuracy": True, "truncated": False, "stability": True, "output_tokens": False
    }  # fmt: skip
    assert objective_metrics({"score": True}) == {"score": True}


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (Objective("entrpy", {"t": 1.0}), "unknown metric 'entrpy'; did you mean 'entropy'?"),
        (Objective("choice", {"t": 1.0}), "unknown metric 'choice'"),
        (Objective("forgeting", {"t": 1.0}), "did you mean 'forgetting'?"),
        (Objective("output_tokens", {"t": 1.0}), "unknown metric 'output_tokens'"),
        (Objective("information", {"written": 1.0}), "unknown metric 'information'"),
        (
            Objective("f", {"t": 1.0}, "minimize", "forgetting", "base", "accurcy"),
            "unknown metric 'accurcy'; did you mean 'accuracy'?",
        ),
        (
            Objective("f", {"t": 1.0}, "minimize", "forgetting", "base", "entropy"),
            "forgetting needs a metric of which more is better; of entropy less is.",
        ),
    ],
)
def test_metrics_that_a_task_cannot_have_are_named(objective, problem):
    (told,) = metric_problems([objective], {"t": CHOICE_TASK, "written": WRITTEN_TASK})
    assert problem in told


def test_metrics_that_a_task_has_are_no_problem():
    fine = [ENTROPY, INFORMATION, FORGETTING, Objective("stability", {"written": 1.0})]
    assert metric_problems(fine, {"t": CHOICE_TASK, "written": WRITTEN_TASK}) == []
