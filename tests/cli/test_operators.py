"""The table of merge operators."""

import json
import subprocess
import sys

import pytest

from evomerge.merging.operators.registry import OPERATORS


@pytest.fixture
def operators(call, monkeypatch):
    def run(*arguments: str, columns: int = 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = call("operators", *arguments)
        assert shown.code == 0, shown.err
        return shown.out

    return run


@pytest.mark.parametrize("columns", [80, 120])
def test_every_operator_and_parameter_has_its_place_within_the_width(operators, columns):
    table = operators(columns=columns)
    assert max(map(len, table.splitlines())) <= columns
    starts = [line.split(" ")[0] for line in table.splitlines()]
    words = table.split()
    for operator in OPERATORS.values():
        assert operator.name in starts
        for parameter in operator.parameters:
            star = "*" if parameter.per_model else ""
            assert any(word.startswith(f"{parameter.name}{star}=") for word in words)
    assert "density*=1∈[0,1]" in words


def test_a_row_tells_what_the_operator_needs(operators):
    (row,) = (line for line in operators().splitlines() if line.startswith("dare_ties"))
    assert row.split()[:4] == ["dare_ties", "1+", "base,", "random"]
    assert row.split()[-1] == "2311.03099"
    (row,) = (line for line in operators().splitlines() if line.startswith("regmean"))
    assert row.split()[:3] == ["regmean", "1+", "gram"]


def test_one_operator_is_told_in_full(operators):
    told = operators("fisher")
    for part in (
        OPERATORS["fisher"].summary,
        OPERATORS["fisher"].paper,
        "evomerge collect-stats --kind fisher",
        *(p.summary for p in OPERATORS["fisher"].parameters),
    ):
        assert part in told


def test_json_holds_every_field(operators):
    by_name = {each["name"]: each for each in json.loads(operators("--json"))}
    assert set(by_name) == {*OPERATORS}
    ties = by_name["ties"]
    assert ties == json.loads(operators("ties", "--json"))
    assert (ties["needs_base"], ties["stochastic"], ties["plugin"]) == (True, False, None)
    density = next(p for p in ties["parameters"] if p["name"] == "density")
    assert (density["low"], density["high"], density["per_model"]) == (0, 1, True)


def test_an_unknown_operator_is_answered_with_the_nearest(call):
    shown = call("operators", "tise")
    assert shown.code == 2
    assert "did you mean 'ties'?" in shown.err


def test_the_table_loads_no_model_framework():
    code = (
        "import sys\nfrom evomerge.cli.main import main\n"
        "try:\n    main(['operators'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not {"torch", "transformers", "numba", "lm_eval"} & loaded
