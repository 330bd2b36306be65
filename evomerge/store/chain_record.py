"""What a chain of searches is and what each stage has handed on, as JSON beside the studies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import ConfigError, StoreError
from evomerge.core.near_names import unknown

FILE_NAME = "chain.json"
KEPT = "kept.json"
"""In a stage's run directory, once its kept models are whole."""

_FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """One search of a chain."""

    name: str
    folder: str
    """Its run directory, beside the record."""

    keep: int
    """How many of its models it hands on."""

    experiment: Mapping[str, Any]
    """Its experiment with every default spelled out; a model that an earlier stage makes is
    ``stage:NAME`` or ``stage:NAME:RANK``."""

    fix: Mapping[str, Any] | None = None
    """An earlier ``stage``, and ``parameters`` that stay as its best candidate has them."""


@dataclass(frozen=True)
class ChainRecord:
    """A chain of searches as it was begun."""

    name: str
    stages: tuple[StageRecord, ...]
    relative_places: Mapping[str, str]
    """Path from the chain's folder to each local model, task and file that is named."""

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The record in a chain's folder.

        Raises:
            StoreError: There is none, or it is not ours.
        """
        path = run_dir / FILE_NAME
        plain = _read(path)
        if not isinstance(plain, dict) or plain.get("chain") != _FORMAT:
            raise StoreError(
                f"{path}: is no record of a chain in format {_FORMAT}; use the version of "
                "evomerge that wrote it."
            )
        try:
            stages = tuple(StageRecord(**stage) for stage in plain["stages"])
            return cls(plain["name"], stages, plain["relative_places"])
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}: is damaged: {error}.") from error

    def write(self, run_dir: Path) -> None:
        """Write the record whole into the chain's folder."""
        _write(run_dir / FILE_NAME, {"chain": _FORMAT, **asdict(self)})


@dataclass(frozen=True)
class KeptModel:
    """A model that a stage hands on."""

    rank: int
    """From 1."""

    trial: int
    name: str
    kind: str
    """``candidate``, ``baseline``, or ``source``, which is handed on as it is."""

    folder: str | None
    """The exported model, in the stage's run directory; None for a source."""

    fingerprint: str
    """Of the exported weights, or of the source."""


def is_chain(run_dir: Path) -> bool:
    """Whether a folder holds a chain rather than a single study."""
    return (run_dir / FILE_NAME).is_file()


def run_dirs(run_dir: Path) -> list[Path]:
    """The run directories of a chain's stages in order; that of a single study is its own."""
    if not is_chain(run_dir):
        return [run_dir]
    return [run_dir / stage.folder for stage in ChainRecord.read(run_dir).stages]


def stage_folder(run_dir: Path, name: str | None) -> Path:
    """The run directory of a stage; that of a single study is its own.

    Args:
        run_dir: A chain's folder, or a study's.
        name: Of the stage; None is the last one.

    Raises:
        ConfigError: There is no such stage.
    """
    if not is_chain(run_dir):
        if name is not None:
            raise ConfigError(f"--stage {name}: {run_dir} is a single study, without stages.")
        return run_dir
    folders = {stage.name: stage.folder for stage in ChainRecord.read(run_dir).stages}
    wanted = [*folders][-1] if name is None else name
    if wanted not in folders:
        raise ConfigError(f"--stage: {unknown('stage', wanted, folders)}.")
    return run_dir / folders[wanted]


def read_kept(stage_dir: Path) -> tuple[KeptModel, ...] | None:
    """What a stage has handed on, by rank; None before it has.

    Raises:
        StoreError: The file is damaged.
    """
    path = stage_dir / KEPT
    if not path.is_file():
        return None
    try:
        return tuple(KeptModel(**kept) for kept in _read(path))
    except TypeError as error:
        raise StoreError(f"{path}: is damaged: {error}.") from error


def write_kept(stage_dir: Path, kept: Sequence[KeptModel]) -> None:
    """Note what a stage hands on; written once its models are whole."""
    _write(stage_dir / KEPT, [asdict(model) for model in kept])


def _read(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}.") from error


def _write(path: Path, plain: Any) -> None:  # noqa: ANN401 - any JSON value
    try:
        write_text(path, json.dumps(plain, indent=2) + "\n")
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; free the disk or fix the "
            "folder's permissions, then resume."
        ) from error
