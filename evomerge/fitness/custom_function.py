"""Custom fitness by a Python function of the user's, given the model in memory."""

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from evomerge.core.errors import ConfigError, EvomergeError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.core.streams import derived_seed
from evomerge.fitness.custom_code import (
    content_digest,
    files_of_module,
    import_module,
    importable,
    place_in,
)
from evomerge.fitness.custom_model_guard import lent, seeded
from evomerge.fitness.custom_task import CustomItems, CustomTask, custom_bank, scored
from evomerge.fitness.global_generators import untouched_generators
from evomerge.fitness.quiet_libraries import quiet

_WANTED = ("model", "tokenizer", "items")
"""What a function is called with, in order."""


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's with where it came from."""

    reference: str
    """``module:function``."""

    call: Callable[..., Any]
    folder: Path
    """Where its module was looked for first."""

    file: Path
    """That defines its module."""

    digests: Mapping[str, str]
    """Of the files that define it, by path from the folder; of the module's file alone, by
    the module's name, where that is not of the folder."""


@dataclass(frozen=True)
class FunctionTask(CustomTask):
    """A task scored by a function."""

    function: UserFunction


def load_function(reference: str, folder: Path) -> UserFunction:
    """Import a function and check that it can be called as it will be.

    Args:
        reference: ``module:function``; dots in either part as in Python.
        folder: Its modules are found before installed ones.

    Raises:
        ConfigError: The module is unknown or raises, or there is no such function in it, or
            it does not take model, tokenizer and items.
    """
    name, _, attribute = reference.partition(":")
    folder = folder.resolve()
    with untouched_generators(), quiet():
        module = import_module(name, folder)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            inside = getattr(found, "__dict__", {})
            known = [key for key, value in inside.items() if _is_own(value, module)]
            raise ConfigError(f"module {name}: {unknown('function', part, known)}")
        found = getattr(found, part)
    _check_callable(reference, found)
    file = Path(getattr(module, "__file__", None) or folder).resolve()
    files = files_of_module(name, folder) or {name: file}
    digests = {place: content_digest(path) for place, path in files.items()}
    return UserFunction(reference, found, folder, file, digests)


def function_task(
    name: str, function: UserFunction, items: CustomItems, seed: int
) -> FunctionTask:
    """The task that a function scores.

    Its version changes with the function's name, with its module's file and those of the
    folder that this imports, with the number of items and with the metrics.
    """
    definition = {"function": function.reference, "files": dict(function.digests)}
    bank = custom_bank(name, definition, items, seed)
    return FunctionTask(name, bank, dict.fromkeys(items.metrics, True), function)


class FunctionScorer:
    """Scores the model in memory by functions.

    Each task's function is called once for all items asked of it. It runs without gradients,
    with the global random generators seeded by the task's name and afterwards restored, and
    finds the tokenizer as it left it in its last call.

    Args:
        tasks: What is scored.
        model: The resident model.
        tokenizer: Its tokenizer; each task has a copy of its own.
        identity: Names the model now in memory, to tell two models' measurements apart.
    """

    def __init__(
        self,
        tasks: Mapping[str, FunctionTask],
        model: torch.nn.Module,
        tokenizer: transformers.PreTrainedTokenizerBase,
        identity: Callable[[], str],
    ) -> None:
        self._tasks = tasks
        self._model = model
        self._tokenizers = {name: copy.deepcopy(tokenizer) for name in tasks}
        self._identity = identity

    def responses(self, items: Items) -> Responses:
        """The model's responses to some items.

        A task that is scored as a whole answers all items of each split asked.

        Raises:
            TrialError: A function returned what is no score, or called ``sys.exit``.
            Exception: Whatever a function raised, with a note of where in the user's code.
        """
        return {name: self._scored(self._tasks[name], chosen) for name, chosen in items.items()}

    def _scored(self, task: FunctionTask, items: Sequence[int]) -> ItemResponses:
        return scored(task, items, functools.partial(self._called, task), self._identity())

    def _called(self, task: FunctionTask, asked: tuple[int, ...] | str) -> Any:  # noqa: ANN401 - whatever the user's code returns
        function = task.function
        seed = derived_seed(0, "custom function", task.name)
        tokenizer = self._tokenizers[task.name]
        try:
            with seeded(seed), quiet(), importable(function.folder), lent(self._model):
                return function.call(self._model, tokenizer, asked)
        except SystemExit as error:
            place = place_in(error.__traceback__, function.folder, function.file)
            raise TrialError(f"it called sys.exit({error.code!r}) ({place})") from error
        except BaseException as error:
            if not isinstance(error, EvomergeError):
                place = place_in(error.__traceback__, function.folder, function.file)
                error.add_note(f"({place or function.reference}, task {task.name})")
            raise


def _check_callable(reference: str, found: Any) -> None:  # noqa: ANN401 - whatever has that name
    if not callable(found):
        what = f"{type(found).__name__} {found!r:.40}"
        raise ConfigError(f"{reference} is no function but {what}.")
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        raise ConfigError(f"{reference} is async or a generator; give a plain function.")
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return  # some built-in callables have none
    try:
        signature.bind(*_WANTED)
    except TypeError as error:
        name = reference.rpartition(":")[2].rpartition(".")[2]
        raise ConfigError(
            f"{reference}{signature} cannot be called with ({', '.join(_WANTED)}): {error}; "
            f"define it as 'def {name}({', '.join(_WANTED)})'."
        ) from error


def _is_own(value: Any, module: types.ModuleType) -> bool:  # noqa: ANN401 - any attribute
    """Whether something callable is defined in a module rather than imported into it."""
    return callable(value) and getattr(value, "__module__", None) == module.__name__
