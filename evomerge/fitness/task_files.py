"""Local lm-eval task files: which task is in which YAML, and where its data lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evomerge.core.errors import ConfigError

_NOT_TASKS = {"__pycache__", ".ipynb_checkpoints"}


class _NamesOnly(yaml.SafeLoader):
    """Reads keys and plain values; what a tag such as ``!function`` means is not asked."""


_NamesOnly.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


def find_task_files(include: Sequence[Path]) -> dict[str, Path]:
    """The YAML file of every task in some folders, by task name.

    Only files whose ``task:`` is a name count; groups and shared defaults do not.

    Raises:
        ConfigError: A folder is missing, a YAML cannot be read, or two files define a task
            of the same name.
    """
    problems: list[str] = []
    found: dict[str, Path] = {}
    for folder in include:
        if not folder.is_dir():
            problems.append(
                f"tasks.include: {folder} is not a folder (looked at {folder.resolve()})."
            )
            continue
        for path in sorted(folder.rglob("*.yaml")):
            if _NOT_TASKS.intersection(path.parts):
                continue
            try:
                name = _task_name(path)
            except yaml.YAMLError as error:
                problems.append(f"{path}: not readable as YAML: {error}")
                continue
            if name is None:
                continue
            if found.setdefault(name, path).resolve() != path.resolve():
                problems.append(f"task {name!r} is defined by {found[name]} and by {path}.")
    if problems:
        raise ConfigError(problems)
    return found


def _task_name(path: Path) -> str | None:
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=_NamesOnly)
    name = content.get("task") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def with_local_data(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A task's configuration whose relative data paths are resolved against its folder.

    Concerned are ``dataset_kwargs.data_files`` and ``data_dir``. A path that does not exist
    in the folder is left as it is, that is, relative to the working directory; addresses
    (``https://``, ``hf://``) are never touched.
    """
    resolved = dict(config)
    kwargs = dict(config.get("dataset_kwargs") or {})
    for key in ("data_files", "data_dir"):
        if key in kwargs:
            kwargs[key] = _resolve(kwargs[key], folder)
    if kwargs:
        resolved["dataset_kwargs"] = kwargs
    return resolved


def _resolve(value: Any, folder: Path) -> Any:  # noqa: ANN401 - a path, or several by split
    if isinstance(value, Mapping):
        return {key: _resolve(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    if not isinstance(value, str) or "://" in value or Path(value).is_absolute():
        return value
    there = any(folder.glob(value)) if "*" in value else (folder / value).exists()
    return str((folder / value).resolve()) if there else value
