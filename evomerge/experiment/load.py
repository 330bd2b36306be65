"""Read an experiment file: presets filled in, overrides applied, all problems at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.experiment.presets import find_yaml
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.yaml_lines import YamlFile, override, read_yaml

_PRESETS = {"space": "search_spaces", "fitness": "fitness"}


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file and where it stood."""

    spec: ExperimentSpec
    path: Path
    files: Mapping[str, YamlFile] = field(default_factory=dict)
    """The experiment's own YAML under ``""``, presets under the key that named them."""

    overrides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent

    def where(self, *location: str | int) -> str:
        """``file:line: dotted.key`` of a key, for messages."""
        return _where(self.files, self.overrides, location)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; no model or task is looked at.

    Args:
        path: The YAML file.
        overrides: ``key.path=value`` assignments that win over the file.

    Raises:
        ConfigError: Every unknown key, missing key and wrong value, with file and line.
    """
    files = {"": read_yaml(path)}
    data: dict[str, Any] = dict(files[""].data)
    named = {
        key: assignment.partition("=")[2].strip()
        for assignment in overrides
        if (key := assignment.partition("=")[0]) in _PRESETS
    }
    problems: list[str] = []
    for key, kind in _PRESETS.items():
        given = named.get(key) or data.get(key)
        if not isinstance(given, str):
            continue
        try:
            files[key] = read_yaml(find_yaml(given, kind, path.parent))
        except ConfigError as error:
            where = files[""].where((key,))
            problems += [f"{where}: {key}: {problem}" for problem in error.problems]
            data[key] = None
        else:
            data[key] = files[key].data
    for assignment in overrides:
        if assignment.partition("=")[0] not in named:
            data = override(data, assignment)
    if problems:
        data = {key: value for key, value in data.items() if value is not None}
    return Experiment(
        _validated(data, files, overrides, problems), path, files, tuple(overrides)
    )


def _validated(
    data: Mapping[str, Any],
    files: Mapping[str, YamlFile],
    overrides: Sequence[str],
    problems: list[str],
) -> ExperimentSpec:
    unresolved = {key for key in _PRESETS if key not in data}
    try:
        spec = ExperimentSpec.model_validate(data)
    except ValidationError as error:
        for one in error.errors():
            location = tuple(part for part in one["loc"] if not _is_tag(part))
            if problems and one["type"] == "missing" and location[0] in unresolved:
                continue  # named already: the preset was not found
            message = _message(one, location)
            problems.append(f"{_where(files, overrides, location)}: {message}")
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return spec


def _is_tag(part: str | int) -> bool:
    """Whether a part of pydantic's location names a type or validator, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "float", "bool"})


def _message(error: Mapping[str, Any], location: Sequence[str | int]) -> str:
    if error["type"] == "extra_forbidden":
        return f"{unknown('key', location[-1], _known_keys(location[:-1]))}."
    if error["type"] == "missing":
        return "this key is missing."
    text = str(error["msg"]).removeprefix("Value error, ")
    found = error["input"]
    shown = "" if isinstance(found, Mapping | list | tuple) else f", found {found!r:.60}"
    return f"{text}{shown}."


def _known_keys(location: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] = ExperimentSpec
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)


def _where(
    files: Mapping[str, YamlFile], overrides: Sequence[str], location: Sequence[str | int]
) -> str:
    dotted = ".".join(map(str, location))
    for assignment in overrides:
        key = assignment.partition("=")[0]
        if dotted == key or dotted.startswith(f"{key}."):
            return f"-o {assignment}: {dotted}"
    first = str(location[0]) if location else ""
    if first in files:
        return f"{files[first].where(location[1:])}: {dotted}"
    return f"{files[''].where(location)}: {dotted}" if dotted else files[""].where(())
