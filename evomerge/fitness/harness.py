"""The lm-eval adapter: its tasks as item banks, its language model as a scorer of items.

Only lm-eval's task and model classes are used. Its ``simple_evaluate`` re-seeds the global
random generators, and its response cache is not keyed by the model's weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import jinja2
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.global_generators import untouched_generators
from evomerge.fitness.harness_task import HarnessTask, refuse_unsupported
from evomerge.fitness.jsonl_task import read_jsonl_task
from evomerge.fitness.logged_task import build_logged_task
from evomerge.fitness.quiet_libraries import hub_access, quiet
from evomerge.fitness.rendered_templates import render_once
from evomerge.fitness.scoring_settings import ScoringSettings, TaskSpec
from evomerge.fitness.task_files import find_task_files, with_local_data

__all__ = ["HarnessTask", "ScoringSettings", "TaskSpec", "load_tasks"]


_LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    datasets.exceptions.DatasetsError,
    jinja2.TemplateError,
    yaml.YAMLError,
)
"""What a task file that is wrong, or whose data are not there, has been seen to raise."""


def load_tasks(
    use: Sequence[TaskSpec],
    include: Sequence[Path] = (),
    seed: int = 0,
    *,
    offline: bool = False,
) -> dict[str, HarnessTask]:
    """Load lm-eval tasks and their data.

    A name is looked up in the ``include`` folders first. Only if a name is not there are
    lm-eval's built-in tasks indexed, which takes seconds.
    Where a spec brings its own questions, its name is looked up nowhere.

    Args:
        use: Tasks, in the order of the result.
        include: Folders of task YAMLs; relative data files are looked for beside the YAML.
        seed: Decides the splits of tasks that bring none of their own.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: A task is unknown, cannot be loaded, or is of a kind that is not
            supported; every such problem is listed.
    """
    files = find_task_files(include)
    problems: list[str] = []
    tasks: dict[str, HarnessTask] = {}
    with untouched_generators(), quiet(), hub_access(allowed=not offline):
        indexed = any(spec.in_lm_eval and spec.name not in files for spec in use)
        built_in = TaskManager() if indexed else None
        for spec in use:
            try:
                task = _built(spec, files, built_in)
                _use_fewshot(task, spec.num_fewshot)
                render_once(task)
                tasks[spec.name] = HarnessTask(task, seed)
            except ConfigError as error:
                problems += error.problems
            except _LOADING_ERRORS as error:
                problems.append(
                    f"task {spec.name} cannot be loaded: {type(error).__name__}: {error}"
                )
    if problems:
        raise ConfigError(problems)
    return tasks


def _built(
    spec: TaskSpec, files: Mapping[str, Path], built_in: TaskManager | None
) -> ConfigurableTask:
    name = spec.name
    if spec.jsonl is not None:
        loaded = {name: read_jsonl_task(name, spec.jsonl).build(_from_config)}
    elif spec.samples is not None:
        loaded = {name: build_logged_task(name, spec.samples, _from_config)}
    elif name in files:
        config = with_local_data(load_yaml(files[name]), files[name].parent)
        loaded = {name: _from_config(config)}
    elif built_in is None or name not in built_in.all_tasks:
        known = [*files, *(built_in.all_tasks if built_in else [])]
        listed = [*files, "and lm-eval's own"] if built_in else None
        raise ConfigError(unknown("task", name, known, listed))
    elif name not in built_in.all_subtasks:
        raise ConfigError(
            f"task {name!r} is a group or tag of lm-eval; name its tasks one by one "
            f"(lm-eval ls tasks lists them)."
        )
    else:
        loaded = built_in.load([name])["tasks"]
    task = loaded[name]
    if not isinstance(task, ConfigurableTask):
        raise ConfigError(f"task {name}: {type(task).__name__} is not a ConfigurableTask.")
    refuse_unsupported(name, task)
    return task


def _from_config(config: dict[str, Any]) -> ConfigurableTask:
    return TaskManager(include_defaults=False).load([config])["tasks"][config["task"]]


def _use_fewshot(task: ConfigurableTask, asked: int | None) -> None:
    own = task.config.num_fewshot or 0
    task.set_config("num_fewshot", own if asked is None else asked)
