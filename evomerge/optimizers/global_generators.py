"""Python's and numpy's global generators lent to a library that draws from them."""

import contextlib
import io
import random
import warnings
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def lent_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators of python and numpy, and put them back as they were.

    What is drawn inside depends on ``rng`` alone, which gives one number each time. What
    the library prints or warns of inside is dropped, and numpy's floating point errors are not
    reported: the caller judges what comes out.

    Args:
        rng: Where the seed is drawn from.
    """
    seed = int(rng.integers(2**32))
    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002 - it draws there
    try:
        np.random.seed(seed)  # noqa: NPY002 - as above
        random.seed(seed)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002 - as above
        random.setstate(python)
