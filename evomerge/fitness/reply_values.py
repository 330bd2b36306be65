"""Metric names of a task, and the values that follow from a model's log-likelihoods."""

from collections.abc import Mapping, Sequence

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.objectives import Objective
from evomerge.fitness.label_free import CHOICE, STABILITY

CORRECTNESS = (
    "acc",
    "exact_match",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "em",
    "prompt_level_strict_acc",
)
"""What may be a task's ``accuracy``: the first of these that the task has."""


def available_metrics(
    output_type: str, own: Mapping[str, bool], filters: Sequence[str]
) -> dict[str, bool]:
    """The metrics of a task that have one number an item, and whether higher is better.

    Args:
        output_type: lm-eval's ``multiple_choice``, ``generate_until``, ``loglikelihood`` or
            ``loglikelihood_rolling``.
        own: The task's own metrics that are averaged over items.
        filters: The task's answer filters in order. A metric's plain name means the first;
            where there are several, ``metric,filter`` names each, as in lm-eval's reports.

    Returns:
        ``own``, then ``accuracy`` (see ``CORRECTNESS``) where the task has such a metric,
        ``gold_logprob``, and what only some output types have: ``margin`` and ``entropy`` for
        multiple choice, ``truncated`` for generation, and for both ``choice``, which tells
        answers apart and is neither better nor worse.
    """
    metrics = dict(own)
    if len(filters) > 1:
        metrics |= {f"{name},{chosen}": up for chosen in filters for name, up in own.items()}
    if correctness_metric(own) is not None:
        metrics["accuracy"] = True
    metrics["gold_logprob"] = True
    if output_type == "multiple_choice":
        metrics |= {"margin": True, "entropy": False, CHOICE: True}
    if output_type == "generate_until":
        metrics |= {"truncated": False, CHOICE: True}
    return metrics


def objective_metrics(metrics: Mapping[str, bool]) -> dict[str, bool]:
    """What of a task an objective may be of, and whether higher is better.

    Args:
        metrics: The task's metrics with one number an item.

    Returns:
        ``metrics`` without ``choice``; ``stability`` where answers can be told apart;
        ``information`` of multiple choice; ``output_tokens`` of generation.
    """
    found = {name: up for name, up in metrics.items() if name != CHOICE}
    if CHOICE in metrics:
        found[STABILITY] = True
    if CHOICE in metrics and "entropy" in metrics:
        found["information"] = True
    if "truncated" in metrics:
        found["output_tokens"] = False
    return found


def correctness_metric(own: Mapping[str, bool]) -> str | None:
    """The task's metric that counts as its accuracy, or None."""
    return next((name for name in CORRECTNESS if name in own), None)


def metric_problems(
    objectives: Sequence[Objective], available: Mapping[str, Mapping[str, bool]]
) -> list[str]:
    """One sentence for each task or metric that an objective names and that does not exist.

    Args:
        objectives: What is to be scored.
        available: Metrics with one number an item, by task.
    """
    problems = []
    for objective in objectives:
        for task in objective.tasks:
            if task not in available:
                problems.append(f"objectives: {unknown('task', task, available)}")
            elif problem := _metric_problem(objective, available[task]):
                problems.append(f"objectives: task {task}: {problem}")
    return list(dict.fromkeys(problems))


def _metric_problem(objective: Objective, metrics: Mapping[str, bool]) -> str | None:
    known = objective_metrics(metrics)
    if objective.kind == "forgetting":
        asked = objective.of or ""
        if asked not in metrics or asked == CHOICE:
            return unknown("metric", asked, [name for name in metrics if name != CHOICE])
        if not metrics[asked]:
            return f"forgetting needs a metric of which more is better; of {asked} less is."
        return None
    if objective.metric in known:
        return None
    return unknown("metric", objective.metric, [*known, "forgetting"], [*known])


def gold_choices(
    where: str, gold: int | str | Sequence[int], choices: Sequence[str]
) -> tuple[int, ...]:
    """Positions of the right answers among the choices.

    Args:
        where: Task and item, for the message.
        gold: A position, the text of a choice, or several positions.
        choices: The texts of the choices.

    Raises:
        ConfigError: The label is not one of the choices.
    """
    if isinstance(gold, str):
        positions: tuple[int, ...] = (choices.index(gold),) if gold in choices else ()
    else:
        positions = (gold,) if isinstance(gold, int) else tuple(gold)
    if not positions or not all(0 <= p < len(choices) for p in positions):
        raise ConfigError(
            f"{where}: the label {gold!r} is none of the {len(choices)} choices; gold_logprob "
            "and margin need labelled documents (doc_to_target in the task's YAML)."
        )
    return positions


def choice_values(loglikelihoods: Sequence[float], gold: Sequence[int]) -> dict[str, float]:
    """``gold_logprob`` and ``margin`` of one multiple-choice item, in nats.

    Where several choices are right, the likeliest of them counts. Where all are, the margin
    is 0.
    """
    best = max(loglikelihoods[p] for p in gold)
    others = [value for p, value in enumerate(loglikelihoods) if p not in gold]
    return {"gold_logprob": best, "margin": best - max(others) if others else 0.0}
