"""CalibrationFile: reference responses to the items of several tasks, as one npz file."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evomerge.core.atomic_write import write_bytes
from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.scale import Scale

_FORMAT = "evomerge calibration 1"

_DAMAGE = (
    OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises for files that are no npz, or one of other arrays."""


@dataclass(frozen=True, eq=False)
class CalibrationFile:
    """Responses of models to items of tasks, by task and metric."""

    matrices: Mapping[tuple[str, str], ResponseMatrix]
    """By task and metric; items are the numbers of the task's bank, as text."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of the bank that the item numbers belong to, by task."""

    scales: Mapping[tuple[str, str], Scale] = field(default_factory=dict)
    """How a metric's values lie in its matrix, by task and metric; where not named, values
    are within 0…1 and stand as they are."""

    def matrix(self, task: str, metric: str, bank: Sequence[int]) -> ResponseMatrix:
        """The responses to a bank's items, of the models that have answered any of them.

        Args:
            task: Name of the task.
            metric: Name of the metric.
            bank: Item numbers, the columns of the result.

        Raises:
            ConfigError: The file has no such task, metric or items.
        """
        if (task, metric) not in self.matrices:
            held = [f"{metric} of {task}" for task, metric in self.matrices]
            named = unknown("matrix", f"{metric} of {task}", held)
            raise ConfigError(f"fitness.calibration: {named}")
        whole = self.matrices[task, metric]
        where = {name: column for column, name in enumerate(whole.items)}
        missing = [item for item in bank if str(item) not in where]
        if missing:
            raise ConfigError(
                f"fitness.calibration: task {task}: the file has no responses to "
                f"{len(missing)} of the bank's {len(bank)} items (e.g. item {missing[0]}); "
                "calibrate on the whole search split."
            )
        values = whole.values[:, [where[str(item)] for item in bank]]
        rows = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
        return ResponseMatrix(
            tuple(whole.models[row] for row in rows),
            tuple(map(str, bank)),
            values[rows],
            tuple(whole.families[row] for row in rows),
        )

    def scale(self, task: str, metric: str) -> Scale:
        """How a metric's values lie in its matrix."""
        return self.scales.get((task, metric), Scale())


def write_calibration(path: Path, file: CalibrationFile) -> None:
    """Write a calibration; a file that is there is replaced at once and as a whole."""
    header = {
        "format": _FORMAT,
        "versions": dict(file.versions),
        "matrices": [list(key) for key in file.matrices],
        "scales": [[s.low, s.width] for s in (file.scale(*key) for key in file.matrices)],
    }
    arrays: dict[str, np.ndarray] = {"header": np.array(json.dumps(header))}
    for number, matrix in enumerate(file.matrices.values()):
        arrays[f"{number}.responses"] = matrix.values
        arrays[f"{number}.models"] = np.array(matrix.models)
        arrays[f"{number}.items"] = np.array(matrix.items)
        arrays[f"{number}.families"] = np.array(matrix.families)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def read_calibration(path: Path) -> CalibrationFile:
    """Read what ``write_calibration`` wrote.

    Raises:
        ConfigError: No such file, or it is no calibration.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; 'evomerge calibrate' makes calibrations.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _from_arrays(arrays)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
    except _DAMAGE as error:
        raise ConfigError(
            f"{path}: not a calibration of 'evomerge calibrate' ({error}); response matrices "
            "are made into one by 'evomerge calibrate EXPERIMENT --matrix TASK=FILE'."
        ) from error


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> CalibrationFile:
    header = json.loads(str(arrays["header"]))
    if header["format"] != _FORMAT:
        raise ConfigError(
            f"its format is {header['format']!r}, expected {_FORMAT!r}; make it again with "
            "'evomerge calibrate'."
        )
    matrices = {
        (task, metric): ResponseMatrix(
            tuple(arrays[f"{number}.models"].tolist()),
            tuple(arrays[f"{number}.items"].tolist()),
            arrays[f"{number}.responses"].astype(np.float64),
            tuple(arrays[f"{number}.families"].tolist()),
        )
        for number, (task, metric) in enumerate(header["matrices"])
    }
    scales = [Scale(low, width) for low, width in header["scales"]]
    return CalibrationFile(
        matrices, dict(header["versions"]), dict(zip(matrices, scales, strict=True))
    )
