"""What an lm-eval sample log tells of each document: requests, replies, target and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.fitness.json_lines import LineProblems, read_json_lines
from evomerge.fitness.sample_logs import SampleLog, document_content


@dataclass(frozen=True)
class LoggedItem:
    """One logged document: what was asked, answered and scored."""

    line: int
    """Of the log, counted from 1."""

    arguments: tuple[tuple[Any, ...], ...]
    """Of each request, as lm-eval's instances have them."""

    replies: tuple[Any, ...]
    """To each request: a text, a log-likelihood, or one with whether it was the greedy one."""

    target: str
    """What lm-eval logged as right, written out."""

    content: str
    """Digest of the document, see ``document_content``."""

    scores: Mapping[str, float]
    """By metric, and by ``metric,filter`` where there are several filters."""


def read_logged_items(log: SampleLog) -> tuple[list[LoggedItem], list[str]]:
    """The items of a log in lm-eval's order, and the names of its filters.

    Raises:
        ConfigError: A line is no sample of lm-eval's, or there is none.
    """
    problems = LineProblems(log.path)
    rows: dict[int, list[tuple[int, Mapping[str, Any]]]] = {}
    for line, row in read_json_lines(log.path, problems):
        if not isinstance(row.get("doc_id"), int) or not {"doc", "arguments"} <= set(row):
            problems.add(line, "no doc_id, doc and arguments; this is no log of lm_eval 0.4")
            continue
        rows.setdefault(row["doc_id"], []).append((line, row))
    items = [_item(rows[doc_id], problems) for doc_id in sorted(rows)]
    if problems:
        raise ConfigError(problems.sentences())
    if not items:
        raise ConfigError(f"{log.path}: holds no sample.")
    filters = {str(row.get("filter", "none")): None for _, row in rows[min(rows)]}
    return items, list(filters)


def _item(
    of_filters: Sequence[tuple[int, Mapping[str, Any]]], problems: LineProblems
) -> LoggedItem:
    line, row = of_filters[0]
    arguments: tuple[tuple[Any, ...], ...] = ()
    replies: tuple[Any, ...] = ()
    try:
        arguments = _arguments(row["arguments"])
        replies = _replies(row.get("resps"), arguments)
    except (ValueError, LookupError, TypeError):
        problems.add(line, "resps are not one log-likelihood or text for each of the arguments")
    asked = _conditional(arguments)
    scores: dict[str, float] = {}
    for _, scored in of_filters:
        for metric in scored.get("metrics") or ("acc", "acc_norm", "exact_match"):
            value = scored.get(metric)
            if isinstance(value, int | float):
                scores.setdefault(metric, float(value))
                if len(of_filters) > 1:
                    scores[f"{metric},{scored.get('filter', 'none')}"] = float(value)
    content = document_content(row["doc"])
    target = str(row.get("target", ""))
    return LoggedItem(line, asked, replies[: len(asked)], target, content, scores)


def _arguments(logged: Any) -> tuple[tuple[Any, ...], ...]:  # noqa: ANN401 - of any version
    """Requests as lm-eval's instances have them: ``{gen_args_0: {arg_0: …}}`` or lists."""
    requests = list(logged.values()) if isinstance(logged, dict) else list(logged)
    return tuple(
        tuple(request.values()) if isinstance(request, dict) else tuple(request)
        for request in requests
    )


def _conditional(arguments: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
    """Without the requests that ``acc_mutual_info`` makes beside them, with no context."""
    half = len(arguments) // 2
    beside = half > 0 and len(arguments) % 2 == 0 and arguments[0][0] != ""
    return (
        arguments[:half] if beside and all(a[0] == "" for a in arguments[half:]) else arguments
    )


def _replies(logged: Any, arguments: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:  # noqa: ANN401 - of any version
    """The first reply to each request.

    Raises:
        ValueError: There are not as many, or one is no reply to such a request; also
            LookupError and TypeError.
    """
    kind = _kind_of(arguments)
    replies = tuple(_reply(of_request[0], kind) for of_request in logged)
    if len(replies) != len(arguments):
        raise ValueError(f"{len(replies)} replies to {len(arguments)} requests")
    return replies


def _reply(logged: Any, kind: str) -> Any:  # noqa: ANN401 - what lm-eval's models reply
    if kind == "generate_until":
        return str(logged)
    if kind == "loglikelihood_rolling":
        return float(logged)
    likelihood, greedy = logged
    return float(likelihood), str(greedy) == "True"


def output_type(log: SampleLog, items: Sequence[LoggedItem]) -> str:
    """lm-eval's output type of the requests.

    Raises:
        ConfigError: They are of several, or of none that can be asked again.
    """
    kinds: dict[str, int] = {}
    for item in items:
        kinds.setdefault(_kind_of(item.arguments), item.line)
    if len(kinds) > 1 or "" in kinds:
        found = ", ".join(f"line {line}: {kind or 'unknown'}" for kind, line in kinds.items())
        raise ConfigError(
            f"{log.path}: requests must all be multiple choice, continuations, whole texts or "
            f"answers in writing; found {found}."
        )
    return next(iter(kinds))


def _kind_of(arguments: tuple[tuple[Any, ...], ...]) -> str:
    """lm-eval's output type; empty where the requests are of none."""
    texts = all(isinstance(a, str) for request in arguments for a in request)
    sizes = {len(request) for request in arguments}
    if sizes == {2} and texts:
        return "loglikelihood" if len(arguments) == 1 else "multiple_choice"
    if len(arguments) == 1 and sizes == {1} and texts:
        return "loglikelihood_rolling"
    if len(arguments) == 1 and sizes == {2}:
        context, options = arguments[0]
        if isinstance(context, str) and isinstance(options, dict):
            return "generate_until"
    return ""
