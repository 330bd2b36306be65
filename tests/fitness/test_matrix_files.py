import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.fitness.matrix_files import read_matrix, write_matrix
from evomerge.fitness.response_matrix import ResponseMatrix

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)


@st.composite
def matrices(draw):
    models = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    items = draw(
        st.lists(NAMES.filter(lambda n: n != "family"), min_size=2, max_size=5, unique=True)
    )
    score = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1), st.just(float("nan")))
    values = np.array([[draw(score) for _ in items] for _ in models])
    values[np.isnan(values).all(axis=1), 0] = 0.25  # no model and no item without a response
    values[0, np.isnan(values).all(axis=0)] = 0.5
    families = draw(st.sampled_from([(), tuple(f"f{k // 2}" for k in range(len(models)))]))
    return ResponseMatrix(tuple(models), tuple(items), values, families)


def assert_same(read: ResponseMatrix, written: ResponseMatrix) -> None:
    assert (read.models, read.items) == (written.models, written.items)
    assert read.families == written.families
    assert np.array_equal(read.values, written.values, equal_nan=True)
    assert read.values.dtype == np.float64


def wide(matrix: ResponseMatrix) -> pd.DataFrame:
    table = pd.DataFrame(matrix.values, columns=list(matrix.items))
    if matrix.families != matrix.models:
        table.insert(0, "family", matrix.families)
    table.insert(0, "model", matrix.models, allow_duplicates=True)
    return table


def long(matrix: ResponseMatrix) -> pd.DataFrame:
    rows = [
        {"model": m, "item": i, "score": matrix.values[r, c], "family": matrix.families[r]}
        for r, m in enumerate(matrix.models)
        for c, i in enumerate(matrix.items)
    ]
    return pd.DataFrame(rows)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(table.columns)
        for row in table.itertuples(index=False):
            out.writerow(["" if isinstance(c, float) and np.isnan(c) else c for c in row])


@given(matrices())
@settings(max_examples=60)
def test_a_matrix_survives_npz(tmp_path_factory, matrix):
    path = tmp_path_factory.mktemp("m") / "m.npz"
    write_matrix(path, matrix)
    assert_same(read_matrix(path), matrix)


@pytest.mark.parametrize("layout", [wide, long])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@given(matrices())
@settings(max_examples=40)
def test_a_matrix_survives_tables(tmp_path_factory, layout, kind, matrix):
    table = layout(matrix)
    if len(set(table.columns)) < len(table.columns):
        return  # an item named model: a table cannot tell it from the column of models
    path = tmp_path_factory.mktemp("m") / f"m.{kind}"
    if kind == "csv":
        write_csv(path, table)
    else:
        table.to_parquet(path)
    assert_same(read_matrix(path), matrix)


def test_writing_replaces_a_file_and_keeps_bits_small(tmp_path):
    path = tmp_path / "m.npz"
    bits = np.random.default_rng(0).integers(0, 2, (20, 500)).astype(float)
    matrix = ResponseMatrix(
        tuple(f"m{k}" for k in range(20)), tuple(f"i{k}" for k in range(500)), bits
    )
    write_matrix(path, matrix)
    small = path.stat().st_size
    write_matrix(path, ResponseMatrix(matrix.models, matrix.items, bits * 0.5))
    assert small < bits.nbytes / 10 < path.stat().st_size
    assert_same(read_matrix(path), ResponseMatrix(matrix.models, matrix.items, bits * 0.5))
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]
    with pytest.raises(ConfigError, match=r"written as \.npz"):
        write_matrix(tmp_path / "m.csv", matrix)


def test_other_arrays_small_types_and_missing_responses_of_an_npz_are_taken(tmp_path):
    values = np.array([[1, np.nan], [0.5, 0]], dtype=np.float16)
    np.savez(tmp_path / "m.npz", responses=values, models=[1, 2], items=["a", "b"], other=[3])
    matrix = read_matrix(tmp_path / "m.npz")
    assert matrix.models == ("1", "2") == matrix.families
    assert np.array_equal(matrix.values, values, equal_nan=True)


def test_a_parquet_whose_index_names_the_models_is_read(tmp_path):
    table = pd.DataFrame({"a": [True, False], "b": [1, 0]}, index=["x", "y"])
    table.index.name = "model"
    table.to_parquet(tmp_path / "m.parquet")
    matrix = read_matrix(tmp_path / "m.parquet")
    assert (matrix.models, matrix.items) == (("x", "y"), ("a", "b"))
    assert matrix.values.tolist() == [[1, 1], [0, 0]]


CSV_MISTAKES = {
    "text": (
        "m,a,b\nx,1,yes\ny,no,0\n",
        "row 2: 'yes' in column 'b' is no number",
        "row 3: 'no'",
    ),
    "outside": ("m,a,b\nx,1,2\n", "within 0 and 1, model 'x' has 2 on item 'b'"),
    "infinite": ("m,a,b\nx,1,inf\n", "within 0 and 1"),
    "model twice": ("m,a,b\nx,1,0\nx,0,1\n", "model 'x' named twice"),
    "item twice": ("m,a,a\nx,1,0\n", "item 'a' named twice"),
    "short row": ("m,a,b\nx,1\n", "row 2: 2 cells, the header has 3"),
    "no row": ("m,a,b\n", "a header and no row"),
    "one column": ("m\nx\n", "expected either the columns model, item and score"),
    "nothing": ("", "found nothing"),
    "no response": ("m,a,b\nx,,\n", "model 'x' has no response", "item 'a' has no response"),
    "long text": ("model,item,score\nx,a,high\n", "score 'high' (row 2) is no number"),
    "long twice": (
        "model,item,score\nx,a,1\nx,a,0\n",
        "more than one score of model 'x' on 'a'",
    ),
    "long families": (
        "model,item,score,family\nx,a,1,f\nx,b,1,g\n",
        "model 'x' has several families",
    ),
    "long nothing": ("model,item,score\n", "a header and no row"),
}


@pytest.mark.parametrize(
    ("text", "expected"), [(v[0], v[1:]) for v in CSV_MISTAKES.values()], ids=CSV_MISTAKES
)
def test_what_is_wrong_in_a_csv_is_told_with_its_place(tmp_path, text, expected):
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8-sig")
    with pytest.raises(ConfigError) as caught:
        read_matrix(path)
    assert len(caught.value.problems) == len(expected)
    for problem, part in zip(caught.value.problems, expected, strict=True):
        assert problem.startswith(f"{path}: ")
        assert part in problem


def test_many_wrong_rows_are_counted_not_listed(tmp_path):
    rows = "".join(f"m{k},no,1\n" for k in range(50))
    (tmp_path / "m.csv").write_text(f"m,a,b\n{rows}")
    with pytest.raises(ConfigError) as caught:
        read_matrix(tmp_path / "m.csv")
    assert len(caught.value.problems) == 4
    assert "47 more rows are wrong" in caught.value.problems[-1]


NPZ_MISTAKES = {
    "keys": ({"responses": np.zeros((1, 2)), "scores": [1]}, "no array 'models', 'items'"),
    "text": (
        {"responses": np.array([["a"]]), "models": ["x"], "items": ["a"]},
        "must be numbers",
    ),
    "objects": (
        {"responses": np.zeros((1, 1)), "models": np.array([{}]), "items": ["a"]},
        "not readable as .npz: Object arrays",
    ),
    "shape": (
        {"responses": np.zeros((1, 2)), "models": ["x"], "items": ["a"]},
        "1 models and 1 items are named, the values have shape (1, 2)",
    ),
    "names": (
        {"responses": np.zeros((1, 1)), "models": [["x"]], "items": ["a"]},
        "models must be a list of names",
    ),
    "families": (
        {
            "responses": np.zeros((1, 1)),
            "models": ["x"],
            "items": ["a"],
            "families": ["f", "g"],
        },
        "2 families for 1 models",
    ),
}


@pytest.mark.parametrize(("arrays", "expected"), NPZ_MISTAKES.values(), ids=NPZ_MISTAKES)
def test_what_is_wrong_in_an_npz_is_told(tmp_path, arrays, expected):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ConfigError) as caught:
        read_matrix(tmp_path / "m.npz")
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "m.npz"))


def test_text_in_a_parquet_is_told_by_column(tmp_path):
    pd.DataFrame({"m": ["x"], "a": ["1"], "b": [1]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match="column 'a' holds no numbers"):
        read_matrix(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["m.npz", "m.parquet"])
def test_a_file_that_is_something_else_is_told(tmp_path, name):
    (tmp_path / name).write_text("model,item,score\n")
    with pytest.raises(ConfigError, match="not readable as"):
        read_matrix(tmp_path / name)


def test_a_missing_file_and_an_unknown_ending_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_matrix(tmp_path / "m.csv")
    with pytest.raises(ConfigError, match=r"unknown kind of file '.tsv'.*\.csv"):
        read_matrix(tmp_path / "m.tsv")
