"""Response matrices in files: npz, csv and parquet."""

import csv
import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evomerge.core.atomic_write import write_bytes
from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.response_matrix import ResponseMatrix

_LONG = ("model", "item", "score")
"""A table that has these columns holds one response a row."""

_FAMILY = "family"

_SHOWN = 3
"""Examples named in a message."""

_LAYOUTS = (
    "expected either the columns model, item and score (one response a row), or one row a "
    "model: its name in the first column, its scores on the items in the others"
)


def read_matrix(path: Path) -> ResponseMatrix:
    """Read a response matrix; the file's ending says how.

    * ``.npz``: arrays ``responses`` (models × items), ``models``, ``items`` and, optionally,
      ``families``. Other arrays are ignored.
    * ``.csv`` (commas, UTF-8) and ``.parquet``, wide: one row a model, its name in the first
      column, each further column an item. A second column named ``family`` is the family.
    * ``.csv`` and ``.parquet``, long: the columns ``model``, ``item``, ``score`` and,
      optionally, ``family``; responses that are not listed are missing.

    An empty cell, ``nan`` or null is a missing response.

    Raises:
        ConfigError: The file is missing or not readable as its ending says, a cell is no
            number, a score is outside 0…1, or a model or item is named twice.
    """
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: {unknown('kind of file', path.suffix, readers)}.")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file (looked at {path.resolve()}).")
    try:
        return readers[path.suffix](path)
    except ConfigError as error:
        raise ConfigError(
            [f"{path}: {p.removeprefix('response matrix: ')}" for p in error.problems]
        ) from error
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: not readable as {path.suffix}: {error}") from error


def write_matrix(path: Path, matrix: ResponseMatrix) -> None:
    """Write a response matrix as npz, whole or not at all; ``read_matrix`` gives it back.

    Raises:
        ConfigError: The path does not end in ``.npz``.
        OSError: It cannot be written.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"{path}: response matrices are written as .npz; change its ending.")
    bits = matrix.values.astype(np.uint8) if matrix.complete else None
    whole = bits is not None and np.array_equal(bits, matrix.values)
    file = io.BytesIO()
    save = np.savez_compressed if whole else np.savez  # compressing floats takes long
    save(
        file,
        responses=bits if whole and bits is not None else matrix.values,
        models=np.array(matrix.models),
        items=np.array(matrix.items),
        families=np.array(matrix.families),
    )
    write_bytes(path, file.getvalue())


def _read_npz(path: Path) -> ResponseMatrix:
    with np.load(path, allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ConfigError("a single array, not an npz with responses, models and items.")
        missing = [key for key in ("responses", "models", "items") if key not in arrays]
        if missing:
            raise ConfigError(
                f"no array {', '.join(map(repr, missing))}; an npz needs responses (models × "
                f"items), models and items, this one has {', '.join(arrays) or 'nothing'}."
            )
        responses = arrays["responses"]
        if responses.dtype.kind not in "biuf":
            raise ConfigError(f"responses must be numbers, they are {responses.dtype}.")
        names = {
            key: _names(arrays[key], key)
            for key in ("models", "items", "families")
            if key in arrays
        }
    return _matrix(
        names["models"],
        names["items"],
        responses.astype(np.float64),
        names.get("families", ()),
    )


def _names(array: np.ndarray, key: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "Uiu":
        raise ConfigError(f"{key} must be a list of names, it is {array.dtype}{array.shape}.")
    return tuple(map(str, array.tolist()))


def _matrix(
    models: Sequence[str],
    items: Sequence[str],
    values: np.ndarray,
    families: Sequence[str] = (),
) -> ResponseMatrix:
    """The matrix, once names are known not to repeat."""
    problems = []
    for what, names in (("model", models), ("item", items)):
        twice = [repr(name) for name, count in Counter(names).items() if count > 1]
        if twice:
            problems.append(f"{what} {_some(twice)} named twice; each needs a name of its own.")
    if problems:
        raise ConfigError(problems)
    return ResponseMatrix(tuple(models), tuple(items), values, tuple(families))


def _some(examples: Sequence[str]) -> str:
    more = f" and {len(examples) - _SHOWN} more" if len(examples) > _SHOWN else ""
    return ", ".join(examples[:_SHOWN]) + more


# ---- csv


def _read_csv(path: Path) -> ResponseMatrix:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if set(_LONG) <= set(header):
        text = pd.read_csv(
            path, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
        )
        return _from_long(text)
    if len(header) < 2:
        raise ConfigError(f"{_LAYOUTS}; found {_header_text(header)}.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _from_rows(csv.reader(file))


def _from_rows(rows: Iterator[list[str]]) -> ResponseMatrix:
    header = next(rows)
    start = 2 if header[1] == _FAMILY else 1
    items = header[start:]
    models: list[str] = []
    families: list[str] = []
    values: list[np.ndarray] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(header):
            problems.append(f"row {number}: {len(row)} cells, the header has {len(header)}.")
            continue
        models.append(row[0])
        families += row[1:start]
        values.append(_numbers(row[start:], items, f"row {number}", problems))
    if problems:
        raise ConfigError(problems[:_SHOWN] + _further(problems))
    if not models:
        raise ConfigError("a header and no row; every model needs one.")
    return _matrix(models, items, np.array(values), families)


def _numbers(
    cells: Sequence[str], names: Sequence[str], where: str, problems: list[str]
) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError:
        wrong = [
            f"{cell!r} in column {name!r}"
            for name, cell in zip(names, cells, strict=True)
            if not _is_number(cell)
        ]
        problems.append(f"{where}: {_some(wrong)} is no number; scores are 0 to 1 or empty.")
        return np.full(len(cells), math.nan)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _further(problems: Sequence[str]) -> list[str]:
    count = len(problems) - _SHOWN
    return [f"{count} more rows are wrong."] if count > 0 else []


def _header_text(header: Sequence[object]) -> str:
    return f"the columns {_some([repr(str(name)) for name in header])}" if header else "nothing"


# ---- tables


def _read_parquet(path: Path) -> ResponseMatrix:
    table = pd.read_parquet(path)
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index()
    if set(_LONG) <= set(table.columns):
        return _from_long(table)
    if len(table.columns) < 2:
        raise ConfigError(f"{_LAYOUTS}; found {_header_text(list(table.columns))}.")
    if table.empty:
        raise ConfigError("no row; every model needs one.")
    start = 2 if table.columns[1] == _FAMILY else 1
    items = [str(name) for name in table.columns[start:]]
    texts = [
        n for n, t in zip(items, table.dtypes.iloc[start:], strict=True) if t.kind not in "biuf"
    ]
    if texts:
        listed = _some([repr(name) for name in texts])
        raise ConfigError(f"column {listed} holds no numbers; scores are 0 to 1 or null.")
    values = table.iloc[:, start:].to_numpy(dtype=np.float64, na_value=np.nan)
    families = [str(name) for name in table.iloc[:, 1]] if start > 1 else []
    return _matrix([str(name) for name in table.iloc[:, 0]], items, values, families)


def _from_long(table: pd.DataFrame) -> ResponseMatrix:
    if table.empty:
        raise ConfigError("a header and no row; every response needs one.")
    given = table["score"]
    scores = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    missing = np.flatnonzero(np.isnan(scores) & given.notna().to_numpy())
    wrong = [row for row in missing if str(given.iloc[row]).lower() not in ("", "nan")]
    if wrong:
        listed = _some([f"{given.iloc[row]!r} (row {row + 2})" for row in wrong])
        raise ConfigError(f"score {listed} is no number; scores are 0 to 1 or empty.")
    model, models = _numbered(table, "model")
    item, items = _numbered(table, "item")
    cell = model * len(items) + item
    values = np.full(len(models) * len(items), np.nan)
    _refuse_repeats(table, cell, len(values))
    values[cell] = scores
    families = _families(table, model, len(models))
    return _matrix(models, items, values.reshape(len(models), len(items)), families)


def _numbered(table: pd.DataFrame, column: str) -> tuple[np.ndarray, list[str]]:
    """Each row's name as a number, and the names in the order in which they appear."""
    numbers, names = pd.factorize(table[column])
    nameless = np.flatnonzero(numbers < 0)
    if len(nameless):
        raise ConfigError(f"row {nameless[0] + 2} has no {column} ({len(nameless)} such rows).")
    return numbers.astype(np.int64), [str(name) for name in names]


def _refuse_repeats(table: pd.DataFrame, cell: np.ndarray, cells: int) -> None:
    if len(cell) > np.count_nonzero(np.bincount(cell, minlength=cells)):
        repeated = table[pd.Series(cell, index=table.index).duplicated()]
        listed = _some(
            [
                f"{m!r} on {i!r}"
                for m, i in zip(repeated["model"], repeated["item"], strict=True)
            ]
        )
        raise ConfigError(f"more than one score of model {listed}; keep one row each.")


def _families(table: pd.DataFrame, model: np.ndarray, count: int) -> list[str]:
    if _FAMILY not in table:
        return []
    pairs = pd.DataFrame({"model": model, "family": table[_FAMILY].astype(str)})
    pairs = pairs.drop_duplicates()
    if len(pairs) > count:
        twice = pairs[pairs["model"].duplicated()]["model"].iloc[0]
        name = table["model"].iloc[int(np.argmax(model == twice))]
        raise ConfigError(f"model {name!r} has several families; give it one.")
    return [str(name) for name in pairs.sort_values("model")["family"]]
