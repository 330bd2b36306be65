"""A chain of searches read from one experiment file: what is common, what a stage has anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.model_spelling import model_parts
from evomerge.core.near_names import unknown
from evomerge.experiment.load import Experiment, check_experiment, experiment_remains
from evomerge.experiment.spec import BASE
from evomerge.experiment.stages_spec import (
    OWN_KEYS,
    PREFIX,
    STAGES,
    Chain,
    Stage,
    StageModel,
    StageSpec,
    kept_names,
)
from evomerge.experiment.yaml_lines import KeyPath, YamlFile, parse_override, read_yaml

_PLAIN: Mapping[str, str] = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_too_long": "must be 40 characters at most",
    "tuple_type": "must be a parameter's name, or a list of them",
    "too_short": "needs at least one parameter",
}
"""What a key of a stage has to be, by the kind of error."""


def has_stages(path: Path) -> bool:
    """Whether an experiment file is a chain of searches.

    Raises:
        ConfigError: It cannot be read.
    """
    return STAGES in read_yaml(path).data


def read_chain(path: Path, overrides: Sequence[str] = ()) -> Chain:
    """Read a chain of searches; no model or task is looked at.

    Every stage becomes an experiment of its own: the file's keys, with those that the stage
    gives itself in their place (``models`` key by key). Where a later stage says nothing of
    models, it has the kept models of the stage before and all of the first stage's.

    Args:
        path: The YAML file, with ``stages``.
        overrides: ``key.path=value`` for all stages that do not give the key themselves,
            ``stages.NAME.key.path=value`` for one.

    Returns:
        The stages that can be made out, with every problem of keys and references.

    Raises:
        ConfigError: The file is no YAML, or its stages cannot be told apart.
    """
    return _Reader(read_yaml(path), path, overrides).chain()


class _Reader:
    """A chain on its way from text to experiments, with the problems found so far."""

    def __init__(self, file: YamlFile, path: Path, overrides: Sequence[str]) -> None:
        self._file = file
        self._path = path
        self._overrides = tuple(overrides)
        self._shared = {key: value for key, value in file.data.items() if key != STAGES}
        self._entries = self._stage_entries(file.data.get(STAGES))
        self._problems: list[str] = []
        self._of_stages: dict[str, list[str]] = {}
        """Names of the stages that a problem was found in, by problem."""

    def chain(self) -> Chain:
        specs = self._stage_specs()
        overrides = self._overrides_by_stage(specs)
        stages: list[Stage] = []
        for place, (spec, entry) in enumerate(zip(specs, self._entries, strict=True)):
            file = self._stage_file(place, specs, entry)
            found = self._experiment(spec.name, file, overrides[place])
            if found is not None:
                stages.append(Stage(spec.name, place + 1, spec.named, found, spec.fix))
                self._check_kept(stages[-1])
            self._check_fix(place, specs)
            self._check_models(spec.name, found, file, specs[:place])
            if "seed" in entry:
                self._problems.append(
                    f"{self._where(place, 'seed')}: all stages have the experiment's seed: it "
                    "decides which items are for searching and which for testing."
                )
        if "keep" in self._entries[-1]:
            self._problems.append(
                f"{self._where(len(specs) - 1, 'keep')}: nothing comes after the last stage; "
                "leave 'keep' out, and export what you like of its front."
            )
        return Chain(
            str(self._shared.get("name", "")),
            self._path,
            self._overrides,
            tuple(_with_what_is_kept(stages, specs)),
            (*self._told(len(specs)), *self._problems),
        )

    # ---- stages and what they are called

    def _stage_entries(self, given: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - YAML
        where = self._file.where((STAGES,))
        if not isinstance(given, list) or not given:
            raise ConfigError(f"{where}: {STAGES}: must be a list of stages, at least one.")
        bad = [number for number, entry in enumerate(given) if not isinstance(entry, Mapping)]
        if bad:
            raise ConfigError(
                [
                    f"{self._file.where((STAGES, number))}: {STAGES}.{number}: must be a "
                    "mapping with a name and what the stage has anew."
                    for number in bad
                ]
            )
        return [dict(entry) for entry in given]

    def _stage_specs(self) -> list[StageSpec]:
        """Names and what is kept, overrides included."""
        problems: list[str] = []
        for text in self._overrides:
            change = parse_override(text)
            if change.path[0] == STAGES and change.path[2:] and change.path[2] in OWN_KEYS:
                for entry in self._entries:
                    if entry.get("name") == change.path[1]:
                        entry[change.path[2]] = change.value
            elif change.path == ("name",):
                self._shared["name"] = change.value
        specs = []
        for number, entry in enumerate(self._entries):
            try:
                specs.append(StageSpec.model_validate(entry))
            except ValidationError as error:
                problems += [self._described(number, one) for one in error.errors()]
        names = [spec.name for spec in specs]
        problems += [
            f"{self._where(k, 'name')}: the name {name!r} is another stage's too."
            for k, name in enumerate(names)
            if name in names[:k]
        ]
        problems += [
            f"{self._where(k, 'name')}: no stage can be named {BASE!r}."
            for k, name in enumerate(names)
            if name == BASE
        ]
        if problems:
            raise ConfigError(problems)
        return specs

    def _described(self, number: int, error: Mapping[str, Any]) -> str:
        where = self._where(number, *map(str, error["loc"]))
        if error["type"] == "missing":
            return f"{where}: this key is missing."
        found = error["input"]
        if error["loc"] == ("fix",):
            given = [found] if isinstance(found, str) else found
            named = isinstance(given, list) and given and all(isinstance(n, str) for n in given)
            earlier = self._entries[number - 1].get("name", "STAGE") if number else "STAGE"
            expected = ", ".join(given) if named else "NAME"
            return (
                f"{where}: expected the earlier stage and what to take from it, fix: "
                f"{{from: {earlier}, parameters: [{expected}]}}; found {found!r:.60}."
            )
        if error["type"] == "extra_forbidden":
            return f"{where}: {unknown('key', str(error['loc'][-1]), ['from', 'parameters'])}."
        reason = _PLAIN.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
        reason = reason.replace("Input should be", "must be")
        return f"{where}: {reason}, found {found!r:.60}."

    def _where(self, number: int, *keys: str) -> str:
        """``file:line: stages.NAME.key`` of a stage's key."""
        name = self._entries[number].get("name", number)
        dotted = ".".join([STAGES, str(name), *keys])
        return f"{self._file.where((STAGES, number, *keys))}: {dotted}"

    # ---- overrides

    def _overrides_by_stage(self, specs: Sequence[StageSpec]) -> list[list[str]]:
        """Those that are for each stage, as if its experiment stood alone."""
        names = [spec.name for spec in specs]
        found: list[list[str]] = [[] for _ in names]
        for text in self._overrides:
            path = parse_override(text).path
            if path == ("name",):
                continue
            if path[0] != STAGES:
                heeding = [k for k in range(len(names)) if self._inherits(k, path[0])]
                for k in heeding:
                    found[k].insert(0, text)
                if not heeding:
                    self._problems.append(
                        f"-o {text}: changes nothing, every stage gives its own {path[0]!r}; "
                        f"say for which: -o {STAGES}.{names[0]}.{text}"
                    )
            elif len(path) < 3:
                self._problems.append(
                    f"-o {text}: expected {STAGES}.NAME.KEY=value for one of the stages "
                    f"{names}."
                )
            elif path[1] not in names:
                self._problems.append(f"-o {text}: {unknown('stage', path[1], names)}.")
            elif path[2] not in OWN_KEYS:
                found[names.index(path[1])].append(text.partition(f"{path[1]}.")[2])
        return found

    def _inherits(self, number: int, key: str) -> bool:
        return key not in self._entries[number] or key == "models"

    # ---- experiments

    def _stage_file(
        self, place: int, specs: Sequence[StageSpec], entry: Mapping[str, Any]
    ) -> YamlFile:
        """The stage as a file of its own; every key has its line in the chain's file."""
        own = {key: value for key, value in entry.items() if key not in OWN_KEYS}
        data = {**self._shared, **own}
        lines: dict[KeyPath, int] = {
            key: line
            for key, line in self._file.lines.items()
            if key[0] != STAGES and (key[0] not in own or key[0] == "models")
        }
        start = (STAGES, str(place))
        lines |= {
            key[2:]: line
            for key, line in self._file.lines.items()
            if key[:2] == start and key[2:] and key[2] not in OWN_KEYS
        }
        models = self._models(place, specs)
        if models is not None:
            data["models"] = models
        if "name" in self._shared:
            data["name"] = f"{self._shared['name']}-{specs[place].name}"
        return YamlFile(self._file.path, data, lines)

    def _models(self, place: int, specs: Sequence[StageSpec]) -> Any:  # noqa: ANN401 - YAML
        """A stage's models; what is no mapping is left for the check of its keys."""
        shared = self._shared.get("models")
        own = self._entries[place].get("models")
        if own is not None and not isinstance(own, Mapping):
            return own
        fix = specs[place].fix
        if (
            own is None
            and fix is not None
            and (origin := _place_of(fix.stage, specs[:place])) >= 0
        ):
            return self._models(origin, specs)
        if own is None and place > 0:
            return self._with_kept(place, self._models(0, specs), specs[place - 1])
        if not isinstance(shared, Mapping):
            return own if shared is None else shared
        merged = {**shared, **(own or {})}
        experts, statistics = merged.get("experts"), merged.get("statistics")
        if own and "statistics" not in own and isinstance(statistics, Mapping):
            known = [BASE, *(experts if isinstance(experts, Mapping) else ())]
            merged["statistics"] = {n: p for n, p in statistics.items() if n in known}
        return merged

    def _with_kept(self, place: int, models: Any, before: StageSpec) -> Any:  # noqa: ANN401
        """The first stage's models and those that the stage before keeps."""
        experts = models.get("experts") if isinstance(models, Mapping) else None
        if not isinstance(experts, Mapping):
            return models
        kept = kept_names(before.name, before.named)
        self._problems += [
            f"{self._where(place)}: what stage {before.name} keeps would be called {name!r}, "
            "as an expert is already; give one of them another name."
            for name in kept
            if name in experts
        ]
        return {**models, "experts": {**kept, **experts}}

    def _experiment(
        self, name: str, file: YamlFile, overrides: Sequence[str]
    ) -> Experiment | None:
        try:
            return check_experiment(file, self._path, overrides)
        except ConfigError as error:
            self._note(name, error.problems)
        try:
            return experiment_remains(file, self._path, overrides)
        except ConfigError:
            return None  # said above

    def _check_kept(self, stage: Stage) -> None:
        finalists = stage.experiment.spec.fitness.finalists
        if stage.keep > finalists:
            self._problems.append(
                f"{self._where(stage.place - 1, 'keep')}: {stage.keep} models are to be kept, "
                f"but fitness.finalists validates {finalists}."
            )

    def _check_fix(self, place: int, specs: Sequence[StageSpec]) -> None:
        fix = specs[place].fix
        if fix is not None and _place_of(fix.stage, specs[:place]) < 0:
            names = [spec.name for spec in specs[:place]]
            self._problems.append(
                f"{self._where(place, 'fix', 'from')}: "
                f"{unknown('earlier stage', fix.stage, names)}."
            )

    def _check_models(
        self,
        stage: str,
        found: Experiment | None,
        file: YamlFile,
        before: Sequence[StageSpec],
    ) -> None:
        """Note models of stages that there are not; also where the rest cannot be made out."""
        earlier = {each.name: each.named for each in before}
        for name, model in _models_of(found, file).items():
            keys = ("models", BASE) if name == BASE else ("models", "experts", name)
            where = found.where(*keys) if found else f"{file.where(keys)}: {'.'.join(keys)}"
            problems = [p for part in model_parts(model) if (p := _wrong(part, earlier))]
            self._note(stage, [f"{where}: {problem}" for problem in problems])

    def _note(self, stage: str, problems: Sequence[str]) -> None:
        for problem in problems:
            self._of_stages.setdefault(problem, []).append(stage)

    def _told(self, count: int) -> list[str]:
        """Problems of stages; those that not all share say whose they are."""
        return [
            problem if len(set(names)) == count else f"{problem} (stage {', '.join(names)})"
            for problem, names in self._of_stages.items()
        ]


def _place_of(name: str, specs: Sequence[StageSpec]) -> int:
    """Place of a stage, from 0; -1 where there is none of that name."""
    return next((k for k, spec in enumerate(specs) if spec.name == name), -1)


def _with_what_is_kept(stages: Sequence[Stage], specs: Sequence[StageSpec]) -> list[Stage]:
    """Stages that export nothing where nobody asks for it."""
    asked = {spec.name for spec in specs if spec.keep is not None}
    for stage in stages:
        models = stage.experiment.spec.models.all.values()
        parts = [StageModel.read(part) for model in models for part in model_parts(model)]
        asked |= {model.stage for model in parts if model is not None}
    return [stage if stage.name in asked else replace(stage, keep=0) for stage in stages]


def _models_of(found: Experiment | None, file: YamlFile) -> dict[str, str]:
    """Models by name, as far as they can be read."""
    if found is not None:
        return found.spec.models.all
    models = file.data.get("models")
    experts = models.get("experts") if isinstance(models, Mapping) else None
    if not isinstance(models, Mapping) or not isinstance(experts, Mapping):
        return {}
    given = {BASE: models.get(BASE), **experts}
    return {name: model for name, model in given.items() if isinstance(model, str)}


def _wrong(part: str, earlier: Mapping[str, int]) -> str | None:
    """Why a spelling means no model of an earlier stage; None where it does, or is another."""
    if not part.startswith(PREFIX):
        return None
    model = StageModel.read(part)
    if model is None:
        return f"{part!r} means no model; expected stage:NAME or stage:NAME:RANK."
    if model.stage not in earlier:
        return f"{unknown('earlier stage', model.stage, earlier)}."
    if model.rank > earlier[model.stage]:
        return (
            f"stage {model.stage} keeps {earlier[model.stage]}, and {part!r} would be number "
            f"{model.rank}; raise its 'keep'."
        )
    return None
