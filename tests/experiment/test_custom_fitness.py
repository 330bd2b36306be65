"""Experiments scored by functions and commands, over real models, from file to report."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from quickstart import ROOT, ZOO, write_experiment

import evomerge
from evomerge.core.errors import ConfigError, StoreError, TrialError
from evomerge.core.responses import Items
from evomerge.experiment.prepare import prepare_file
from evomerge.fitness.custom_command import CommandScorer, command_task, load_command
from evomerge.fitness.custom_task import CustomItems
from evomerge.store.study_store import StudyStore

PAGE = ROOT / "docs" / "custom_fitness.md"
PLAIN = 6
"""Three sources and three baselines."""

JUDGE = """
def score(model, tokenizer, items):
    weight = model.model.norm.weight
    return {item: {"score": weight[item].item(), "cost": item} for item in items}
"""
AGENT = """
import json, os, sys
asked = json.load(sys.stdin)
data = open(os.path.join(sys.argv[1], "model.safetensors"), "rb").read()
print(json.dumps({"score": data[-2000:].count(0) / 2000, "standard_error": 0.01}))
"""
USE = [
    {"name": "judge", "score": "judge:score", "items": 40, "metrics": ["score", "cost"]},
    {"name": "agent", "score": {"command": 'python -S agent.py "{model}"', "timeout": 60}},
]


@pytest.fixture
def write(tmp_path):
    """An experiment with a function and a command in its folder; gives the file."""

    def write_files(judge=JUDGE, agent=AGENT, folder="home", **changes):
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        (home / "judge.py").write_text(textwrap.dedent(judge))
        (home / "agent.py").write_text(textwrap.dedent(agent))
        plain = {
            "tasks": {"use": USE},
            "fitness": {"items": {"search": 8, "validation": 8, "test": 8}, "finalists": 2},
            "objectives": [
                {"maximize": "score", "task": "judge"},
                {"minimize": "score", "task": "agent"},
            ],
            "budget": {"candidates": 4},
        }
        return write_experiment(home, **plain | changes)

    return write_files


def content(study: evomerge.Study) -> list:
    with StudyStore.open(study.path, read_only=True) as store:
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        settings = store.meta("settings_digest")
        return [
            (t.genome, t.estimates, store.responses(t.recipe.digest, settings, versions))
            for t in store.trials()
        ]


def test_functions_commands_and_lm_eval_tasks_stand_side_by_side(write):
    tasks = {"include": [str(ROOT / "fitness" / "tasks")], "use": [USE[1], "town", USE[0]]}
    objectives = [
        {"maximize": "accuracy", "task": "town"},
        {"minimize": "cost", "task": "judge"},
        {"maximize": "score", "tasks": {"judge": 3, "agent": 1}},
    ]
    changes = {"budget": {"candidates": 2}, "optimizer": {"name": "random"}}
    path = write(tasks=tasks, objectives=objectives, **changes)
    study = evomerge.run(path, out=path.parent / "run")
    trials = study.trials()
    assert set(trials["status"]) == {"complete"}
    sort = study.trial(3)
    with StudyStore.open(study.path, read_only=True) as store:
        asked: Items = store.meta("items")["search"]
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        known = store.responses(sort.recipe.digest, store.meta("settings_digest"), versions)
    assert list(asked) == ["agent", "town", "judge"]
    assert known["judge"].only(asked["judge"]).values["cost"] == tuple(asked["judge"])
    (_, cost, mixed), judge = sort.estimates, known["judge"].only(asked["judge"])
    assert cost.value == pytest.approx(sum(asked["judge"]) / len(asked["judge"]))
    agent = sum(known["agent"].values["score"]) / len(known["agent"].items)
    mean = sum(judge.values["score"]) / len(judge.items)
    assert mixed.value == pytest.approx(0.75 * mean + 0.25 * agent)
    assert mixed.standard_error >= 0.25 * 0.01
    assert (study.path / "report.html").exists()


def test_what_a_function_writes_into_the_weights_is_gone_for_the_next_candidate(write):
    """Also where it writes behind torch's back, and layers repeat those before."""
    judge = """
        def score(model, tokenizer, items):
            size = sum(float(p.float().abs().sum()) for p in model.parameters())
            SPOIL
            return [1 / (1 + size) for _ in items]
    """
    spoil = "[p.data.mul_(0) for p in model.parameters()]"
    space = {
        "operator": "linear",
        "layer_groups": 2,
        "experts": {"weight": {"choice": [0.25, 0.75]}},
    }
    scores = []
    for folder, code in (("plain", ""), ("spoiling", spoil)):
        path = write(
            judge.replace("SPOIL", code),
            folder=folder,
            tasks={"use": [USE[0] | {"metrics": ["score"]}]},
            objectives=[{"maximize": "score", "task": "judge"}],
            space=space,
            optimizer={"name": "random"},
            budget={"candidates": 12},
        )
        study = evomerge.run(path, out=path.parent / "run")
        with StudyStore.open(study.path, read_only=True) as store:
            scores.append([t.estimates[0].value for t in store.trials()])
    assert scores[0] == scores[1]
    assert len(set(scores[0])) > 6


def test_a_failing_function_or_command_fails_its_trial_and_the_run_goes_on(write):
    judge = """
        calls = 0
        def score(model, tokenizer, items):
            global calls
            calls += 1
            if calls == 4:
                raise ValueError("the judge is tired")
            return [1 / calls for _ in items]
    """
    agent = """
        import json, pathlib, sys
        seen = pathlib.Path("seen")
        seen.write_text(seen.read_text() + "x" if seen.exists() else "x")
        if len(seen.read_text()) == 4:
            sys.exit("the agent lost its way")
        print(json.dumps({"score": 1}))
    """
    use = [USE[0] | {"metrics": ["score"]}, USE[1]]
    path = write(judge, agent, tasks={"use": use})
    trials = evomerge.run(path, out=path.parent / "run").trials()
    assert list(trials["status"]).count("failed") == 2
    assert list(trials["failed stage"].dropna()) == ["evaluate", "evaluate"]
    reasons = trials["reason"].dropna().to_list()
    assert reasons[0] == "ValueError: the judge is tired (judge.py:7 in score, task judge)"
    assert reasons[1].startswith("task agent: the command ended with exit code 1")
    assert reasons[1].endswith("its stderr ends: the agent lost its way.")
    assert list(trials["status"])[-1] == "complete"


def test_a_run_in_which_no_source_can_be_scored_ends_with_the_reason(write):
    path = write("def score(m, t, items): raise RuntimeError('no judge today')")
    with pytest.raises(TrialError, match=r"no source model could be scored.*no judge today"):
        evomerge.run(path, out=path.parent / "run")


@pytest.mark.slow  # kills at other places are in tests/cli/test_kill_and_resume.py
def test_killed_while_a_command_runs_and_resumed_it_ends_as_if_undisturbed(write, tmp_path):
    fewer = {"budget": {"candidates": 2}}
    undisturbed = evomerge.run(write(folder="a", **fewer), out=tmp_path / "a" / "run")
    waiting = AGENT.replace("asked =", "import time; time.sleep(2)\nasked =")
    path = write(folder="b", **fewer)
    run_dir = tmp_path / "b" / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "evomerge", "run", str(path), "--out", str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
    )
    end = time.monotonic() + 120
    while process.poll() is None and not (run_dir / "study.db").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    (path.parent / "agent.py").write_text(waiting)  # slow enough to be killed in the middle
    while process.poll() is None and not list(tmp_path.glob("evomerge-model-*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path.parent / "agent.py").write_text(AGENT)
    assert content(evomerge.resume(run_dir)) == content(undisturbed)


def test_resume_finds_moved_code_and_refuses_changed_code(write, tmp_path):
    path = write(budget={"candidates": 1})
    evomerge.run(path, out=path.parent / "run")
    (tmp_path / "home").rename(tmp_path / "there")
    study = evomerge.resume(tmp_path / "there" / "run", add=1)
    assert len(study.trials()) == PLAIN + 2
    (tmp_path / "there" / "judge.py").write_text(JUDGE + "\n# version 2\n")
    with pytest.raises(StoreError, match=r"task 'judge' has changed.*code"):
        evomerge.resume(study.path, add=1)
    (tmp_path / "there" / "judge.py").unlink()
    with pytest.raises(ConfigError, match="unknown module 'judge'"):
        evomerge.resume(study.path, add=1)


def test_code_may_lie_in_another_folder(write, tmp_path):
    path = write(tasks={"code": "../elsewhere", "use": USE}, budget={"candidates": 1})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("judge.py", "agent.py"):
        (path.parent / name).rename(elsewhere / name)
    assert set(evomerge.run(path, out=path.parent / "run").trials()["status"]) == {"complete"}


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"score": "juge:score"}, "score", "unknown module 'juge'; did you mean 'judge'"),
        ({"score": "judge:socre"}, "score", "did you mean 'score'"),
        ({"score": "judge.score"}, "score", "must be 'module:function'"),
        ({"score": {"comand": "x"}}, "score.comand", "did you mean 'command'"),
        ({"score": {"command": []}}, "score.command", "needs at least the name of a program"),
        ({"score": {"command": "x '"}}, "score.command", "No closing quotation"),
        ({"score": {"command": "true", "timeout": 0}}, "score.timeout", "greater than 0"),
        ({"score": {"command": "no-such-program"}}, "score", "no program 'no-such-program'"),
        ({"items": 7}, "items", "greater than or equal to 8, found 7"),
        ({"items": {"search": 9, "test": 9}}, "items.validation", "this key is missing"),
        ({"metrics": ["score", "score"]}, None, "names of their own"),
        ({"metrics": ["points"]}, None, "unknown metric 'score'"),
        ({"num_fewshot": 2}, None, "num_fewshot only without 'score'"),
        ({"score": None}, None, "items and metrics only with 'score'"),
    ],
)
def test_mistakes_are_reported_with_file_line_and_key_before_a_run(write, changes, key, said):
    use = [{k: v for k, v in (USE[0] | changes).items() if v is not None}]
    objectives = [{"maximize": "score", "task": "judge"}]
    path = write(tasks={"use": use}, objectives=objectives)
    with pytest.raises(ConfigError) as caught:
        prepare_file(path)
    problem = next(p for p in caught.value.problems if said in p)
    line = int(re.match(rf"{re.escape(str(path))}:(\d+): ", problem).group(1))
    if key is not None:
        assert f": tasks.use.0.{key}: " in problem
        last = key.rpartition(".")[2]
        shown = "\n".join(path.read_text().splitlines()[line - 1 : line])
        assert last in shown or last == "validation"


def test_every_problem_of_several_tasks_is_named_at_once(write):
    use = [USE[0] | {"score": "judge:scor"}, USE[1] | {"score": {"command": "none-such"}}]
    optimizer = {"name": "nsga2", "poplation": 3}
    with pytest.raises(ConfigError) as caught:
        prepare_file(write(tasks={"use": use}, optimizer=optimizer))
    text = str(caught.value)
    assert all(said in text for said in ("'scor'", "'none-such'", "'poplation'"))


@pytest.mark.parametrize("fitness", [{}, {"estimator": "factor", "calibration": {"merges": 2}}])
def test_a_whole_score_keeps_its_error_on_every_rung_and_beside_every_estimator(write, fitness):
    judge = (
        JUDGE
        + """
def whole(model, tokenizer, split):
    return {"score": model.model.norm.weight.mean().item(), "standard_error": 0.02}
"""
    )
    path = write(
        judge,
        tasks={"use": [USE[0], {"name": "arena", "score": "judge:whole"}]},
        objectives=[{"maximize": "score", "task": name} for name in ("judge", "arena")],
        fitness={"items": {"search": [4, 20], "validation": 8, "test": 8}} | fitness,
    )
    study = evomerge.run(path, out=path.parent / "run")
    for number in study.trials()["number"]:
        _, arena = study.trial(number).estimates
        assert arena.standard_error == pytest.approx(0.02)


# ---- the page of the documentation


def written_from_the_page(folder: Path) -> Path:
    """The page's examples in a folder beside the embedded models."""
    (folder / "experiments").symlink_to(ROOT / "experiments")
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = [name for name, _ in found]
    assert names == [
        f"{folder}/{file}"
        for folder, code in (("my-judge", "judge.py"), ("my-agent", "agent.py"))
        for file in (code, "experiment.yaml")
    ]
    for name, text in found:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_documented_function_runs_as_it_stands(tmp_path):
    home = written_from_the_page(tmp_path)
    study = evomerge.run(home / "my-judge" / "experiment.yaml", out=tmp_path / "run")
    trials = study.trials().set_index("name")
    assert set(trials["status"]) == {"complete"}
    assert trials.loc["sort", "score on sorting"] == 1.0
    assert trials.loc["town", "score on sorting"] < 0.5


def test_the_documented_command_is_valid_and_scores_a_model(tmp_path):
    home = written_from_the_page(tmp_path) / "my-agent"
    prepare_file(home / "experiment.yaml")
    (use,) = yaml.safe_load((home / "experiment.yaml").read_text())["tasks"]["use"]
    command = load_command(use["score"]["command"], home, use["score"]["timeout"])
    task = command_task("sorting", command, CustomItems(use["items"]), 7)

    def export(place: Path) -> None:
        shutil.copytree(ZOO / "sort", place)

    scorer = CommandScorer({"sorting": task}, export, lambda: "sort")
    answered = scorer.responses({"sorting": task.bank.items("search")})["sorting"]
    assert set(answered.values["score"]) == {1.0}


@pytest.mark.slow
def test_the_documented_command_runs_as_it_stands(tmp_path):
    home = written_from_the_page(tmp_path)
    study = evomerge.run(home / "my-agent" / "experiment.yaml", out=tmp_path / "run")
    assert set(study.trials()["status"]) == {"complete"}


def test_the_documented_whole_score_is_read_as_it_says(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(def win_rate.*?)^```", page, re.MULTILINE | re.DOTALL)
    (use,) = re.findall(r"^```yaml\n(- name: arena.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "judge.py").write_text(code)
    path = write_experiment(
        tmp_path,
        tasks={"use": yaml.safe_load(use)},
        objectives=[{"maximize": "score", "task": "arena"}],
        budget={"candidates": 1},
    )
    study = evomerge.run(path, out=tmp_path / "run")
    estimates = {t.estimates[0] for t in map(study.trial, study.trials()["number"])}
    assert {round(e.value, 12) for e in estimates} == {0.62}
    assert {round(e.standard_error, 12) for e in estimates} == {0.03}
