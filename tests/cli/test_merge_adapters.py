"""Adapters merged from the command line, and what it says of wrong calls."""

import pytest
import torch
from cli.zoo_adapters import CHANGED, change, write_adapter


@pytest.fixture
def adapters(tmp_path):
    """Two adapters of one base, of other ranks."""
    return [write_adapter(tmp_path / f"{n}", seed=n, rank=n + 1) for n in (1, 2)]


@pytest.mark.parametrize("space", ["linear", "knots", "core_space"])
def test_two_adapters_become_their_weighted_sum(call, adapters, tmp_path, space):
    out = tmp_path / "out"
    done = call("merge-adapters", *adapters, out, "-w", 0.5, "-w", 2, "--space", space)
    assert done.code == 0, done.err
    assert done.out.strip() == str(out)
    for module in CHANGED:
        expected = 0.5 * change(adapters[0], module) + 2 * change(adapters[1], module)
        torch.testing.assert_close(change(out, module), expected, atol=1e-6, rtol=1e-5)


def test_an_operator_merges_by_its_parameters(call, adapters, tmp_path):
    merged = []
    for density in (0.2, 1):
        out = tmp_path / f"at-{density}"
        options = ("--space", "core_space", "--operator", "ties", "-p", f"density={density}")
        done = call("merge-adapters", *adapters, out, *options, "--rank", 3)
        assert done.code == 0, done.err
        merged.append(change(out, CHANGED[0]))
    assert not torch.allclose(*merged, atol=1e-3)
    assert max(int(torch.linalg.matrix_rank(matrix, tol=1e-5)) for matrix in merged) <= 3


KNOTS = ("--space", "knots")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((*KNOTS, "--operator", "tise"), 2, "unknown operator 'tise'; did you mean 'ties'?"),
        ((*KNOTS, "--operator", "ties", "-p", "densiti=1"), 2, "did you mean 'density'?"),
        ((*KNOTS, "--operator", "ties", "-p", "density=[1]"), 2, "density must be a number"),
        ((*KNOTS, "--operator", "ties", "-p", "density"), 2, "expected NAME="),
        ((*KNOTS, "--operator", "nearswap"), 2, "nearswap merges 1 models, got 2."),
        (("--operator", "ties"), 2, "'linear' is the weighted sum, got operator 'ties'"),
        (("-p", "density=.1"), 2, "'linear' is the weighted sum, got parameter 'density'"),
        (("-w", "1"), 2, "expected one weight an adapter (2), got [1.0]"),
        (("-w", "1", "-w", "nan"), 2, "weights must be finite numbers"),
        (("--space", "knot"), 2, "knots"),
    ],
)
def test_wrong_options_give_one_message(call, adapters, tmp_path, options, code, said):
    done = call("merge-adapters", *adapters, tmp_path / "out", *options)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_every_adapter_has_to_be_there(call, adapters, tmp_path):
    done = call("merge-adapters", adapters[0], tmp_path / "none", tmp_path / "out")
    assert done.code == 4
    assert f"{tmp_path / 'none'}: no such adapter folder" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(call, adapters):
    before = {file: file.read_bytes() for file in adapters[1].iterdir()}
    done = call("merge-adapters", adapters[0], adapters[1])
    assert done.code == 5
    assert "exists already; give a new folder" in done.err
    assert "Traceback" not in done.err
    assert {file: file.read_bytes() for file in adapters[1].iterdir()} == before
