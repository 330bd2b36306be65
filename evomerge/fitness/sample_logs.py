"""Item responses from what ``lm_eval --log_samples --output_path`` has written."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.harness_task import HarnessTask
from evomerge.fitness.json_lines import LineProblems, read_json_lines
from evomerge.fitness.reply_values import correctness_metric
from evomerge.fitness.response_matrix import ResponseMatrix

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.+-]+)\.jsonl")

LOGGED = "logged_document"
"""In the documents of a task made of a log: the content of the document that was logged."""

_ASKED = (
    "output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix",
    "target_delimiter", "fewshot_delimiter", "num_fewshot", "generation_kwargs", "filter_list",
    "metric_list", "process_results", "repeats",
)  # fmt: skip
"""Keys of a task's configuration that decide what is asked and how it is scored."""

_SHOWN = 3
"""Examples named in a message."""


@dataclass(frozen=True)
class SampleLog:
    """One model's logged answers to one task, and what lm-eval recorded beside them."""

    path: Path
    task: str
    time: str
    """When the run ended, as lm-eval spells it; later runs sort last."""

    model: str
    """As in the run's ``results_*.json``; without one, the folder's name."""

    results: Mapping[str, Any]
    """The run's ``results_*.json``; empty where it is not there."""

    @property
    def config(self) -> Mapping[str, Any]:
        """lm-eval's configuration of the task; empty where no results file tells it."""
        return dict((self.results.get("configs") or {}).get(self.task) or {})

    @property
    def asked(self) -> dict[str, Any]:
        """What of the task's configuration decides questions and scores."""
        return {key: self.config[key] for key in _ASKED if key in self.config}

    @property
    def setup(self) -> dict[str, Any]:
        """What besides weights can change the answers of one model."""
        run = self.results.get("config") or {}
        told = {key: run[key] for key in ("model", "model_args", "gen_kwargs") if key in run}
        for key in ("chat_template_sha", "system_instruction_sha"):
            if key in self.results:
                told[key] = self.results[key]
        return {**told, **self.asked}


def find_sample_logs(folders: Sequence[Path]) -> list[SampleLog]:
    """Every ``samples_TASK_TIME.jsonl`` in some folders and below, oldest first.

    Raises:
        ConfigError: A folder is missing, or a results file beside a log is not JSON.
    """
    problems = [
        f"{folder}: no such folder of lm-eval samples (looked at {folder.resolve()})."
        for folder in folders
        if not folder.exists()
    ]
    if problems:
        raise ConfigError(problems)
    paths: dict[Path, None] = {}
    for folder in folders:
        found = [folder] if folder.is_file() else sorted(folder.rglob("samples_*.jsonl"))
        paths.update(dict.fromkeys(path.resolve() for path in found))
    logs = [log for path in paths if (log := open_sample_log(path)) is not None]
    return sorted(logs, key=lambda log: (log.time, str(log.path)))


def open_sample_log(path: Path) -> SampleLog | None:
    """The log of that path with what stands beside it; None where the name is no log's.

    Raises:
        ConfigError: The results file beside it is not JSON.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    results: Mapping[str, Any] = {}
    # With --output_path FILE.json the results are FILE_TIME.json.
    beside = sorted(path.parent.glob(f"*_{match['time']}.json"))
    if beside:
        try:
            results = json.loads(beside[0].read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{beside[0]}: not JSON: {error}.") from error
    model = str(results.get("model_name") or path.parent.name)
    return SampleLog(path, match["task"], match["time"], model, results)


def read_sample_logs(
    folders: Sequence[Path], task: str, metric: str, bank: HarnessTask | None = None
) -> ResponseMatrix:
    """What the models in some folders scored on a task, one model a row.

    Of several runs of one model the newest answer to each item counts; runs that were set up
    differently are refused. Items that a model was not asked are NaN.

    Args:
        folders: What ``--output_path`` named, or folders above or below.
        task: lm-eval's name of the task.
        metric: A metric of the log, ``accuracy`` for the one that counts as such, or
            ``metric,filter``; the plain name means the task's first filter.
        bank: The task whose items are meant; items then are its numbers, found by the
            documents' content. Without it they are lm-eval's ``doc_id``.

    Raises:
        ConfigError: No log of the task, a line that is not readable, no such metric, a
            metric that is not one number of 0…1, documents that differ between models or
            are not in the bank, or runs that asked in different ways.
    """
    found = find_sample_logs(folders)
    logs = [log for log in found if log.task == task]
    if not logs:
        where = ", ".join(map(str, folders))
        names = sorted({log.task for log in found})
        raise ConfigError(
            f"{where}: {unknown('task', task, names)}."
            if names
            else f"{where}: no samples_*.jsonl there; make them with lm_eval --log_samples."
        )
    problems = _disagreements(logs)
    if problems:
        raise ConfigError(problems)
    answers = _Answers(metric, _Numbering(bank) if bank else None)
    for log in logs:
        answers.read(log)
    return answers.matrix()


def _disagreements(logs: Sequence[SampleLog]) -> list[str]:
    problems = []
    newest: dict[str, SampleLog] = {log.model: log for log in logs}
    for log in logs:
        reference = newest[log.model]
        changed = _changed(log.setup, reference.setup)
        if changed:
            problems.append(
                f"{log.path} and {reference.path} are runs of {log.model} that differ in "
                f"{changed}; keep the one that is meant."
            )
    first = logs[0]
    for log in newest.values():
        changed = _changed(log.asked, first.asked)
        if changed:
            problems.append(
                f"{log.path} and {first.path} ask task {log.task} in different ways: "
                f"{changed}; their scores cannot be compared."
            )
    return problems


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Which keys that both tell have other values, in words."""
    keys = [key for key in one if key in other and one[key] != other[key]]
    told = [f"{key} ({one[key]!r:.60} and {other[key]!r:.60})" for key in keys[:_SHOWN]]
    return ", ".join(told) + (" …" if len(keys) > _SHOWN else "")


class _Answers:
    """Scores by model and item, gathered log by log, the oldest first."""

    def __init__(self, metric: str, numbering: "_Numbering | None") -> None:
        self._metric, _, self._filter = metric.partition(",")
        self._numbering = numbering
        self._contents: dict[str, str] = {}  # by lm-eval's hash, which takes no time to look up
        self._seen: dict[int, tuple[str, Path]] = {}
        self._scores: dict[str, dict[int, float]] = {}

    def read(self, log: SampleLog) -> None:
        """Take over a log's scores.

        Raises:
            ConfigError: See ``read_sample_logs``.
        """
        problems = LineProblems(log.path)
        scores = self._scores.setdefault(log.model, {})
        for line, row in self._rows(log, problems):
            doc_id, document = row.get("doc_id"), row.get("doc")
            if not isinstance(doc_id, int) or document is None:
                problems.add(line, "no doc_id and doc; this is no log of lm_eval 0.4")
                continue
            item = self._item(log, doc_id, self._content(row), line, problems)
            if item is not None:
                scores[item] = self._score(log, row)
        if problems:
            raise ConfigError(problems.sentences())

    def matrix(self) -> ResponseMatrix:
        """What was gathered, items in ascending order."""
        items = sorted({item for scores in self._scores.values() for item in scores})
        column = {item: k for k, item in enumerate(items)}
        values = np.full((len(self._scores), len(items)), np.nan)
        for row, scores in enumerate(self._scores.values()):
            values[row, [column[item] for item in scores]] = list(scores.values())
        return ResponseMatrix(tuple(self._scores), tuple(map(str, items)), values)

    def _rows(
        self, log: SampleLog, problems: LineProblems
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The lines that the wanted filter made."""
        chosen = self._filter
        filters: dict[str, None] = {}
        for line, row in read_json_lines(log.path, problems):
            here = str(row.get("filter", "none"))
            filters[here] = None
            chosen = chosen or here
            if here == chosen:
                yield line, row
        if filters and chosen not in filters:
            raise ConfigError(f"{log.path}: {unknown('filter', chosen, filters)}.")

    def _content(self, row: Mapping[str, Any]) -> str:
        known = row.get("doc_hash")
        if not isinstance(known, str):
            return document_content(row["doc"])
        if known not in self._contents:
            self._contents[known] = document_content(row["doc"])
        return self._contents[known]

    def _item(
        self, log: SampleLog, doc_id: int, content: str, line: int, problems: LineProblems
    ) -> int | None:
        if self._numbering is not None:
            item = self._numbering.item(doc_id, content)
            if item is None:
                problems.add(
                    line,
                    f"its document is none of task {self._numbering.task}'s; the data or the "
                    "task's process_docs are of another version",
                    f"doc_id {doc_id}",
                )
            return item
        seen, path = self._seen.setdefault(doc_id, (content, log.path))
        if seen != content:
            problems.add(
                line,
                f"its document is not the one of the same doc_id in {path}; the data are of "
                "different versions",
                f"doc_id {doc_id}",
            )
        return doc_id

    def _score(self, log: SampleLog, row: Mapping[str, Any]) -> float:
        logged = row.get("metrics") or [
            key for key, value in row.items() if isinstance(value, Real) and key != "doc_id"
        ]
        name = self._metric
        if name == "accuracy" and name not in logged:
            name = correctness_metric(dict.fromkeys(logged, True)) or name
        if name not in row or name not in logged:
            raise ConfigError(f"{log.path}: {unknown('metric', self._metric, logged)}.")
        value = row[name]
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise ConfigError(
                f"{log.path}: metric {name!r} is {value!r} for doc_id {row['doc_id']}; scores "
                f"must be one number of 0 to 1 an item. The log has: {', '.join(logged)}."
            )
        return float(value)


class _Numbering:
    """Which items of a bank are a logged document."""

    def __init__(self, task: HarnessTask) -> None:
        self.task = task.name
        count = task.bank.count
        documents = (task.document(item) for item in range(count))
        self._contents = [
            document[LOGGED] if LOGGED in document else document_content(document)
            for document in documents
        ]
        self._items: dict[str, int] = {}
        for item, content in enumerate(self._contents):
            self._items.setdefault(content, item)
        # What lm-eval evaluates on, and so numbers, is the last of a task's data splits.
        _, index = task.origin(count - 1)
        self._first_evaluated = count - 1 - index

    def item(self, doc_id: int, content: str) -> int | None:
        """The item, by lm-eval's number where the content agrees, else by content alone."""
        numbered = self._first_evaluated + doc_id
        if 0 <= numbered < len(self._contents) and self._contents[numbered] == content:
            return numbered
        return self._items.get(content)


def document_content(document: Any) -> str:  # noqa: ANN401 - a row of any data set
    """Digest of a document; equal for a document and for what lm-eval logs of it."""
    plain = json.loads(json.dumps(document, default=str))
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
