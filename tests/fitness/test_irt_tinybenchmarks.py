import io
import os
import pickle
import pickletools

import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.array_unpickler import load_arrays
from evomerge.fitness.irt.tinybenchmarks import load_tinybenchmarks

DIMS, ITEMS = 3, 12


def public_content():
    """The layout of the public file, small."""
    rng = np.random.default_rng(0)
    return {
        "lb": {
            "irt_parameters": {
                "A": rng.normal(size=(1, DIMS, ITEMS)),
                "B": rng.normal(size=(1, 1, ITEMS)),
            },
            "scenarios_position": {"gsm8k": list(range(4)), "mmlu": list(range(4, 12))},
            "subscenarios_position": {
                "gsm8k": {"gsm8k_5": list(range(4))},
                "mmlu": {"anatomy": [4, 5], "astronomy": np.arange(6, 12)},
            },
            "seen_examples": np.array([0, 2, 5, 7, 9]),
            "examples_weights": {
                "gsm8k": np.array([0.5, 0.5], dtype=np.float32),
                "mmlu": np.array([0.2, 0.3, 0.5]),
            },
            "optimal_lambdas": {"gsm8k": np.float64(0.25), "mmlu": 0.5},
        }
    }


def written(path, content, protocol=pickle.DEFAULT_PROTOCOL):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_benchmark_of_the_public_layout_is_read(tmp_path, protocol):
    content = public_content()
    path = written(tmp_path / "tiny.pkl", content, protocol)
    bench = load_tinybenchmarks(path)["lb"]
    theta = np.random.default_rng(1).normal(size=(5, DIMS))
    slopes, offsets = (content["lb"]["irt_parameters"][k] for k in "AB")
    theirs = (slopes * theta[:, :, None] - offsets).sum(axis=1)
    np.testing.assert_allclose(bench.parameters.logits(theta), theirs)
    assert list(bench.scenarios) == ["gsm8k", "mmlu"]
    np.testing.assert_array_equal(bench.subscenarios["mmlu"]["astronomy"], np.arange(6, 12))
    np.testing.assert_array_equal(bench.seen_items, [0, 2, 5, 7, 9])
    np.testing.assert_allclose(bench.weights["mmlu"], [0.2, 0.3, 0.5])
    assert dict(bench.mixing) == {"gsm8k": 0.25, "mmlu": 0.5}


def test_names_of_older_numpy_are_known(tmp_path):
    content = pickle.dumps(public_content(), protocol=0)
    older = content.replace(b"numpy._core.", b"numpy.core.")
    assert older != content
    (tmp_path / "old.pkl").write_bytes(older)
    assert load_tinybenchmarks(tmp_path / "old.pkl")["lb"].parameters.items == ITEMS


def test_balance_weights_give_the_mean_over_subscenario_means(tmp_path):
    bench = load_tinybenchmarks(written(tmp_path / "tiny.pkl", public_content()))["lb"]
    scores = np.random.default_rng(0).random(ITEMS)
    weighted = (bench.balance_weights("mmlu") * scores[bench.scenarios["mmlu"]]).mean()
    assert weighted == pytest.approx((scores[4:6].mean() + scores[6:12].mean()) / 2)
    with pytest.raises(ConfigError, match="mmlu"):
        bench.balance_weights("mmul")


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "i4", ">i8", "u1", "?", "<U3", "S2"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_plain_types_are_read_as_they_were(tmp_path, dtype, protocol):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for layout in (array, np.asfortranarray(array)):
        found = load_arrays(written(tmp_path / "a.pkl", layout, protocol)).array
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def raw_call(module, name, *arguments):
    """A pickle that calls any name, importable here or not."""
    body = pickletools.optimize(pickle.dumps(arguments, protocol=2))[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, open, getattr, __import__])
def test_calls_are_refused_by_name_and_not_made(tmp_path, protocol, function):
    canary = tmp_path / "canary"
    argument = {
        "system": f"touch {canary}",
        "open": str(canary),
    }.get(function.__name__, f"open({str(canary)!r}, 'w')")
    content = public_content()
    mode = ("w",) if function is open else ()
    content["lb"]["seen_examples"] = Calls(function, argument, *mode)
    path = written(tmp_path / "evil.pkl", content, protocol)
    with pytest.raises(ConfigError, match=rf"refused, it asks for .*{function.__name__}"):
        load_tinybenchmarks(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
        ("numpy.ctypeslib", "load_library"),
        ("numpy.f2py", "compile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy._core.multiarray", "_reconstruct.__self__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "os.system"),
        ("builtins", "dict"),
        ("collections", "OrderedDict"),
        ("functools", "partial"),
        ("evomerge.fitness.irt.array_unpickler", "PickledArray"),
        ("copyreg", "_reconstructor"),
    ],
)
@pytest.mark.parametrize("named", ["GLOBAL", "STACK_GLOBAL"])
def test_every_name_but_those_of_arrays_is_refused(tmp_path, module, name, named):
    path = tmp_path / "evil.pkl"
    if named == "GLOBAL":
        path.write_bytes(raw_call(module, name, "x"))
    else:
        texts = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
        path.write_bytes(b"\x80\x04" + texts + b"\x93.")
    with pytest.raises(ConfigError) as refused:
        load_arrays(path)
    assert f"it asks for {module}.{name}" in str(refused.value)
    assert str(path) in str(refused.value)


class Unpicklable:
    pass


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_objects_are_refused(tmp_path, protocol):
    array = np.array([{}, []], dtype=object)
    with pytest.raises(ConfigError, match="'O8'"):
        load_arrays(written(tmp_path / "a.pkl", array, protocol))


def test_structured_arrays_are_refused(tmp_path):
    array = np.zeros(2, dtype=[("a", "f8"), ("b", "O")])
    with pytest.raises(ConfigError, match="array of type 'V16'"):
        load_arrays(written(tmp_path / "a.pkl", array))


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    content = pickle.dumps(np.zeros(3), protocol=2)
    assert content.count(b"K\x03\x85") == 1
    (tmp_path / "a.pkl").write_bytes(content.replace(b"K\x03\x85", b"K\xff\x85"))
    with pytest.raises(ConfigError, match="2040 bytes with 24 bytes"):
        load_arrays(tmp_path / "a.pkl")


def test_a_pickle_cannot_change_what_names_stand_for(tmp_path):
    """BUILD on a name would set attributes of the class or function behind it."""
    attack = b"\x80\x02cnumpy\ndtype\nN}X\x05\x00\x00\x00_make" + b"K\x01s\x86b."
    (tmp_path / "a.pkl").write_bytes(attack)
    with pytest.raises(ConfigError, match="changes a name"):
        load_arrays(tmp_path / "a.pkl")
    array = load_arrays(written(tmp_path / "b.pkl", np.arange(3.0))).array
    np.testing.assert_array_equal(array, np.arange(3.0))


def test_outside_objects_are_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "secret" if isinstance(obj, Unpicklable) else None

    written_to = io.BytesIO()
    Pickler(written_to).dump(Unpicklable())
    (tmp_path / "a.pkl").write_bytes(written_to.getvalue())
    with pytest.raises(ConfigError, match="outside object 'secret'"):
        load_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04]"], ids=repr)
def test_what_is_no_pickle_is_said_to_be_none(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ConfigError, match="not a whole pickle"):
        load_arrays(tmp_path / "a.pkl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.pkl: cannot be read"):
        load_arrays(tmp_path / "nowhere.pkl")


def without(key):
    def drop(bench):
        del bench[key]

    return drop


def with_value(*keys, value):
    def put(bench):
        for key in keys[:-1]:
            bench = bench[key]
        bench[keys[-1]] = value

    return put


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("irt_parameters"), "irt_parameters is missing"),
        (with_value("irt_parameters", value={"A": 1}), r"irt_parameters\.A has shape \(\)"),
        (without("examples_weights"), "examples_weights is missing"),
        (with_value("examples_weights", value={"mmlu": [1.0] * 3}), "lacks scenario 'gsm8k'"),
        (with_value("examples_weights", "mmlu", value=[1.0]), "3 chosen items and 1 weights"),
        (with_value("seen_examples", value=[0, 12]), "item numbers from 0 to 11"),
        (with_value("seen_examples", value=[0.5]), "item numbers from 0 to 11"),
        (with_value("seen_examples", value=["a"]), "numbers only"),
        (with_value("scenarios_position", value=[1, 2]), "a dict with names as keys"),
        (with_value("optimal_lambdas", "mmlu", value=float("nan")), "finite numbers"),
    ],
)
def test_a_part_that_is_missing_or_wrong_is_named(tmp_path, change, said):
    content = public_content()
    change(content["lb"])
    with pytest.raises(ConfigError, match=said):
        load_tinybenchmarks(written(tmp_path / "tiny.pkl", content))
