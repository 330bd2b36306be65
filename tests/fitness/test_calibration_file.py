"""Calibrations in files: what is written is read back, and what is none is told apart."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration_file import (
    CalibrationFile,
    read_calibration,
    write_calibration,
)
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.scale import Scale

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8)


def matrix(models: int = 5, items=(3, 7, 8, 20), seed: int = 0, **more) -> ResponseMatrix:
    values = np.random.default_rng(seed).random((models, len(items)))
    names = tuple(f"model {k}" for k in range(models))
    return ResponseMatrix(names, tuple(map(str, items)), values, **more)


@pytest.fixture
def made() -> CalibrationFile:
    missing = matrix(seed=1)
    missing.values[2, 1] = np.nan
    return CalibrationFile(
        {
            ("town", "accuracy"): matrix(families=("a", "a", "b", "b", "c")),
            ("town", "gold_logprob"): matrix(models=4, seed=2),
            ("söm", "accuracy"): missing,
        },
        {"town": "v1", "söm": "v2"},
        {("town", "gold_logprob"): Scale(-7.5, 12.25)},
    )


@pytest.fixture
def written(made, tmp_path) -> Path:
    path = tmp_path / "calibration.npz"
    write_calibration(path, made)
    return path


def rewritten(path: Path, **changes) -> Path:
    """The file with some of its arrays replaced, or taken out where None."""
    with np.load(path) as arrays:
        held = dict(arrays) | changes
    other = path.with_name("changed.npz")
    np.savez(other, **{name: array for name, array in held.items() if array is not None})
    return other


def header_of(path: Path) -> dict:
    with np.load(path) as arrays:
        return json.loads(str(arrays["header"]))


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_calibration(path)
    return str(caught.value)


# ---- there and back


def test_what_was_written_is_read_back(made, written):
    found = read_calibration(written)
    assert found.versions == made.versions
    assert list(found.matrices) == list(made.matrices)
    for key, expected in made.matrices.items():
        held = found.matrices[key]
        assert (held.models, held.items, held.families) == (
            expected.models,
            expected.items,
            expected.families,
        )
        np.testing.assert_array_equal(held.values, expected.values)
        assert found.scale(*key) == made.scale(*key)


@given(names=st.lists(NAMES, min_size=2, max_size=4, unique=True), seed=st.integers(0, 99))
def test_any_names_survive(tmp_path_factory, names, seed):
    values = np.random.default_rng(seed).random((len(names), 2))
    file = CalibrationFile(
        {(names[0], names[1]): ResponseMatrix(tuple(names), ("0", "1"), values)},
        {names[0]: names[1]},
    )
    path = tmp_path_factory.getbasetemp() / "names.npz"
    write_calibration(path, file)
    found = read_calibration(path)
    assert list(found.matrices) == [(names[0], names[1])]
    assert found.matrices[names[0], names[1]].models == tuple(names)
    assert found.versions == file.versions


def test_a_file_that_is_there_is_replaced_as_a_whole(made, written, tmp_path):
    write_calibration(written, CalibrationFile({("one", "accuracy"): matrix()}))
    assert list(read_calibration(written).matrices) == [("one", "accuracy")]
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.npz"]


# ---- the responses to a bank


def test_a_banks_items_come_in_the_banks_order(made):
    found = made.matrix("town", "accuracy", [20, 3, 8])
    whole = made.matrices["town", "accuracy"]
    assert found.items == ("20", "3", "8")
    np.testing.assert_array_equal(found.values, whole.values[:, [3, 0, 2]])
    assert found.families == whole.families


@pytest.mark.parametrize(
    ("task", "metric", "bank", "told"),
    [
        ("twon", "accuracy", [3], ["accuracy of twon", "did you mean 'accuracy of town'"]),
        ("town", "acc", [3], ["acc of town", "did you mean 'accuracy of town'"]),
        ("söm", "gold_logprob", [3], ["gold_logprob of söm"]),
        ("town", "accuracy", [3, 4, 5], ["task town", "2 of the bank's 3", "e.g. item 4"]),
    ],
)
def test_what_a_file_lacks_is_told(made, task, metric, bank, told):
    with pytest.raises(ConfigError) as caught:
        made.matrix(task, metric, bank)
    assert all(part in str(caught.value) for part in ["fitness.calibration", *told])


def test_models_that_answered_none_of_a_banks_items_are_left_out():
    values = np.array([[1.0, np.nan, 0.0], [np.nan, 1.0, np.nan], [0.0, 1.0, np.nan]])
    whole = ResponseMatrix(("a", "b", "c"), ("0", "1", "2"), values, ("x", "y", "z"))
    found = CalibrationFile({("town", "acc"): whole}).matrix("town", "acc", [2, 0])
    assert found.models == ("a", "c")
    assert found.families == ("x", "z")
    np.testing.assert_array_equal(found.values, [[0.0, 1.0], [np.nan, 0.0]])


# ---- files that are no calibration


def test_a_missing_file_is_told_with_how_one_is_made(tmp_path):
    told = refusal(tmp_path / "gone.npz")
    assert "gone.npz: no such file" in told
    assert "evomerge calibrate" in told


def test_a_folder_is_no_calibration(tmp_path):
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"responses", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00", b"{}"],
    ids=["empty", "text", "broken zip", "broken npy", "json"],
)
def test_other_files_are_told_apart(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    told = refusal(path)
    assert f"{path}: not a calibration of 'evomerge calibrate'" in told
    assert "--matrix TASK=FILE" in told


def test_a_single_array_is_no_calibration(tmp_path):
    path = tmp_path / "one.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 4)))
    assert "not a calibration" in refusal(path)


def test_a_response_matrix_is_no_calibration(tmp_path):
    path = tmp_path / "matrix.npz"
    np.savez(path, responses=np.zeros((2, 2)), models=["a", "b"], items=["0", "1"])
    told = refusal(path)
    assert "not a calibration" in told
    assert "--matrix" in told


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8, 0.99])
def test_a_file_cut_short_is_told_apart(written, at):
    content = written.read_bytes()
    written.write_bytes(content[: int(at * len(content))])
    assert "not a calibration" in refusal(written)


def test_a_file_with_changed_bytes_is_told_apart(written):
    content = bytearray(written.read_bytes())
    with zipfile.ZipFile(written) as held:
        for member in held.infolist():
            place = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            damaged[place + 1] ^= 0xFF
            other = written.with_name("damaged.npz")
            other.write_bytes(damaged)
            assert "not a calibration" in refusal(other)


def test_another_format_is_told_apart(written):
    header = header_of(written) | {"format": "evomerge calibration 7"}
    told = refusal(rewritten(written, header=np.array(json.dumps(header))))
    assert "'evomerge calibration 7'" in told
    assert "expected 'evomerge calibration 1'" in told
    assert "again" in told


@pytest.mark.parametrize("key", ["format", "versions", "matrices", "scales"])
def test_a_header_that_lacks_a_key_is_told_apart(written, key):
    header = {name: value for name, value in header_of(written).items() if name != key}
    path = rewritten(written, header=np.array(json.dumps(header)))
    assert "not a calibration" in refusal(path)


@pytest.mark.parametrize("header", ["[1, 2]", "{", "7", "null"])
def test_a_header_that_is_none_is_told_apart(written, header):
    assert "not a calibration" in refusal(rewritten(written, header=np.array(header)))


@pytest.mark.parametrize(
    "changes",
    [
        {"0.responses": None},
        {"1.models": None},
        {"0.responses": np.full((5, 4), 1.5)},
        {"0.responses": np.zeros((5, 3))},
        {"0.responses": np.array([["a"]])},
        {"2.items": np.array(["3", "3", "8", "20"])},
    ],
    ids=["no responses", "no models", "beyond 1", "shape", "text", "an item twice"],
)
def test_matrices_that_do_not_fit_are_told_apart(written, changes):
    told = refusal(rewritten(written, **changes))
    assert "changed.npz" in told


class Loaded(Exception):
    """A pickle was loaded."""


def explode() -> None:
    raise Loaded


class Explosive:
    def __reduce__(self):
        return explode, ()


def test_no_pickle_is_ever_loaded(written):
    responses = np.empty((5, 4), dtype=object)
    responses[:] = Explosive()
    with pytest.raises(Loaded):
        pickle.loads(pickle.dumps(Explosive()))
    for name in ("0.responses", "1.models", "header"):
        assert "not a calibration" in refusal(rewritten(written, **{name: responses}))
    bare = written.with_name("bare.npz")
    bare.write_bytes(pickle.dumps(Explosive()))
    assert "not a calibration" in refusal(bare)


def test_no_pickle_is_ever_written(written):
    with zipfile.ZipFile(written) as held:
        for name in held.namelist():
            array = np.load(io.BytesIO(held.read(name)), allow_pickle=False)
            assert array.dtype.kind in "Ufb"
