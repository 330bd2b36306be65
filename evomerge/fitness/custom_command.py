"""Custom fitness by a command of the user's, given a model folder, printing JSON."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.custom_code import content_digest, files_of_module, files_of_script
from evomerge.fitness.custom_model_folder import temporary_model_folder
from evomerge.fitness.custom_process import (
    command_path,
    how_it_ended,
    last_words,
    run_command,
)
from evomerge.fitness.custom_task import CustomItems, CustomTask, custom_bank, scored

MODEL = "{model}"
"""Stands for the model's folder in a command."""

_LONGEST_VARIABLE = 100_000
"""Letters; a longer list of items is on standard input only."""

_EXPECTED = '{"score": 0.7} or {"items": {"3": 1.0, …}}'
_INTERPRETER = re.compile(r"(python|bash|sh|perl|ruby|node)[\d.]*")
_SCRIPT = re.compile(r"[^-].*\.(py|sh|bash|pl|rb|js)")


@dataclass(frozen=True)
class UserCommand:
    """A command of the user's."""

    arguments: tuple[str, ...]
    """Program and arguments; ``{model}`` in them stands for the model's folder."""

    folder: Path
    """Its working directory."""

    timeout: float
    """Seconds for one call."""

    digests: Mapping[str, str]
    """Of the files of the folder that it names, and of what Python files among them import,
    by path from the folder."""


@dataclass(frozen=True)
class CommandTask(CustomTask):
    """A task scored by a command."""

    command: UserCommand


def load_command(arguments: Sequence[str], folder: Path, timeout: float) -> UserCommand:
    """Check a command as far as can be without running it.

    Raises:
        ConfigError: Its program or its script is not there.
    """
    folder = folder.resolve()
    problems = [
        *_program_problems(arguments[0], folder),
        *_argument_problems(arguments, folder),
    ]
    if problems:
        raise ConfigError(problems)
    files: dict[str, Path] = {}
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if before == "-m":
            files |= files_of_module(argument, folder)
        for name in (argument, argument.partition("=")[2]):
            file = folder / name
            if name and file.is_file() and file.resolve().is_relative_to(folder):
                files |= files_of_script(file, folder)
    digests = {place: content_digest(file) for place, file in sorted(files.items())}
    return UserCommand(tuple(arguments), folder, timeout, digests)


def command_task(name: str, command: UserCommand, items: CustomItems, seed: int) -> CommandTask:
    """The task that a command scores.

    Its version changes with the command line, with the folder's files that it names and
    those that they import, with the number of items and with the metrics; not with the
    timeout.
    """
    definition = {"command": list(command.arguments), "files": dict(command.digests)}
    bank = custom_bank(name, definition, items, seed)
    return CommandTask(name, bank, dict.fromkeys(items.metrics, True), command)


class CommandScorer:
    """Scores merged models by commands, which find them as model folders.

    A model is exported once for all tasks asked of it, and the folder removed afterwards.

    Args:
        tasks: What is scored.
        export: Writes the model to be scored as a new folder.
        identity: Names that model, to tell two models' measurements apart.
    """

    def __init__(
        self,
        tasks: Mapping[str, CommandTask],
        export: Callable[[Path], None],
        identity: Callable[[], str],
    ) -> None:
        self._tasks = tasks
        self._export = export
        self._identity = identity

    def responses(self, items: Items) -> Responses:
        """The model's responses to some items.

        A task that is scored as a whole answers all items of each split asked.

        Raises:
            TrialError: A command failed, took too long or printed what is no score.
            StoreError: The model cannot be written.
        """
        with temporary_model_folder() as place:
            model = place / "model"
            self._export(model)
            return {
                name: self._scored(self._tasks[name], chosen, model)
                for name, chosen in items.items()
            }

    def _scored(self, task: CommandTask, items: Sequence[int], model: Path) -> ItemResponses:
        def ask(asked: tuple[int, ...] | str) -> Mapping[Any, Any]:
            if isinstance(asked, str):
                return _whole(_printed(task, {"split": asked}, model))
            return _by_item(_printed(task, {"items": list(asked)}, model))

        return scored(task, items, ask, self._identity())


def _printed(task: CommandTask, asked: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """The JSON object on the last line that a task's command prints."""
    command = task.command
    variables = {"EVOMERGE_TASK": task.name, "EVOMERGE_MODEL": str(model)}
    for key, value in asked.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) <= _LONGEST_VARIABLE:
            variables[f"EVOMERGE_{key.upper()}"] = text
    arguments = [argument.replace(MODEL, str(model)) for argument in command.arguments]
    given = json.dumps({"task": task.name, "model": str(model), **asked})
    ended = run_command(arguments, command.folder, given, variables, command.timeout)
    failed = how_it_ended(ended, command.timeout)
    if failed is not None:
        raise TrialError(failed)
    lines = [line for line in ended.output.splitlines() if line.strip()]
    if not lines:
        raise TrialError(f"the command gave no output, expected {_EXPECTED}{last_words(ended)}")
    try:
        found = json.loads(lines[-1])
    except ValueError as error:
        raise TrialError(
            f"the last line that the command printed is no JSON: {lines[-1].strip():.80}; "
            f"expected {_EXPECTED}"
        ) from error
    if not isinstance(found, dict):
        raise TrialError(f"the command printed {lines[-1].strip():.80}, expected {_EXPECTED}")
    return found


def _by_item(printed: Mapping[str, Any]) -> dict[int, Any]:
    by_item = printed.get("items")
    if set(printed) != {"items"} or not isinstance(by_item, dict):
        raise TrialError(
            f'the command printed {json.dumps(printed):.80}, expected {{"items": {{"3": 1.0, '
            "…}}; a task with one score for the whole names no 'items' in the experiment file"
        )
    strange = [key for key in by_item if not re.fullmatch(r"[0-9]{1,18}", key)]
    if strange:
        raise TrialError(f"expected item numbers as keys, found {strange[0]!r:.60}")
    return {int(key): value for key, value in by_item.items()}


def _whole(printed: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(printed.get("items"), dict):
        raise TrialError(
            "the command printed values by item, expected one score; name the number of "
            "'items' in the experiment file to be asked for items"
        )
    return printed


def _program_problems(program: str, folder: Path) -> list[str]:
    if "/" in program:
        place = folder / program
        if place.is_file() and os.access(place, os.X_OK):
            return []
        reason = "is not executable (chmod +x)" if place.is_file() else "does not exist"
        return [f"command: {place} {reason}."]
    if shutil.which(program, path=command_path()):
        return []
    beside = (
        f"; for the file beside it write './{program}'" if (folder / program).exists() else ""
    )
    return [f"command: no program {program!r} on the PATH{beside}."]


def _argument_problems(arguments: Sequence[str], folder: Path) -> list[str]:
    problems = []
    if len(arguments) > 1 and _INTERPRETER.fullmatch(Path(arguments[0]).name):
        script = arguments[1]
        if _SCRIPT.fullmatch(script) and not (folder / script).is_file():
            there = [path.name for path in sorted(folder.glob(f"*{Path(script).suffix}"))]
            problems.append(f"command: {unknown('file', script, there)} (in {folder}).")
    for argument in arguments:
        for placeholder in re.findall(r"\{\w+\}", argument):
            sentence = unknown("placeholder", placeholder, [MODEL])
            if placeholder != MODEL and "did you mean" in sentence:
                problems.append(f"command: {sentence}.")
    return problems
