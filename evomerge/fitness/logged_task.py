"""The requests of an lm-eval sample log, asked again where the task itself is not at hand."""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.fitness.harness_task import HarnessTask, LmEvalTask
from evomerge.fitness.logged_items import LoggedItem, output_type, read_logged_items
from evomerge.fitness.memory_task import BuildTask, MemoryTask, mean_metrics
from evomerge.fitness.sample_logs import LOGGED, SampleLog, open_sample_log

REPRODUCED: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "exact_match"),
    "generate_until": ("exact_match",),
    "loglikelihood": ("acc",),
    "loglikelihood_rolling": (),
}
"""Metrics that follow from logged requests and targets, by output type."""

_SAME = 1e-9
"""Largest difference between a logged value and the same value computed again."""


def build_logged_task(name: str, path: Path, build: BuildTask) -> LmEvalTask:
    """An lm-eval task that makes the requests of a sample log.

    Multiple choice, log-likelihoods of a continuation or of a whole text, and answers in
    writing by exact match can be asked again; prompts stand as they were logged, with their
    few-shot examples and, if there was one, the chat template. A metric counts as reproduced
    if lm-eval computes every logged value again from the logged answers; see ``REPRODUCED``
    for those that are tried. Others are left out.

    Of several inputs for one continuation (as in winogrande) a log does not tell the right
    one; it is deduced from the likelihoods and ``acc``.

    Args:
        name: What to call the task.
        path: ``samples_TASK_TIME.jsonl``. The ``results_TIME.json`` beside it tells how
            answers in writing are filtered, and is needed where they are.
        build: Makes an lm-eval task of a configuration.

    Raises:
        ConfigError: The file is missing, is no sample log, or holds requests or scores that
            cannot be made again.
    """
    try:
        return _build(name, path, build)
    except ConfigError as error:
        raise ConfigError([f"task {name}: {problem}" for problem in error.problems]) from error


def _build(name: str, path: Path, build: BuildTask) -> LmEvalTask:
    if not path.is_file():
        raise ConfigError(f"{path}: no such sample log.")
    log = open_sample_log(path) or SampleLog(path, path.stem, "", path.parent.name, {})
    items, filters = read_logged_items(log)
    kind = output_type(log, items)
    wanted = [m for m in REPRODUCED[kind] if all(m in item.scores for item in items)]
    best: _Attempt | None = None
    for options, documents in _readings(log, kind, items, filters):
        made = MemoryTask(
            name, {**options, "metric_list": _metrics(log, wanted)}, {"test": documents}
        )
        attempt = _Attempt.of(made, build, items, wanted)
        if best is None or len(attempt.reproduced) > len(best.reproduced):
            best = attempt
        if len(best.reproduced) == len(wanted):
            break
    if best is None or (REPRODUCED[kind] and kind != "loglikelihood" and not best.reproduced):
        raise ConfigError(_not_reproduced(log, kind, wanted, best))
    if best.reproduced == wanted:
        return best.task
    fewer = {**best.made.options, "metric_list": _metrics(log, best.reproduced)}
    return replace(best.made, options=fewer).build(build)


@dataclass(frozen=True)
class _Attempt:
    """A task made of one reading of a log, and which logged scores it gives again."""

    made: MemoryTask
    task: LmEvalTask
    reproduced: list[str]
    first_difference: str = ""

    @classmethod
    def of(
        cls,
        made: MemoryTask,
        build: BuildTask,
        items: Sequence[LoggedItem],
        wanted: Sequence[str],
    ) -> "_Attempt":
        """Score the logged replies by the task that was made.

        Raises:
            ConfigError: It makes other requests than the logged ones.
        """
        task = made.build(build)
        asked = HarnessTask(task, seed=0)
        different: dict[str, str] = {}
        for number, item in enumerate(items):
            instances = asked.requests(number, None)
            for instance, arguments, reply in zip(
                instances, item.arguments, item.replies, strict=True
            ):
                if instance.args != arguments:
                    raise ConfigError(
                        f"line {item.line} of its log cannot be asked again: "
                        f"{instance.args!r:.200} in place of {arguments!r:.200}."
                    )
                instance.resps = [reply]
            values = asked.values({number: instances})[number]
            for metric, logged in item.scores.items():
                own = values.get(metric, math.nan)
                if metric.partition(",")[0] in wanted and not abs(own - logged) <= _SAME:
                    different.setdefault(
                        metric.partition(",")[0],
                        f"line {item.line} has {logged:g}, not {own:g}",
                    )
        reproduced = [metric for metric in wanted if metric not in different]
        return cls(made, task, reproduced, next(iter(different.values()), ""))


def _not_reproduced(
    log: SampleLog, kind: str, wanted: Sequence[str], best: _Attempt | None
) -> str:
    tried = ", ".join(REPRODUCED[kind])
    if not wanted:
        reason = f"it has none of the metrics that can be computed again ({tried})"
    elif best is None:
        reason = "its targets name no choice, and the right ones cannot be deduced"
    else:
        reason = (
            f"{', '.join(wanted)} cannot be computed again from its answers "
            f"({best.first_difference}), the task scores in a way of its own"
        )
    return f"{log.path}: {reason}; use the task itself."


# ---- what a log can mean


def _readings(
    log: SampleLog, kind: str, items: Sequence[LoggedItem], filters: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Task options and documents that make the logged requests, likeliest first."""
    if kind == "multiple_choice":
        yield from _choice_readings(log, items)
    elif kind == "generate_until":
        yield from _written_readings(log, items, filters)
    elif kind == "loglikelihood":
        options = {"doc_to_text": "context", "doc_to_target": "continuation"}
        documents = [
            {"context": context, "continuation": continuation, LOGGED: item.content}
            for item in items
            for context, continuation in item.arguments
        ]
        yield {"output_type": kind, **options}, documents
    else:
        options = {"doc_to_text": "", "doc_to_target": "text"}
        documents = [{"text": item.arguments[0][0], LOGGED: item.content} for item in items]
        yield {"output_type": kind, **options}, documents


def _choice_readings(
    log: SampleLog, items: Sequence[LoggedItem]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    asked = [item.arguments for item in items]
    several = any(context != of_item[0][0] for of_item in asked for context, _ in of_item)
    if several:
        yield from _input_reading(items, asked)
        return
    continuations = [[continuation for _, continuation in of_item] for of_item in asked]
    told = str(log.config.get("target_delimiter", " "))
    starts = all(c.startswith(told) for of_item in continuations for c in of_item)
    for delimiter in dict.fromkeys([told if starts else "", ""]):
        choices = [[c[len(delimiter) :] for c in of_item] for of_item in continuations]
        options = {
            "output_type": "multiple_choice",
            "doc_to_text": "context",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": delimiter,
        }
        for gold in _gold_readings([item.target for item in items], choices):
            documents = [
                {"context": a[0][0], "choices": c, "gold": g, LOGGED: item.content}
                for item, a, c, g in zip(items, asked, choices, gold, strict=True)
            ]
            yield options, documents


def _gold_readings(
    targets: Sequence[str], choices: Sequence[Sequence[str]]
) -> Iterator[list[int] | list[list[int]]]:
    """The right choices, where all targets are positions, texts, or lists of positions."""
    pairs = list(zip(targets, choices, strict=True))
    if all(target.isdecimal() and int(target) < len(of_item) for target, of_item in pairs):
        yield [int(target) for target in targets]
    if all(target in of_item for target, of_item in pairs):
        yield [list(of_item).index(target) for target, of_item in pairs]
    lists = [_plain_list(target) for target in targets]
    if all(
        of_target and all(isinstance(p, int) and 0 <= p < len(of_item) for p in of_target)
        for of_target, of_item in zip(lists, choices, strict=True)
    ):
        yield lists


def _input_reading(
    items: Sequence[LoggedItem], asked: Sequence[tuple[tuple[Any, ...], ...]]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Several inputs with one continuation; the right one was the likeliest where acc is 1."""
    documents = []
    for item, of_item in zip(items, asked, strict=True):
        likelihoods = [reply[0] for reply in item.replies]
        best = likelihoods.index(max(likelihoods))
        others = [k for k in range(len(of_item)) if k != best]
        right = [best] if item.scores.get("acc") == 1 else others
        if len(right) != 1 or len({continuation for _, continuation in of_item}) > 1:
            return
        documents.append(
            {
                "gold": right[0],
                "inputs": [context for context, _ in of_item],
                "continuation": of_item[0][1],
                LOGGED: item.content,
            }
        )
    options = {
        "output_type": "multiple_choice",
        "doc_to_text": "gold",
        "doc_to_choice": "inputs",
        "doc_to_target": "continuation",
        "target_delimiter": "",
    }
    yield options, documents


def _written_readings(
    log: SampleLog, items: Sequence[LoggedItem], filters: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if "filter_list" not in log.config and list(filters) != ["none"]:
        raise ConfigError(
            f"{log.path}: its answers went through {', '.join(filters)}, which only "
            f"results_{log.time or 'TIME'}.json of the same run describes; put it beside the "
            "log."
        )
    options = {
        "output_type": "generate_until",
        "doc_to_text": "context",
        "doc_to_target": "answer",
        "target_delimiter": log.config.get("target_delimiter", " "),
        "generation_kwargs": items[0].arguments[0][1],
        **{key: log.config[key] for key in ("filter_list",) if key in log.config},
    }
    texts: list[Any] = [item.target for item in items]
    lists = [_plain_list(target) for target in texts]
    several = all(of_item and all(isinstance(t, str) for t in of_item) for of_item in lists)
    for targets in [lists, texts] if several else [texts]:
        documents = [
            {"context": item.arguments[0][0], "answer": target, LOGGED: item.content}
            for item, target in zip(items, targets, strict=True)
        ]
        yield options, documents


def _plain_list(text: str) -> list[Any]:
    """The list that a text spells, empty where it spells none."""
    try:
        value = ast.literal_eval(text) if text.startswith("[") else []
    except (ValueError, SyntaxError):
        return []
    return value if isinstance(value, list) else []


def _metrics(log: SampleLog, names: Sequence[str]) -> list[dict[str, Any]]:
    """The ``metric_list`` of these metrics, with the options that the log's task gave them."""
    told = {
        entry.get("metric"): entry
        for entry in log.config.get("metric_list") or []
        if isinstance(entry, dict)
    }
    kept = ("regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers")
    return [
        {**metric, **{key: v for key in kept if (v := told.get(metric["metric"], {}).get(key))}}
        for metric in mean_metrics(*names)
    ]
