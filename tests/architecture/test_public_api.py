"""What ``import evomerge`` offers is exactly what it lists."""

import subprocess
import sys

import pytest

import evomerge


@pytest.mark.parametrize("name", evomerge.__all__)
def test_every_listed_name_exists(name):
    assert getattr(evomerge, name) is not None


def test_a_fresh_import_has_no_public_name_besides_the_listed_ones():
    """Tools that its text needs are no part of it."""
    code = "import evomerge; print(*(n for n in vars(evomerge) if not n.startswith('_')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    tools = {"Any", "TYPE_CHECKING", "importlib"}
    assert set(done.stdout.split()) - tools <= {*evomerge.__all__}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'merge_everything'"):
        _ = evomerge.merge_everything


def test_every_lazy_name_is_listed():
    assert {*evomerge._PLACES, "__version__"} == {*evomerge.__all__}


@pytest.mark.parametrize("name", evomerge._PLACES)
def test_every_public_name_says_what_it_is_for(name):
    assert (getattr(evomerge, name).__doc__ or "").partition("\n")[0].endswith(".")
