"""Tasks whose questions are in files of their own: where these are, and what they are for."""

from collections.abc import Callable
from pathlib import Path

from evomerge.experiment.spec import JsonlSplits, TasksSpec, TaskUse
from evomerge.fitness.scoring_settings import JsonlFiles, TaskSpec


def question_files(tasks: TasksSpec) -> list[str]:
    """Every file of questions that some tasks name, as they name it."""
    return [path for task in tasks.use for path in _paths(task).values()]


def with_question_files(tasks: TasksSpec, place: Callable[[str], str]) -> TasksSpec:
    """The same tasks with their files in other places.

    Args:
        tasks: Those of an experiment.
        place: From a path as it is now to the path as it shall be.
    """
    return tasks.model_copy(
        update={"use": tuple(_relocated(task, place) for task in tasks.use)}
    )


def find_question_file(given: str, folder: Path) -> str:
    """The absolute path of a file: from a folder, else from the working directory.

    Args:
        given: As the experiment file has it.
        folder: The experiment file's.
    """
    path = Path(given).expanduser()
    for place in (folder / path, path):
        if place.is_file():
            return str(place.resolve())
    return str((folder / path).resolve())


def task_spec(task: TaskUse) -> TaskSpec:
    """The task as the loader of lm-eval's tasks wants it."""
    places = {key: Path(path) for key, path in _paths(task).items()}
    options = (task.until, task.max_tokens, task.ignore_case)
    return TaskSpec(
        task.name,
        task.num_fewshot,
        jsonl=JsonlFiles(places, *options) if task.jsonl is not None else None,
        samples=places["samples"] if task.samples is not None else None,
    )


def _paths(task: TaskUse) -> dict[str, str]:
    if isinstance(task.jsonl, JsonlSplits):
        return task.jsonl.model_dump()
    whole = {"jsonl": task.jsonl, "samples": task.samples}
    return {key: path for key, path in whole.items() if path is not None}


def _relocated(task: TaskUse, place: Callable[[str], str]) -> TaskUse:
    jsonl = task.jsonl
    if isinstance(jsonl, JsonlSplits):
        jsonl = JsonlSplits(
            **{split: place(path) for split, path in jsonl.model_dump().items()}
        )
    elif jsonl is not None:
        jsonl = place(jsonl)
    samples = place(task.samples) if task.samples is not None else None
    return task.model_copy(update={"jsonl": jsonl, "samples": samples})
