"""Read arrays, numbers, text, lists and dicts from a pickle without running anything in it.

A pickle is a program that may call whatever it can name. Here it can name seven things, and
none of them is the real one: each stands for how numpy writes arrays, and builds a plain value
from bytes whose type and size were checked. Object arrays, structured types and every other
name are refused before anything is built.
"""

import io
import math
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.core.errors import ConfigError

_PLAIN_TYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,4})")

_STATE_LENGTH = 5
"""Version, shape, type, column order and bytes: what numpy writes of an array."""


class _RefusedError(Exception):
    """What the pickle asked for is not allowed, in words for the user."""


def load_arrays(path: str | Path) -> Any:  # noqa: ANN401 (whatever plain value is inside)
    """The plain value in a pickle file; nested arrays come as :class:`PickledArray`.

    Raises:
        ConfigError: The file cannot be read, is no pickle, or asks for anything but arrays,
            numbers, text, lists and dicts; the message names what it asked for.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        return _ArrayUnpickler(io.BytesIO(content)).load()
    except _RefusedError as refused:
        raise ConfigError(
            f"{path}: refused, {refused}; only numpy arrays of numbers, text, lists and dicts "
            "may be in it. The file was not written by tinyBenchmarks or was tampered with."
        ) from refused
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError,
            AttributeError, OverflowError, MemoryError, RecursionError) as error:  # fmt: skip
        raise ConfigError(f"{path}: not a whole pickle of arrays: {error}.") from error


class PickledArray:
    """An array whose contents arrive after it was announced, as pickles have it."""

    def __init__(self) -> None:
        self._array: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        """Take the contents."""
        if not isinstance(state, tuple) or len(state) != _STATE_LENGTH:
            raise _RefusedError("it holds an array of an unknown layout")
        _, shape, dtype, by_column, content = state
        self._array = _array(content, dtype, shape, "F" if by_column is True else "C")

    @property
    def array(self) -> np.ndarray:
        """The contents.

        Raises:
            ConfigError: They never arrived.
        """
        if self._array is None:
            raise ConfigError("the pickle announces an array without contents.")
        return self._array


class _PickledType:
    """Stands for ``numpy.dtype``; only plain numbers and text."""

    def __init__(self, code: object, *_flags: object) -> None:
        if not isinstance(code, str) or not _PLAIN_TYPE.fullmatch(code):
            raise _RefusedError(f"it holds an array of type {code!r}")
        self._dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        """Take the byte order, and nothing else that a type's state could say."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise _RefusedError("it holds an array type of an unknown layout")
        self._dtype = self._dtype.newbyteorder(order)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype


class _StandIn:
    """What a pickle gets for a name: it can be called, and nothing about it can be set."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("it changes a name that it asked for")


def _array_class(*_arguments: object) -> object:
    raise _RefusedError("it makes an array in a way that numpy does not write")


_ARRAY_CLASS = _StandIn(_array_class)
"""Stands for ``numpy.ndarray``, which pickles only pass on."""


def _announced(kind: object, *_shape_and_code: object) -> PickledArray:
    if kind is not _ARRAY_CLASS:
        raise _RefusedError("it makes an array of an unknown class")
    return PickledArray()


def _from_buffer(content: object, dtype: object, shape: object, order: object) -> PickledArray:
    made = PickledArray()
    made.__setstate__((1, shape, dtype, order == "F", content))
    return made


def _scalar(dtype: object, content: object) -> bool | int | float | str | bytes:
    value: bool | int | float | str | bytes = _array(content, dtype, (), "C").item()
    return value


def _array(content: object, dtype: object, shape: object, order: Any) -> np.ndarray:  # noqa: ANN401
    if not isinstance(dtype, _PickledType):
        raise _RefusedError("it holds an array of an unknown type")
    if not isinstance(content, bytes | bytearray):
        raise _RefusedError("it holds an array of objects")
    if not isinstance(shape, Sequence) or not all(
        isinstance(size, int) and size >= 0 for size in shape
    ):
        raise _RefusedError(f"it holds an array of shape {shape!r}")
    expected = math.prod(shape) * dtype.dtype.itemsize
    if len(content) != expected:
        raise _RefusedError(f"it holds an array of {expected} bytes with {len(content)} bytes")
    return np.frombuffer(content, dtype.dtype).reshape(tuple(shape), order=order).copy()


def _latin_1(text: object, encoding: object) -> bytes:
    """Stands for ``_codecs.encode``, by which old pickle protocols write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"it encodes text as {encoding!r}")
    return text.encode("latin-1")


_STAND_INS: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): _StandIn(_PickledType),
    ("_codecs", "encode"): _StandIn(_latin_1),
    **{
        (f"numpy.{core}.{module}", name): _StandIn(make)
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _announced),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    """Finds the stand-ins and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401
        stand_in = _STAND_INS.get((module_name, global_name))
        if stand_in is None:
            raise _RefusedError(f"it asks for {module_name}.{global_name}")
        return stand_in

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401
        raise _RefusedError(f"it asks for the outside object {pid!r}")
