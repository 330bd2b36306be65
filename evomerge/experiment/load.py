"""Read an experiment file: presets filled in, overrides applied, all problems at once."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.experiment.presets import PresetKind, find_yaml
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.yaml_lines import (
    Override,
    YamlFile,
    override,
    parse_override,
    read_yaml,
)

_PRESETS: Mapping[str, PresetKind] = {"space": "search_spaces", "fitness": "fitness"}
"""Keys whose value may be a path or a preset's name instead of a mapping."""

Location = tuple[str | int, ...]


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
        changes = [parse_override(text) for text in self.overrides]
        return _where(self.files, changes, location)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; no model or task is looked at.

    Args:
        path: The YAML file.
        overrides: ``key.path=value`` assignments that win over the file. Those that name a
            preset come before those of keys in it.

    Raises:
        ConfigError: Every unknown key, missing key and wrong value, with file and line.
    """
    file = read_yaml(path)
    if "stages" in file.data:
        raise ConfigError(
            f"{file.where(('stages',))}: stages: this needs a single search; a chain of them "
            "is for 'evomerge run' and 'evomerge validate'. A stage that has begun stands "
            "alone in resolved.yaml of its folder."
        )
    return check_experiment(file, path, overrides)


def check_experiment(file: YamlFile, path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Check an experiment that has been read, or put together, already.

    Args:
        file: Its keys.
        path: The file that relative paths start beside.
        overrides: As for ``load_experiment``.

    Raises:
        ConfigError: Every unknown key, missing key and wrong value, with file and line.
    """
    draft = _Draft(file, path.parent)
    draft.apply(overrides)
    spec = draft.checked()
    return Experiment(spec, path, draft.files, tuple(overrides))


def load_remains(path: Path, overrides: Sequence[str] = ()) -> Experiment | None:
    """What is left of a wrong experiment file when its wrong keys are taken out.

    So that models and tasks can be checked in the same pass as keys. None where too little
    is left to check.
    """
    return experiment_remains(read_yaml(path), path, overrides)


def experiment_remains(
    file: YamlFile, path: Path, overrides: Sequence[str] = ()
) -> Experiment | None:
    """As ``load_remains``, of an experiment that has been read already."""
    draft = _Draft(file, path.parent)
    draft.apply(overrides)
    spec = draft.remains()
    return Experiment(spec, path, draft.files, tuple(overrides)) if spec else None


def with_other_workers(
    spec: ExperimentSpec, place: Path, overrides: Sequence[str]
) -> ExperimentSpec:
    """A specification with overrides of its ``workers`` section, the only ones it allows.

    Args:
        spec: As recorded.
        place: The file that messages name.
        overrides: ``workers.KEY=value`` assignments.

    Raises:
        ConfigError: Another section is named, or a key or value is wrong.
    """
    others = [text for text in overrides if parse_override(text).path[0] != "workers"]
    if others:
        raise ConfigError(
            [
                f"-o {text}: a run that is resumed can only be given other workers "
                "(-o workers.count=4 …); for anything else begin a new run."
                for text in others
            ]
        )
    draft = _Draft(YamlFile(str(place), spec.model_dump(mode="json")), place.parent)
    draft.apply(overrides)
    return draft.checked()


class _Draft:
    """An experiment on its way from text to specification, with the problems found so far."""

    def __init__(self, file: YamlFile, folder: Path) -> None:
        self.files = {"": file}
        self._folder = folder
        self._data: dict[str, Any] = dict(file.data)
        self._changes: list[Override] = []
        self._problems: list[str] = []
        self._not_found: set[str] = set()

    def apply(self, overrides: Sequence[str]) -> None:
        """Fill in presets and overrides."""
        for text in overrides:
            try:
                self._changes.append(parse_override(text))
            except ConfigError as error:
                self._problems += error.problems
        whole = [change for change in self._changes if change.path in _PRESET_PATHS]
        self._override(whole)
        for key, kind in _PRESETS.items():
            if isinstance(self._data.get(key), str):
                self._fill_in(key, kind)
        self._override([change for change in self._changes if change not in whole])

    def checked(self) -> ExperimentSpec:
        """The specification.

        Raises:
            ConfigError: With every problem found.
        """
        try:
            spec = ExperimentSpec.model_validate(self._data)
        except ValidationError as error:
            raise ConfigError(self._problems + self._described(error)) from error
        if self._problems:
            raise ConfigError(self._problems)
        return spec

    def remains(self) -> ExperimentSpec | None:
        """The specification without the keys that are wrong, if it is one then."""
        data = copy.deepcopy(self._data)
        try:
            return ExperimentSpec.model_validate(data)
        except ValidationError as error:
            for one in error.errors():
                _take_out(data, _keys_of(one, data))
        data = {**_STAND_INS, **data}
        try:
            return ExperimentSpec.model_validate(data)
        except ValidationError:
            return None

    def _override(self, changes: Sequence[Override]) -> None:
        for change in changes:
            if change.path[0] in self._not_found:
                continue
            try:
                self._data = override(self._data, change)
            except ConfigError as error:
                self._problems += error.problems

    def _fill_in(self, key: str, kind: PresetKind) -> None:
        where = _where(self.files, self._changes, (key,))
        try:
            file = read_yaml(find_yaml(self._data.pop(key), kind, self._folder))
        except ConfigError as error:
            self._problems += [f"{where}: {problem}" for problem in error.problems]
            self._not_found.add(key)
        else:
            self.files[key] = file
            self._data[key] = file.data

    def _described(self, error: ValidationError) -> list[str]:
        """One message a key, in the order of the specification."""
        reasons: dict[Location, list[str]] = {}
        for one in error.errors():
            location = _keys_of(one, self._data)
            if one["type"] == "missing" and location[0] in self._not_found:
                continue  # named already
            reasons.setdefault(location, []).append(_reason(one, location))
        return [
            f"{_where(self.files, self._changes, location)}: {_joined(several)}."
            for location, several in reasons.items()
        ]


_PRESET_PATHS = {(key,) for key in _PRESETS}


def _keys_of(error: Mapping[str, Any], data: Any) -> Location:  # noqa: ANN401 - any YAML value
    """The keys that lead to an error; pydantic also names types and validators on the way."""
    location: list[str | int] = []
    for number, part in enumerate(error["loc"], 1):
        within = isinstance(data, Mapping) and part in data
        within |= isinstance(data, list) and isinstance(part, int) and part < len(data)
        if within:
            data = data[part]
        if within or (error["type"] == "missing" and number == len(error["loc"])):
            location.append(part)
    return tuple(location)


_STAND_INS: Mapping[str, Any] = {
    "name": "unnamed",
    "budget": {"candidates": 1},
    "space": {"operator": "linear", "experts": {"weight": [0, 1]}},
}
"""For required keys that are wrong, so that the others can still be checked."""


def _take_out(data: Any, location: Location) -> None:  # noqa: ANN401 - any YAML value
    *parents, last = location or ("",)
    for part in parents:
        data = data[part] if isinstance(data, Mapping) and part in data else {}
    if isinstance(data, dict):
        data.pop(last, None)


_PLAINER = (
    (r"^Value error, ", ""),
    (r"^(?:Tuple|Dictionary|List) should have at least 1 item.*$", "needs at least one"),
    (r"^Input should be", "must be"),
    (r" or instance of \w+$", ""),
    (r"a valid (?:dictionary|mapping)$", "a mapping"),
    (r"a valid (?:list|tuple)$", "a list"),
    (r"a valid string$", "text"),
    (r"a valid integer\b.*$", "a whole number"),
    (r"a valid boolean\b.*$", "true or false"),
    (r"a valid number\b.*$", "a number"),
)


def _reason(error: Mapping[str, Any], location: Location) -> str:
    """Why, without the full stop."""
    if error["type"] == "extra_forbidden":
        return unknown("key", location[-1], _known_keys(location[:-1]))
    if error["type"] == "missing":
        return "this key is missing"
    text = str(error["msg"])
    for pattern, plainer in _PLAINER:
        text = re.sub(pattern, plainer, text)
    found = error["input"]
    told = isinstance(found, Mapping | list | tuple) or "found" in text
    return text if told else f"{text}, found {found!r:.60}"


def _joined(reasons: Sequence[str]) -> str:
    """Reasons of the alternatives that a key's value may be, what was found only once."""
    *others, last = dict.fromkeys(reasons)
    return " or ".join([*(reason.partition(", found ")[0] for reason in others), last])


def _known_keys(location: Location) -> list[str]:
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
    files: Mapping[str, YamlFile], changes: Sequence[Override], location: Sequence[str | int]
) -> str:
    """``place: dotted.key``, where the place is the override or the file that set the key."""
    keys = tuple(map(str, location))
    dotted = ".".join(keys)
    preset = files.get(keys[0]) if keys else None
    for change in reversed(changes):
        names_preset = preset is not None and len(keys) > 1 and change.path == keys[:1]
        if keys[: len(change.path)] == change.path and not names_preset:
            return f"{change.shown}: {dotted}"
    place = preset.where(keys[1:]) if preset else files[""].where(keys)
    return f"{place}: {dotted}" if dotted else place
