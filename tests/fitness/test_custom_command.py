"""Commands as fitness: what they are given, what they may print, and how they are stopped."""

import json
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from evomerge.core.errors import ConfigError, StoreError, TrialError
from evomerge.fitness import custom_model_folder
from evomerge.fitness.custom_command import CommandScorer, command_task, load_command
from evomerge.fitness.custom_model_folder import temporary_model_folder
from evomerge.fitness.custom_task import CustomItems

ITEMS = {"t": (0, 3, 5)}


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "code"
    home.mkdir()
    return home


def exported(place: Path) -> None:
    place.mkdir()
    (place / "config.json").write_text('{"a": 1}')


@pytest.fixture
def scorer(folder):
    """A scorer of one task ``t`` from the text of a script; seconds for each call."""

    def make(script: str, count: int | None = 8, metrics=("score",), timeout=20.0):
        (folder / "agent.py").write_text(textwrap.dedent(script))
        command = load_command(["python", "-S", "agent.py", "{model}/x"], folder, timeout)
        task = command_task("t", command, CustomItems(count, metrics), 0)
        return CommandScorer({"t": task}, exported, lambda: "m")

    return make


def version(folder: Path, *arguments: str, timeout: float = 1) -> str:
    command = load_command(arguments, folder, timeout)
    return command_task("t", command, CustomItems(8), 0).bank.version


def gone(pid: int) -> bool:
    """Whether a process has ended, within a few seconds."""
    for _ in range(300):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # killed; whoever took it over has not read its end yet
            return True
        time.sleep(0.01)
    return False


# ---- what it is given and what it prints


def test_a_command_gets_the_model_folder_and_the_items(scorer, folder, own_temporary_folder):
    answered = scorer(
        """
        import json, os, sys
        asked = json.load(sys.stdin)
        model = os.environ["EVOMERGE_MODEL"]
        assert sys.argv[1] == model + "/x" and asked["model"] == model
        assert json.load(open(model + "/config.json")) == {"a": 1}
        assert json.loads(os.environ["EVOMERGE_ITEMS"]) == asked["items"] == [0, 3, 5]
        assert asked["task"] == os.environ["EVOMERGE_TASK"] == "t"
        open("seen.json", "w").write(json.dumps([sys.executable, os.getcwd()]))
        print("some", "log")
        print(json.dumps({"items": {i: i / 2 for i in asked["items"]}}))
        print()
        """
    ).responses(ITEMS)["t"]
    assert answered.items == ITEMS["t"]
    assert answered.values == {"score": (0.0, 1.5, 2.5)}
    python, place = json.loads((folder / "seen.json").read_text())
    assert Path(python).parent == Path(sys.executable).parent
    assert place == str(folder)
    assert list(own_temporary_folder.iterdir()) == []


def test_items_may_have_several_metrics(scorer):
    text = """print('{"items": {"5": {"b": 1, "a": 2}, "0": {"a": 3, "b": 4}, "3": {"a": 5, "b": 6}}}')"""
    answered = scorer(text, metrics=("a", "b")).responses(ITEMS)["t"]
    assert answered.values == {"a": (3.0, 5.0, 2.0), "b": (4.0, 6.0, 1.0)}


def test_so_many_items_that_no_variable_holds_them_are_still_on_standard_input(scorer):
    text = """
        import json, os, sys
        asked = json.load(sys.stdin)
        assert "EVOMERGE_ITEMS" not in os.environ
        print(json.dumps({"items": dict.fromkeys(asked["items"], 1)}))
    """
    answered = scorer(text, count=40_000).responses({"t": tuple(range(40_000))})["t"]
    assert len(answered.items) == 40_000


def test_a_whole_score_is_asked_for_each_split(scorer):
    made = scorer(
        """
        import json, os, sys
        split = json.load(sys.stdin)["split"]
        assert split == os.environ["EVOMERGE_SPLIT"] and "EVOMERGE_ITEMS" not in os.environ
        print(json.dumps({"score": {"search": 0.25, "test": 1}[split]}))
        """,
        count=None,
    )
    bank = made._tasks["t"].bank
    for split, value in {"search": 0.25, "test": 1.0}.items():
        assert set(made.responses({"t": bank.items(split)})["t"].values["score"]) == {value}


# ---- what goes wrong


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise SystemExit(3)", "ended with exit code 3 and printed nothing"),
        ("import sys; sys.exit('out of luck')", "exit code 1; its stderr ends: out of luck"),
        ("print('half a'); raise SystemExit(1)", "its stdout ends: half a"),
        ("1 / 0", r"exit code 1; its stderr ends: .*agent\.py.*ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("pass", r'gave no output, expected \{"score": 0\.7\} or'),
        ("print('done')", "no JSON: done"),
        ("print('[1, 2]')", r"printed \[1, 2\], expected"),
        ("print('{\"score\": 1}')", r'printed \{"score": 1\}, expected \{"items"'),
        ("print('{\"items\": 1}')", r'printed \{"items": 1\}, expected'),
        ("print('{\"items\": {\"0\": 1, \"3\": 1}}')", "no value for item 5 "),
        ("print('{\"items\": {\"0\": 1, \"3\": 1, \"5\": NaN}}')", "item 5: score is nan"),
        ("print('{\"items\": {\"0\": 1, \"3\": 1, \"5\": 1, \"7\": 1}}')", "item 7, which was not"),
        ("print('{\"items\": {\"0\": 1, \"3\": 1, \"x\": 1}}')", "as keys, found 'x'"),
    ],
)  # fmt: skip
def test_a_failure_is_a_failed_trial_that_says_why(scorer, own_temporary_folder, script, said):
    with pytest.raises(TrialError, match=f"task t: .*{said}"):
        scorer(script).responses(ITEMS)
    assert list(own_temporary_folder.iterdir()) == []


def test_only_the_end_of_long_errors_is_told(scorer):
    script = "import sys; sys.exit(''.join(f'word{n} ' for n in range(100_000)))"
    with pytest.raises(TrialError, match=r"word99998 word99999\.$") as caught:
        scorer(script).responses(ITEMS)
    assert len(str(caught.value)) < 700


def test_values_by_item_of_a_whole_task_are_refused(scorer):
    made = scorer('print(\'{"items": {"0": 1}}\')', count=None)
    with pytest.raises(TrialError, match="expected one score; name the number of 'items'"):
        made.responses({"t": made._tasks["t"].bank.items("test")})


WITH_A_CHILD = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    open("pid", "w").write(str(child.pid))
"""


def test_at_the_timeout_the_command_and_its_children_are_killed(scorer, folder):
    start = time.monotonic()
    with pytest.raises(TrialError, match=r"longer than its timeout of 1\.5 s and was killed"):
        scorer(WITH_A_CHILD + "    time.sleep(300)", timeout=1.5).responses(ITEMS)
    assert time.monotonic() - start < 30
    assert gone(int((folder / "pid").read_text()))


def test_a_child_left_behind_neither_blocks_nor_survives(scorer, folder):
    ending = '    print(\'{"items": {"0": 1, "3": 1, "5": 1}}\')'
    assert scorer(WITH_A_CHILD + ending).responses(ITEMS)["t"].items == ITEMS["t"]
    assert gone(int((folder / "pid").read_text()))


def test_an_interrupt_kills_the_command_and_removes_the_model(
    scorer, folder, own_temporary_folder, monkeypatch
):
    made = scorer(WITH_A_CHILD + "    time.sleep(300)")

    def interrupted(*_: object) -> None:
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            time.sleep(0.01)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.responses(ITEMS)
    assert gone(int((folder / "pid").read_text()))
    assert list(own_temporary_folder.iterdir()) == []


def test_a_model_that_cannot_be_written_leaves_nothing_behind(folder, own_temporary_folder):
    def full(place: Path) -> None:
        place.mkdir()
        raise StoreError("the disk is full")

    task = command_task("t", load_command(["true"], folder, 1), CustomItems(8), 0)
    with pytest.raises(StoreError, match="full"):
        CommandScorer({"t": task}, full, lambda: "m").responses(ITEMS)
    assert list(own_temporary_folder.iterdir()) == []


def test_model_folders_of_dead_processes_are_cleared_and_of_living_ones_kept(monkeypatch):
    with temporary_model_folder() as alive:
        abandoned = alive.with_name("evomerge-model-abandoned")
        (abandoned / "model").mkdir(parents=True)
        monkeypatch.setattr(custom_model_folder, "_YOUNG", -1.0)
        with temporary_model_folder():
            assert alive.exists()
            assert not abandoned.exists()
    assert not alive.exists()


# ---- found before anything runs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pyton3", "x"], "no program 'pyton3' on the PATH"),
        (["agent.py"], r"no program 'agent\.py'.*write '\./agent\.py'"),
        (["./agent.py"], r"agent\.py is not executable \(chmod \+x\)"),
        (["./other.sh"], r"other\.sh does not exist"),
        (["python", "agents.py"], r"unknown file 'agents\.py'; did you mean 'agent\.py'"),
        (["python", "agent.py", "{modle}"], r"did you mean '\{model\}'"),
    ],
)
def test_a_command_that_cannot_run_is_refused(folder, arguments, said):
    (folder / "agent.py").write_text("")
    with pytest.raises(ConfigError, match=said):
        load_command(arguments, folder, 1)


def test_programs_with_braces_of_their_own_are_left_alone(folder):
    load_command(["awk", "{print $1}", '{"items": {}}', "{x}"], folder, 1)


def test_the_version_changes_with_the_command_and_its_files(folder):
    (folder / "agent.py").write_text("import helper, json")
    (folder / "helper.py").write_text("X = 1")
    (folder / "settings.json").write_text("{}")
    (folder / "stranger.py").write_text("")
    command = ("python", "agent.py", "--settings=settings.json", "{model}")
    seen = [version(folder, *command)]
    assert version(folder, *command, timeout=5) == seen[0]
    for name in ("agent.py", "helper.py", "settings.json"):
        (folder / name).write_text((folder / name).read_text() + " ")
        seen.append(version(folder, *command))
    seen += [version(folder, *command, "-v"), version(folder, "python", "-m", "helper")]
    assert len(set(seen)) == len(seen)
    (folder / "stranger.py").write_text("X = 2")
    assert version(folder, "python", "-m", "helper") == seen[-1]
    (folder / "helper.py").write_text("X = 3")
    assert version(folder, "python", "-m", "helper") != seen[-1]


def test_an_executable_of_the_folder_runs(folder):
    script = folder / "agent.sh"
    script.write_text(
        '#!/bin/sh\necho "{\\"items\\": {\\"0\\": $1, \\"3\\": 1, \\"5\\": 1}}"\n'
    )
    os.chmod(script, 0o755)  # noqa: PTH101
    task = command_task("t", load_command(["./agent.sh", "7"], folder, 20), CustomItems(8), 0)
    answered = CommandScorer({"t": task}, exported, lambda: "m").responses(ITEMS)["t"]
    assert answered.values == {"score": (7.0, 1.0, 1.0)}
