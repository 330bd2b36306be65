"""``evomerge merge`` of recipes written by hand, with the mistakes that hands make."""

import signal
import time

import pytest
import yaml
from command_line import command
from quickstart import ZOO

BASE = str(ZOO / "base")
SORT = str(ZOO / "sort")


@pytest.fixture
def merge(tmp_path):
    """Runs a merge of rules over the embedded models; gives exit code and what it said."""

    def run(*rules, extra=(), **more):
        recipe = {
            "recipe": 1,
            "base": "base",
            "sources": {"base": {"model": BASE}, "sort": {"model": SORT}},
            "rules": [*rules, {"operator": "task_arithmetic", "models": {"sort": {}}}],
        } | more
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        process = command("merge", "recipe.yaml", "out", *extra, cwd=tmp_path)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    return run


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"layers": [70, 90]}, "rule 1: selects no tensor (layers [70, 90]"),
        ({"contains": "slef_attn"}, "unknown part 'slef_attn'; did you mean 'self_attn'"),
        ({"contains": ["q_proj", "k_proj"]}, "names with all of ['q_proj', 'k_proj']"),
    ],
)
def test_a_rule_for_nothing_is_refused(merge, tmp_path, rule, message):
    code, said = merge({"operator": "linear", "models": {"sort": {}}} | rule)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["recipe.yaml"]


PLUGIN = """
from evomerge.merging.operators.contract import Operator

def merge(inputs):
    {body}

MINE = Operator(name="mine", summary="a median", merge=merge, parameters=(), paper="none")
OPERATORS = {{"mine": MINE}}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('boom')", "mine.py failed: ValueError: boom"),
        ("return None", "mine.py failed: TypeError"),
        ("yield slice(0, 3), inputs.tensors[0].reshape(-1)[:3].float()", "gave 3 of "),
    ],
)
def test_a_plugin_s_mistake_fails_the_merge_and_names_the_operator(
    merge, tmp_path, body, message
):
    (tmp_path / "mine.py").write_text(PLUGIN.format(body=body))
    rule = {"operator": "mine", "models": {"sort": {}}}
    code, said = merge(rule, rules=[rule], extra=("--plugin", "mine.py"))
    assert code == 6, said
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_terminated_merge_leaves_nothing_behind(tmp_path):
    (tmp_path / "slow.py").write_text(
        PLUGIN.format(body="import time; time.sleep(60); yield slice(0, 0), None")
    )
    recipe = {
        "recipe": 1,
        "sources": {"sort": {"model": SORT}},
        "rules": [{"operator": "mine", "models": {"sort": {}}}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    process = command("merge", "recipe.yaml", "out", "--plugin", "slow.py", cwd=tmp_path)
    before = {"slow.py", "recipe.yaml", "__pycache__"}
    deadline = time.monotonic() + 60
    while {file.name for file in tmp_path.iterdir()} <= before:  # until the folder is begun
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {file.name for file in tmp_path.iterdir()} <= before
