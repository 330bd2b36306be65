"""``evomerge bench optimizers`` from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from frozen_landscapes import write_landscape

pytest_plugins = ["command_line"]

PEERS = Path(__file__).parent.parent.parent / "benchmarks" / "peer_optimizers.py"


@pytest.fixture
def landscape(tmp_path):
    return write_landscape(tmp_path / "small.npz")


def test_a_comparison_prints_its_table_and_writes_its_files(call, tmp_path, landscape):
    out = tmp_path / "out"
    arguments = ("bench", "optimizers", landscape, "--seeds", 1, "--candidates", 10)
    named = ("--optimizers", "random, cma_es,mergekit_evolve,mergenetic_ga_10", "--out", out)
    done = call("--plugin", PEERS, *arguments, *named)
    assert done.code == 0
    assert "accuracy(one+two) of the winner on test items" in done.out
    for name in ("random", "cma_es", "mergekit_evolve", "mergenetic_ga_10"):
        assert name in done.out
    assert "1 seed is too few" in done.out
    assert str(out / "report.html") in done.out
    assert "4 runs; results in" in done.err
    files = {path.name for path in out.iterdir()}
    assert files >= {"report.html", "table.csv", "runs.csv", "bench.json", "runs.jsonl"}


def test_wrong_calls_end_with_every_problem_and_run_nothing(call, tmp_path, landscape):
    out = tmp_path / "out"
    wrong = call(
        *("bench", "optimizers", landscape, "--optimizers", "cma_se,nsga2:popsize=4"),
        *("--seeds", 0, "--budgets", "500", "--out", out),
    )
    assert wrong.code == 2
    assert "--seeds 0" in wrong.err
    assert "--budgets 500" in wrong.err
    assert "unknown optimizer 'cma_se'; did you mean 'cma_es'" in wrong.err
    assert "unknown option of nsga2 'popsize'" in wrong.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--items", "1"), "--items 1: expected a number from 2 on"),
        (("--budgets", "a,b"), "expected whole numbers"),
    ],
)
def test_malformed_options_are_usage_errors(call, landscape, arguments, message):
    done = call("bench", "optimizers", landscape, "--optimizers", "random", *arguments)
    assert done.code == 2
    assert message in done.err


def test_a_comparison_on_a_landscape_loads_no_model_framework(tmp_path, landscape):
    code = (
        "import sys\n"
        "from evomerge.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    arguments = [
        "bench",
        "optimizers",
        str(landscape),
        "--optimizers",
        "random",
        "--seeds",
        "1",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--candidates", "8"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert (tmp_path / "runs" / "bench-small" / "report.html").is_file()
    assert not {"torch", "transformers", "lm_eval", "ray"} & set(
        done.stdout.splitlines()[-1].split()
    )
