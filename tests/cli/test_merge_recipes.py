"""``evomerge merge`` of recipes written by hand, with the mistakes that hands make."""

import signal
import time

import pytest
import yaml
from command_line import command
from quickstart import ZOO

from evomerge.core.errors import ConfigError
from evomerge.experiment.export import merge_recipe

BASE = str(ZOO / "base")
SORT = str(ZOO / "sort")


def write_recipe(folder, *rules, operator="task_arithmetic"):
    recipe = {
        "recipe": 1,
        "base": "base",
        "sources": {"base": {"model": BASE}, "sort": {"model": SORT}},
        "rules": [*rules, {"operator": operator, "models": {"sort": {}}}],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"layers": [70, 90]}, "rule 1: selects no tensor (layers [70, 90]"),
        ({"contains": "slef_attn"}, "unknown part 'slef_attn'; did you mean 'self_attn'"),
        ({"contains": ["q_proj", "k_proj"]}, "names with all of ['q_proj', 'k_proj']"),
    ],
)
def test_a_rule_for_nothing_is_refused(tmp_path, rule, message):
    recipe = write_recipe(tmp_path, {"operator": "linear", "models": {"sort": {}}} | rule)
    with pytest.raises(ConfigError) as error:
        merge_recipe(recipe, tmp_path / "out")
    assert message in str(error.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["recipe.yaml"]


PLUGIN = """
from evomerge.merging.operators.contract import Operator

def merge(inputs):
    {body}

MINE = Operator(name="mine", summary="a median", merge=merge, parameters=(), paper="none")
OPERATORS = {{"mine": MINE}}
"""


def test_a_plugin_s_mistake_fails_the_merge_and_names_the_operator(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN.format(body="raise ValueError('boom')"))
    write_recipe(tmp_path, operator="mine")
    merge = command("merge", "recipe.yaml", "out", "--plugin", "mine.py", cwd=tmp_path)
    _, said = merge.communicate(timeout=120)
    assert merge.returncode == 6, said
    assert "mine.py failed: ValueError: boom" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_terminated_merge_leaves_nothing_behind(tmp_path):
    begun = tmp_path / "begun"
    body = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(90)"
    (tmp_path / "mine.py").write_text(PLUGIN.format(body=body))
    write_recipe(tmp_path, operator="mine")
    merge = command("merge", "recipe.yaml", "out", "--plugin", "mine.py", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any(file.name.startswith(".out.") for file in tmp_path.iterdir())
    merge.send_signal(signal.SIGTERM)
    merge.communicate(timeout=60)
    assert merge.returncode == 130
    left = {file.name for file in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"begun", "mine.py", "recipe.yaml"}
