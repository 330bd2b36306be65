"""Write a commented experiment file for a user's own models and tasks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.presets import find_folder, preset_root
from evomerge.experiment.spec import BASE, ModelsSpec
from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.harness_task import HarnessTask
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.compatibility import check as check_compatibility
from evomerge.recipes.yaml_text import yaml_scalar

_SEARCH_ITEMS = 100

_NEAR = 3
"""So many steps up, and a folder is no longer near."""
_BLOCKS, _KNOTS = 3, 5
"""Layers that the presets by block, and slerp's, need at least."""


@dataclass(frozen=True)
class NewExperiment:
    """What the file is to name."""

    name: str
    base: str | None
    experts: Mapping[str, str]
    tasks: Sequence[str]
    include: Sequence[str] = ()


def write_experiment(folder: Path, new: NewExperiment, *, offline: bool = False) -> Path:
    """Write ``experiment.yaml`` into a folder; models and tasks are looked at first.

    Args:
        folder: Made if it does not exist; must not hold an experiment yet.
        new: Models and tasks.
        offline: Ask no hub for anything.

    Returns:
        The file's path; ``evomerge validate`` accepts it.

    Raises:
        ConfigError: A task is unknown, a name unusable, or the file exists already.
        CheckpointError: A model cannot be read or does not fit the others.
    """
    path = folder / "experiment.yaml"
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another folder or delete it.")
    try:
        models = ModelsSpec(base=new.base, experts=dict(new.experts))
    except ValidationError as error:
        reason = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise ConfigError(f"--expert: {reason}") from error
    layers = _checked_layers(models.all, offline=offline)
    include = [find_folder(given, Path()) for given in new.include]
    missing = [given for given, found in zip(new.include, include, strict=True) if not found]
    if missing:
        raise ConfigError(f"--include {missing[0]}: no such folder.")
    found = [place for place in include if place is not None]
    tasks = load_tasks([TaskSpec(name) for name in new.tasks], found, offline=offline)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, experiment_text(new, folder, found, tasks, layers))
    return path


def _checked_layers(models: Mapping[str, str], *, offline: bool) -> int:
    """The number of layers of models that fit each other."""
    opened: dict[str, SourceModel] = {}
    problems: list[str] = []
    for name, model in models.items():
        try:
            opened[name] = open_source(model, offline=offline)
        except CheckpointError as error:
            problems.append(f"{'--base' if name == BASE else f'--expert {name}'}: {error}")
    if not problems:
        problems = check_compatibility(opened, next(iter(opened)))
    if problems:
        raise CheckpointError("\n".join(problems))
    return count_layers(list(next(iter(opened.values())).tensors))


_TEXT = """\
name: {name}
seed: 0                  # same seed, file and versions give the same search

models:                  # folders (from this file's place) or hub ids
{models}

# What may vary: a preset's name, a YAML file, or a mapping as in the presets.
{space}

tasks:                   # lm-eval tasks: built-in ones by name, your own by folder
  include: [{include}]
  use: [{tasks}]

fitness:
  items:                 # of each task, drawn once by the seed
    search: {items:<6}       # answered by every candidate
    validation: all      # answered by the search front, to choose the final front
    test: all            # answered by the final front, for the report only

# Also: gold_logprob (mean log-likelihood of the right answer), margin, and every
# metric of the task itself. 'tasks: [a, b]' takes the mean over several tasks.
objectives:
{objectives}

optimizer:               # 'evomerge optimizers' tells which one when, and their options
{optimizer}

budget:                  # a hard total; also: minutes, item_evaluations
  candidates: 240

workers:                 # processes; the result is the same for any number of them
  count: 1               # with 'gpus: 1' on a GPU each; 'address: auto' on a Ray cluster

evaluation:              # part of a score's identity, fixed for a run
  dtype: auto            # as the base is stored (float16 on a CPU: float32), or name one
  batch_size: 32
  apply_chat_template: false
"""


def experiment_text(
    new: NewExperiment,
    folder: Path,
    include: Sequence[Path],
    tasks: Mapping[str, HarnessTask],
    layers: int,
) -> str:
    """The YAML text: every section with a comment on what else it may hold."""
    models = [f"  base: {_place(new.base, folder)}"] if new.base else []
    models.append("  experts:")
    for name, model in new.experts.items():
        models.append(f"    {yaml_scalar(name)}: {_place(model, folder)}")
    smallest = min(len(task.bank.items("search")) for task in tasks.values())
    objectives = [
        f"  - {{maximize: {yaml_scalar(_metric(tasks[name]))}, task: {yaml_scalar(name)}}}"
        for name in new.tasks
    ]
    return _TEXT.format(
        name=yaml_scalar(new.name),
        models="\n".join(models),
        space=_space(has_base=bool(new.base), experts=len(new.experts), layers=layers),
        include=", ".join(_place(str(place), folder) for place in include),
        tasks=", ".join(map(yaml_scalar, new.tasks)),
        items=min(_SEARCH_ITEMS, smallest),
        objectives="\n".join(objectives),
        optimizer="  name: nsga2\n  population: 24" if len(new.tasks) > 1 else "  name: cma_es",
    )


def _metric(task: HarnessTask) -> str:
    return "accuracy" if "accuracy" in task.metrics else next(iter(task.metrics))


def _space(*, has_base: bool, experts: int, layers: int) -> str:
    """A first space that suits the models; few layers are not cut into groups."""
    if has_base:
        by_block = "_by_block" if layers >= _BLOCKS else ""
        return (
            "# Others: ties, ties_by_block, dare_ties, task_arithmetic, linear, slerp.\n"
            f"space: task_arithmetic{by_block}"
        )
    if experts == 2:
        plain = "{operator: slerp, merge: {t: [0.0, 1.0]}}"
        space = "slerp" if layers >= _KNOTS else plain
    else:
        plain = "{operator: linear, experts: {weight: [0.05, 1.0]}}"
        space = "linear" if layers >= _BLOCKS else plain
    return f"# Without a base: linear, or slerp for two experts.\nspace: {space}"


def _place(model: str | None, folder: Path) -> str:
    """A place as the file names it.

    A folder near the file is written from the file's place, so that both can move together;
    one of ours by its preset path; any other in full. What is no folder stays as given.
    """
    path = Path(model or "").expanduser()
    if not path.is_dir():
        return yaml_scalar(str(model))
    if path.resolve().is_relative_to(preset_root() / "fitness"):
        return yaml_scalar(path.resolve().relative_to(preset_root()).as_posix())
    relative = Path(os.path.relpath(path.resolve(), folder.resolve()))
    near = relative.parts[:_NEAR] != ("..",) * _NEAR
    return yaml_scalar(str(relative if near else path.resolve()))
