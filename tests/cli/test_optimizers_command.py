"""The table of optimizers."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from evomerge.cli.optimizers_command import _options, _shown
from evomerge.optimizers.registry import OPTIMIZERS

PLUGIN = """
from dataclasses import dataclass

from evomerge.optimizers.registry import OptimizerEntry


@dataclass(frozen=True)
class Options:
    pace: float = 0.5


OPTIMIZERS = {"mine": OptimizerEntry("goes its own way", Options, "nowhere:Mine", extra="none")}
"""


@pytest.fixture
def optimizers(call, monkeypatch):
    def run(*arguments: str, columns: int = 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = call("optimizers", *arguments)
        assert shown.code == 0, shown.err
        return shown.out

    return run


@pytest.mark.parametrize("columns", [80, 140])
def test_every_optimizer_has_a_row_within_the_width(optimizers, columns):
    table = optimizers(columns=columns)
    assert max(map(len, table.splitlines())) <= columns
    starts = [line.split(" ")[0] for line in table.splitlines()]
    assert [name for name in OPTIMIZERS if name not in starts] == []


def test_a_row_tells_objectives_and_workers(optimizers):
    rows = {line.split()[0]: line.split() for line in optimizers().splitlines() if line}
    assert rows["nsga2"][1:4] == ["1–5", "ahead,", "async"]
    assert rows["random"][1:3] == ["any", "any"]
    assert rows["soups"][1:3] == ["any", "–"]


def test_the_guide_at_the_end_names_only_optimizers_that_exist(optimizers):
    from evomerge.cli.optimizers_command import _GUIDE

    named = [name for _, choice in _GUIDE for name in choice.replace(";", ",").split(", ")]
    assert {name.strip() for name in named} <= {*OPTIMIZERS}
    assert "Which one?" in optimizers()


def test_one_optimizer_is_told_in_full(optimizers):
    told = optimizers("rl", columns=200)
    entry = OPTIMIZERS["rl"]
    words = told.split()
    for part in (entry.summary, entry.advice, entry.source):
        assert part in told
    for field in fields(entry.options):
        assert field.name in words
    assert "(0, 0.1]" in told


def test_an_option_that_may_be_left_out_says_none(optimizers):
    (row,) = [
        line
        for line in optimizers("nsga2", columns=200).splitlines()
        if line.startswith("mutation_probability")
    ]
    assert "[0, 1] or none" in row


def test_json_holds_every_field(optimizers):
    by_name = {each["name"]: each for each in json.loads(optimizers("--json"))}
    assert set(by_name) == {*OPTIMIZERS}
    soups = by_name["soups"]
    assert soups == json.loads(optimizers("soups", "--json"))
    assert (soups["max_objectives"], soups["plugin"], soups["installed"]) == (None, None, True)
    assert [option["name"] for option in soups["options"]] == ["method", "coefficients"]
    assert soups["options"][0]["range"] == "greedy, heuristic"


def test_a_plugins_optimizer_is_listed_with_its_origin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    for arguments in ([], ["mine"]):
        done = subprocess.run(
            [sys.executable, "-m", "evomerge", "optimizers", *arguments, "--plugin", str(file)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"COLUMNS": "400"},
        )
        assert "goes its own way" in done.stdout
        assert str(file) in done.stdout


def test_an_unknown_optimizer_is_answered_with_the_nearest(call):
    shown = call("optimizers", "cmaes")
    assert shown.code == 2
    assert "did you mean 'cma_es'?" in shown.err


def test_the_table_loads_no_optimizers_library():
    code = (
        "import sys\nfrom evomerge.cli.main import main\n"
        "try:\n    main(['optimizers', '--json'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not {"torch", "pymoo", "cma", "nevergrad", "botorch", "numba"} & loaded


DOCS = Path(__file__).parents[2] / "docs" / "optimizers.md"


def reference() -> str:
    """The part of docs/optimizers.md on single optimizers, as it would be written today."""
    parts = []
    for name, entry in OPTIMIZERS.items():
        told = [f"### {name}", "", f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""]
        told += [entry.advice, ""] if entry.advice else []
        told += [f"*{entry.source}*", ""] if entry.source else []
        rows = [
            f"| `{o['name']}` | {o['range']} | {_shown(o['default'])} | {o['meaning']} |"
            for o in _options(entry)
        ]
        head = ["| option | range | default | meaning |", "|---|---|---|---|"]
        told += [*head, *rows] if rows else ["It has no options."]
        parts.append("\n".join(told))
    return "\n\n".join(parts)


def test_the_documentation_has_every_optimizer_with_every_option():
    sections = DOCS.read_text().partition("\n## Measured")[0].split("\n### ")
    written = {s.split("\n")[0]: re.findall(r"^\| `(\w+)` \|", s, re.M) for s in sections[1:]}
    expected = {name: [o["name"] for o in _options(e)] for name, e in OPTIMIZERS.items()}
    assert written == expected, "see reference() in this file for the text"
