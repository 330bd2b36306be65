"""Where an experiment's models, tasks and files lie, and how they are found after a move."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evomerge.core.model_spelling import map_parts, model_parts
from evomerge.core.plugins import plugin_place
from evomerge.experiment.load import Experiment
from evomerge.experiment.presets import find_folder
from evomerge.experiment.question_files import (
    find_question_file,
    question_files,
    with_question_files,
)
from evomerge.experiment.spec import BASE, ExperimentSpec


def located(experiment: Experiment) -> ExperimentSpec:
    """The specification with folders made absolute; what is no folder here stays as it is."""
    spec = experiment.spec

    def place(given: str) -> str:
        for folder in (experiment.folder / given, Path(given).expanduser()):
            if folder.exists():
                return str(folder.resolve())
        return given

    include = tuple(
        str(find_folder(given, experiment.folder) or given) for given in spec.tasks.include
    )
    models = {name: map_parts(given, place) for name, given in spec.models.all.items()}
    code = spec.tasks.code
    if any(task.score is not None for task in spec.tasks.use):
        code = str((experiment.folder / Path(code or "").expanduser()).resolve())
    tasks = with_question_files(
        spec.tasks, lambda given: find_question_file(given, experiment.folder)
    )
    plugins = tuple(plugin_place(name, experiment.folder) for name in spec.plugins)
    spec = _with_statistics(spec, lambda given: _beside(experiment, given))
    spec = spec.model_copy(update={"tasks": tasks, "plugins": plugins})
    spec = _with_calibration(spec, lambda given: str(_calibration_place(experiment, given)))
    return with_places(spec, models, include, code)


def _calibration_place(experiment: Experiment, given: str) -> Path:
    path = Path(given).expanduser()
    beside = experiment.folder / path
    return (beside if beside.is_file() else path).resolve()


def _beside(experiment: Experiment, given: str) -> str:
    """A file's or folder's absolute place; the experiment's folder is looked into first."""
    path = Path(given).expanduser()
    beside = experiment.folder / path
    return str((beside if beside.exists() else path).resolve())


def _with_statistics(spec: ExperimentSpec, place: Callable[[str], str]) -> ExperimentSpec:
    placed = {name: place(given) for name, given in spec.models.statistics.items()}
    models = spec.models.model_copy(update={"statistics": placed})
    return spec.model_copy(update={"models": models})


def _with_calibration(spec: ExperimentSpec, place: Callable[[str], str]) -> ExperimentSpec:
    given = spec.fitness.calibration
    if not isinstance(given, str):
        return spec
    fitness = spec.fitness.model_copy(update={"calibration": place(given)})
    return spec.model_copy(update={"fitness": fitness})


def with_places(
    spec: ExperimentSpec,
    models: Mapping[str, str],
    include: Sequence[str] | None = None,
    code: str | None = None,
) -> ExperimentSpec:
    """The specification with other places.

    Args:
        spec: What to change.
        models: By name, the base under ``base``; those not named stay where they are.
        include: Task folders; None keeps them.
        code: Folder of functions and commands; None keeps it.
    """
    places = {**spec.models.all, **models}
    base = places.pop(BASE, None)
    sources = spec.models.model_copy(update={"base": base, "experts": places})
    tasks = spec.tasks
    if include is not None:
        tasks = tasks.model_copy(update={"include": tuple(include)})
    if code is not None:
        tasks = tasks.model_copy(update={"code": code})
    return spec.model_copy(update={"models": sources, "tasks": tasks})


def local_places(spec: ExperimentSpec) -> tuple[str, ...]:
    """Every folder and file of this machine that a located specification names."""
    places = [part for model in spec.models.all.values() for part in model_parts(model)]
    places += [*spec.tasks.include, *question_files(spec.tasks)]
    places += [*spec.plugins, *spec.models.statistics.values()]
    places += [spec.tasks.code] if spec.tasks.code is not None else []
    given = spec.fitness.calibration
    places += [given] if isinstance(given, str) else []
    return tuple(dict.fromkeys(place for place in places if Path(place).is_absolute()))


def relative_places(spec: ExperimentSpec, run_dir: Path) -> dict[str, str]:
    """Path from the run directory to each local place, so that both can move together."""
    home = run_dir.resolve()
    return {place: os.path.relpath(place, home) for place in local_places(spec)}


def moved(spec: ExperimentSpec, run_dir: Path, relative: Mapping[str, str]) -> ExperimentSpec:
    """The specification with local places found from where the run directory is now."""

    def place(recorded: str) -> str:
        beside = run_dir.resolve() / relative.get(recorded, recorded)
        return str(beside.resolve()) if recorded in relative and beside.exists() else recorded

    found = {recorded: place(recorded) for recorded in (*local_places(spec), *relative)}
    return with_found(spec, found)


def with_found(spec: ExperimentSpec, found: Mapping[str, str]) -> ExperimentSpec:
    """The specification with local places found elsewhere, by where they were."""

    def place(recorded: str) -> str:
        return found.get(recorded, recorded)

    models = {name: map_parts(given, place) for name, given in spec.models.all.items()}
    include = [place(folder) for folder in spec.tasks.include]
    code = place(spec.tasks.code) if spec.tasks.code is not None else None
    plugins = tuple(map(place, spec.plugins))
    spec = _with_statistics(spec, place)
    tasks = with_question_files(spec.tasks, place)
    spec = spec.model_copy(update={"tasks": tasks, "plugins": plugins})
    return with_places(_with_calibration(spec, place), models, include, code)
