"""Questions in plain JSONL files as lm-eval tasks, with no task file to write."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.fitness.json_lines import LineProblems, read_json_lines
from evomerge.fitness.memory_task import MemoryTask, mean_metrics
from evomerge.fitness.scoring_settings import JsonlFiles

_FIELDS = ("question", "prompt", "choices", "answer", "text")
"""The fields that mean something; others are ignored."""

_CHOICE = "multiple choice (choices and answer)"
_WRITTEN = "an answer in writing (answer without choices)"
_TEXT = "a text to find likely (text alone)"

_FEWEST_CHOICES = 2

_MISSPELT = 0.8
"""Likeness from which an unknown field is taken for a misspelt one."""

_LONGEST_SHOWN = 40

Row = Mapping[str, Any]


def read_jsonl_task(name: str, files: JsonlFiles) -> MemoryTask:
    """The lm-eval configuration and documents of a task whose questions are in JSONL files.

    One JSON object a line, of one of these kinds, the same in all lines:

    * ``question`` (or ``prompt``), ``choices`` (a list of texts) and ``answer`` (the position
      from 0, the letter, or the text of a choice): the choice of the highest log-likelihood
      counts, after the question and a blank. Metrics ``acc`` and ``acc_norm``.
    * ``question`` (or ``prompt``) and ``answer`` (a text or a list of texts that all are
      right): the model writes on after the question; ``exact_match`` once blanks around
      both are taken off.
    * ``text``: its log-likelihood, metric ``gold_logprob``.

    Questions are asked as they stand. Blank lines and a byte order mark are skipped.

    Args:
        name: The task's name.
        files: Where the questions are and how written answers are taken.

    Raises:
        ConfigError: A file is missing, or lines are wrong; the first few of each kind.
    """
    problems: list[str] = []
    read: dict[str, list[_Question]] = {}
    for split, path in files.places.items():
        if path.is_file():
            read[split] = _read(path, problems)
        else:
            problems.append(f"{path}: no such file.")
    kinds: dict[str, str] = {}
    for question in (q for of_split in read.values() for q in of_split):
        kinds.setdefault(question.kind, question.place)
    if len(kinds) > 1:
        named = "; ".join(f"{place} is {kind}" for kind, place in kinds.items())
        problems.append(f"all questions of a task must be of one kind: {named}.")
    options = files.written_options
    if options and kinds and _WRITTEN not in kinds:
        problems.append(
            f"{', '.join(options)}: only for answers in writing; {next(iter(kinds.values()))} "
            f"is {next(iter(kinds))}."
        )
    if problems:
        raise ConfigError([f"task {name}: {problem}" for problem in problems])
    asked = {_CHOICE: _CHOICE_OPTIONS, _TEXT: _TEXT_OPTIONS, _WRITTEN: _written_options(files)}
    documents = {split: [q.document for q in found] for split, found in read.items()}
    return MemoryTask(name, asked[next(iter(kinds))], documents)


_CHOICE_OPTIONS: Mapping[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": mean_metrics("acc", "acc_norm"),
}

_TEXT_OPTIONS: Mapping[str, Any] = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "text",
}


def _written_options(files: JsonlFiles) -> dict[str, Any]:
    (exact_match,) = mean_metrics("exact_match")
    return {
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {
            "do_sample": False,
            "max_gen_toks": files.max_tokens or 64,
            "until": list(files.until or ("\n",)),
        },
        "filter_list": [
            {
                "name": "strip",
                "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}],
            }
        ],
        "metric_list": [{**exact_match, "ignore_case": bool(files.ignore_case)}],
    }


@dataclass(frozen=True)
class _Question:
    """A line that can be asked."""

    place: str
    kind: str
    document: Row


class _WrongLineError(ValueError):
    """A line that cannot be asked."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def _read(path: Path, problems: list[str]) -> list[_Question]:
    wrong = LineProblems(path)
    found: list[_Question] = []
    first: dict[str, int] = {}
    for number, row in read_json_lines(path, wrong):
        try:
            kind, document = _question(row)
        except _WrongLineError as error:
            wrong.add(number, error.reason, error.detail)
            continue
        asked = repr([value for key, value in document.items() if key != "answer"])
        if asked in first:
            earlier = f"as line {first[asked]}"
            wrong.add(number, "asks the same as an earlier line; keep one of them", earlier)
            continue
        first[asked] = number
        found.append(_Question(f"{path}:{number}", kind, document))
    problems += wrong.sentences()
    if not found and not wrong:
        problems.append(f"{path}: holds no question; write one JSON object a line.")
    return found


def _question(row: Row) -> tuple[str, Row]:
    """The kind of a line, and its document."""
    asks = [key for key in ("question", "prompt") if key in row]
    if "text" in row and not asks:
        beside = [key for key in ("choices", "answer") if key in row]
        if beside:
            raise _WrongLineError("a text stands alone", f"it has {' and '.join(beside)}")
        return _TEXT, {"text": _text(row, "text")}
    if len(asks) > 1:
        raise _WrongLineError("question and prompt mean the same; keep one of them")
    missing = [key for key in ("answer", "choices") if key not in row]
    if not asks:
        missing = ["question", "prompt", "text", *missing]
    for key in row:
        near = difflib.get_close_matches(key, missing, n=1, cutoff=_MISSPELT)
        if key not in _FIELDS and near:
            raise _WrongLineError(f"unknown field {key!r}", f"did you mean {near[0]!r}?")
    if not asks or "answer" not in row:
        raise _WrongLineError(
            "needs the fields question (or prompt) and answer, or only text",
            f"it has {', '.join(row) or 'none'}",
        )
    question = _text(row, asks[0])
    if "choices" not in row:
        return _WRITTEN, {"question": question, "answer": _right_answers(row["answer"])}
    choices = _choices(row["choices"])
    position = _position(row["answer"], choices)
    return _CHOICE, {"question": question, "choices": choices, "answer": position}


def _text(row: Row, key: str) -> str:
    if not isinstance(row[key], str) or not row[key].strip():
        raise _WrongLineError(f"{key} must be a text that is not empty", _shown(row[key]))
    return str(row[key])


def _right_answers(answer: object) -> list[str]:
    given = answer if isinstance(answer, list) else [answer]
    answers = [one.strip() for one in given if isinstance(one, str)]
    if not answers or len(answers) < len(given) or "" in answers:
        raise _WrongLineError(
            "answer must be a text or a list of texts, none empty (numbers in quotes)",
            _shown(answer),
        )
    return answers


def _choices(choices: object) -> list[str]:
    if not isinstance(choices, list) or len(choices) < _FEWEST_CHOICES:
        raise _WrongLineError("choices must be a list of two or more", _shown(choices))
    if not all(isinstance(one, str) and one.strip() for one in choices):
        raise _WrongLineError(
            "choices must be texts, none empty (numbers in quotes)", _shown(choices)
        )
    if len(set(choices)) < len(choices):
        raise _WrongLineError("two choices are the same", _shown(choices))
    return choices


def _position(answer: object, choices: Sequence[str]) -> int:
    """Which choice an answer names, where all it can mean is the same choice."""
    count = len(choices)
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < count:
            raise _WrongLineError(
                "answer is no position among the choices, which are counted from 0",
                f"{answer} of {count}",
            )
        return answer
    if not isinstance(answer, str):
        raise _WrongLineError(
            "answer must be the position, the letter or the text of a choice", _shown(answer)
        )
    letter = ascii_uppercase.find(answer) if len(answer) == 1 else -1
    meant = [choices.index(answer)] if answer in choices else []
    meant += [letter] if 0 <= letter < count else []
    if not meant:
        raise _WrongLineError("answer is none of the choices", _shown(answer))
    if len(set(meant)) > 1:
        raise _WrongLineError(
            "answer is the text of one choice and the letter of another; give the position, "
            "counted from 0",
            _shown(answer),
        )
    return meant[0]


def _shown(value: object) -> str:
    text = repr(value)
    return f"found {text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + '…'}"
