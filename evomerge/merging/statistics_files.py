"""Statistics files: what was measured of a model on data, for operators that weigh by it.

A safetensors file with one tensor for each weight that has the statistic, under the weight's
name. It lies in the model's own folder, that of the adapter where one is applied, as
``statistics/<kind>.safetensors``, or where the recipe says. Its metadata tells the kind, the
fingerprint of the weights, and what data was used.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError, safe_open

from evomerge.core.digest import digest
from evomerge.core.errors import CheckpointError, StoreError
from evomerge.core.near_names import unknown
from evomerge.core.recipe import Recipe, Source
from evomerge.core.tensor_names import layer_of, with_layer
from evomerge.merging.operators.registry import OPERATORS
from evomerge.merging.safetensors_header import read_header
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import stored_name

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "statistics"
"""In a model's folder, where its statistics are looked for."""

_COMPARED = 8
"""Entries by which tensors that cannot be equal are told apart."""

_SAME, _VERSION = "same_as", "evomerge_statistics"


@dataclass(frozen=True)
class Statistic:
    """Something that can be measured of a model's weights on data."""

    summary: str
    of: Literal["models", "base"]
    """Whose statistic an operator is given: that of every model it merges, or the base's."""


STATISTICS: Mapping[str, Statistic] = {
    "fisher": Statistic("diagonal of the Fisher information, one number a weight", "models"),
    "gram": Statistic("mean of x xᵀ over the inputs x of each linear layer", "models"),
    "activations": Statistic("mean magnitude of each input of every layer", "base"),
}


@dataclass(frozen=True)
class Collected:
    """What a statistics file says of itself."""

    kind: str
    model: str
    """Fingerprint of the weights that were measured."""

    data: str
    """Digest of the data file."""

    examples: int
    tokens: int

    def to_metadata(self) -> dict[str, str]:
        """As safetensors keeps it: text by text."""
        return {
            "format": "pt",
            _VERSION: "1",
            "kind": self.kind,
            "model": self.model,
            "data": self.data,
            "examples": str(self.examples),
            "tokens": str(self.tokens),
        }


class StatisticsFile:
    """An open statistics file; tensors are read when asked for.

    Args:
        path: The file.

    Raises:
        CheckpointError: It cannot be read, or is no statistics file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such statistics file; make it with 'evomerge collect-stats'."
            )
        self._tensors = SourceModel(path.parent, {}, read_header(path))
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}.") from error
        try:
            self.collected = Collected(
                metadata["kind"],
                metadata["model"],
                metadata["data"],
                int(metadata["examples"]),
                int(metadata["tokens"]),
            )
            self._same: Mapping[str, str] = dict(json.loads(metadata.get(_SAME, "{}")))
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path}: is no statistics file; 'evomerge collect-stats' makes them."
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Identity of its content, 32 hex digits, wherever it lies."""
        kind = self.collected.kind
        return digest([kind, self._tensors.fingerprint, sorted(self._same.items())])

    def read(self, name: str) -> "Tensor | None":
        """The statistic of a weight, a view of the mapped file; None where it has none."""
        stored = self._same.get(name, name)
        return self._tensors.read(stored) if stored in self._tensors.tensors else None


def check_replaceable(path: Path, model: str) -> None:
    """Only statistics of the same weights may be collected anew at a place.

    Args:
        path: Where statistics are to be written; need not exist.
        model: Fingerprint of the weights that they are of.

    Raises:
        StoreError: Something else lies there.
    """
    if not path.exists():
        return
    try:
        there = StatisticsFile(path).collected
    except CheckpointError as error:
        raise StoreError(
            f"{path}: exists and is no statistics file, so it is left alone; choose another "
            "file with --out."
        ) from error
    if there.model != model:
        raise StoreError(
            f"{path}: holds {there.kind!r} of other weights (fingerprint {there.model}, these "
            f"have {model}), so it is left alone; choose another file with --out, or delete "
            "it if it is out of date."
        )


def write_statistics(path: Path, collected: Collected, tensors: Mapping[str, "Tensor"]) -> int:
    """Write a statistics file, whole or not at all; equal tensors are stored once.

    Returns:
        Its size in bytes.

    Raises:
        OSError: It cannot be written.
    """
    from safetensors.torch import save_file  # noqa: PLC0415 - imports torch

    same = _same_as(tensors)
    metadata = collected.to_metadata() | {_SAME: json.dumps(same)}
    kept = {name: t.contiguous() for name, t in tensors.items() if name not in same}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(kept, temporary, metadata=metadata)
        with open(temporary, "rb") as written:  # noqa: PTH123 - a name that mkstemp gave
            os.fsync(written.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path.stat().st_size


def _same_as(tensors: Mapping[str, "Tensor"]) -> dict[str, str]:
    """Tensors that equal an earlier one: layers with one input have one Gram matrix."""
    same: dict[str, str] = {}
    kept: dict[object, list[str]] = {}
    for name, tensor in tensors.items():
        opening = tensor.flatten()[:_COMPARED].tolist()
        others = kept.setdefault((tuple(tensor.shape), *opening), [])
        twin = next((o for o in reversed(others) if tensors[o].equal(tensor)), None)
        if twin is None:
            others.append(name)
        else:
            same[name] = twin
    return same


def statistics_place(given: str | None, folder: Path, kind: str) -> Path:
    """The file that holds a source's statistic of a kind, which need not exist.

    Args:
        given: A file, or a folder with one file a kind; None is the model's own.
        folder: The source model's ``own_folder``.
        kind: A key of ``STATISTICS``, or a plugin's.
    """
    place = folder / FOLDER if given is None else Path(given)
    return place / f"{kind}.safetensors" if place.suffix != ".safetensors" else place


class SourceStatistics:
    """Statistics of the sources of recipes, read where operators ask for them.

    Args:
        sources: Opened source models by the names that recipes use.
        places: Where their statistics lie here, by name; others where the recipe says, or in
            the model's folder.
    """

    def __init__(
        self, sources: Mapping[str, SourceModel], places: Mapping[str, str] | None = None
    ) -> None:
        self._sources = sources
        self._places = dict(places or {})
        self._files: dict[Path, StatisticsFile] = {}

    def problems(self, recipe: Recipe) -> list[str]:
        """Every file that the recipe's operators need and that is missing or does not fit."""
        found = []
        sources = {source.name: source for source in recipe.sources}
        for name, kinds in needed_statistics(recipe).items():
            for kind in kinds:
                try:
                    self._file(sources[name], kind)
                except CheckpointError as error:
                    found.append(f"source {name}: {error}")
            known = sources[name].statistics_fingerprint
            if not found and known not in (None, self.fingerprint(sources[name], kinds)):
                found.append(
                    f"source {name}: its statistics are others than the recipe was made with; "
                    "give the right file, or delete 'statistics_fingerprint' from the recipe."
                )
        return found

    def read(self, source: Source, kind: str, tensor: str) -> "Tensor | None":
        """A statistic of one weight of a source, on the CPU; None where it has none.

        Raises:
            CheckpointError: The file is missing, of another kind, or of other weights.
        """
        stored = stored_name(tensor, self._sources[source.name].tensors)
        return self._file(source, kind).read(stored or tensor)

    def of_rule(
        self, operator: str, models: Sequence[str], recipe: Recipe, tensor: str
    ) -> tuple["Tensor | None", ...]:
        """``Inputs.statistics`` of one tensor; empty where the operator needs none.

        Args:
            operator: Its name.
            models: The models merged, in the order of ``Inputs.tensors``.
            recipe: The recipe.
            tensor: The tensor's name in the merged model.

        Raises:
            CheckpointError: A file is missing, of another kind, or of other weights.
        """
        kind = OPERATORS[operator].statistics
        if kind is None:
            return ()
        sources = {source.name: source for source in recipe.sources}
        return tuple(
            self.read(sources[name], kind, _own_name(tensor, name, recipe))
            for name in _whose(kind, models, recipe.base)
        )

    def fingerprint(self, source: Source, kinds: Sequence[str]) -> str:
        """Identity of a source's statistics of some kinds.

        Raises:
            CheckpointError: A file is missing, of another kind, or of other weights.
        """
        return digest({kind: self._file(source, kind).fingerprint for kind in kinds})

    def _file(self, source: Source, kind: str) -> StatisticsFile:
        model = self._sources[source.name]
        given = self._places.get(source.name, source.statistics)
        path = statistics_place(given, model.own_folder, kind)
        if path in self._files:
            return self._files[path]
        file = StatisticsFile(path)
        if file.collected.kind != kind:
            raise CheckpointError(
                f"{path}: holds {file.collected.kind!r}, the recipe needs {kind!r}; make it "
                f"with 'evomerge collect-stats --kind {kind}'."
            )
        if file.collected.model != model.fingerprint:
            raise CheckpointError(
                f"{path}: was collected from other weights than those in {model.own_folder}; "
                "delete it and run 'evomerge collect-stats' again."
            )
        self._files[path] = file
        return file


def needed_statistics(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The kinds of statistics that a recipe's operators need, by source, sorted."""
    needed: dict[str, set[str]] = {}
    for rule in recipe.rules:
        if rule.operator not in OPERATORS:
            continue
        operator = OPERATORS[rule.operator]
        if operator.statistics is not None:
            merged = operator.merged(rule, recipe.base)
            for name in _whose(operator.statistics, merged, recipe.base):
                needed.setdefault(name, set()).add(operator.statistics)
    return {name: tuple(sorted(kinds)) for name, kinds in needed.items()}


def _own_name(tensor: str, model: str, recipe: Recipe) -> str:
    """The source's name for a tensor of the merged model, whose layers may be others."""
    layer = layer_of(tensor)
    own = None if layer is None else recipe.source_layer(model, layer)
    return tensor if own is None else with_layer(tensor, own)


def _whose(kind: str, models: Sequence[str], base: str | None) -> Sequence[str]:
    """The sources whose statistic an operator is given; a plugin's kind is of the models."""
    if kind in STATISTICS and STATISTICS[kind].of == "base":
        return [base] if base is not None else []
    return models


def check_kind(kind: str) -> str | None:
    """Why something is not a kind of statistic that can be collected, or None."""
    return None if kind in STATISTICS else unknown("kind of statistics", kind, STATISTICS)
