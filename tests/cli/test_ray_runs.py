"""The real command line with workers on Ray: whatever happens, the study is the same."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from command_line import DEADLINE, command, finished_trials, rows, wait_for_trials
from quickstart import ROOT, ZOO, write_experiment

import evomerge
from evomerge.store.study_store import StudyStore

CANDIDATES = 30
TESTS = Path(__file__).resolve().parent.parent

JUDGE = """
import os, time
from pathlib import Path

TICKETS = Path(__file__).parent / "tickets"
GLUTTON = Path(__file__).parent / "glutton"

def ticket():
    number = 0
    while True:
        try:
            (TICKETS / str(number)).touch(exist_ok=False)
            return number
        except FileExistsError:
            number += 1

def score(model, tokenizer, items):
    turn = ticket()
    if turn == 8:
        raise ValueError("no opinion")
    if turn == 10:
        time.sleep(10_000)
    weight = str(model.model.norm.weight.float().mean().item())
    if turn == 14:
        GLUTTON.write_text(weight)
    if GLUTTON.exists() and GLUTTON.read_text() == weight:
        eaten = []
        while True:
            eaten.append(b"x" * 2**25)
            time.sleep(0.01)
    value = float("nan") if turn == 12 else model.model.norm.weight.float().mean().item()
    return {item: value for item in items}
"""


def content(run_dir: Path) -> list:
    """All that a study has found, without times and without the order of arrival."""
    with StudyStore.open(run_dir, read_only=True) as store:
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        trials = [
            (
                t.number,
                t.kind,
                t.name,
                t.genome,
                t.recipe.digest,
                t.status,
                t.estimates,
                t.item_evaluations,
                store.responses(t.recipe.digest, store.meta("settings_digest"), versions),
            )
            for t in store.trials()
        ]
        return [trials, store.meta("finalists"), store.meta("unscored"), store.meta("state")]


def experiment(folder: Path, **changes) -> Path:
    return write_experiment(
        folder,
        **{
            "budget": {"candidates": CANDIDATES},
            "optimizer": {"name": "nsga2", "population": 6, "ahead": 2},
            "workers": {"count": 2},
        }
        | changes,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same search with the one worker of this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = experiment(folder, workers={"count": 1})
    return content(evomerge.run(file, out=folder / "run").path)


AGENTS = ("DashboardAgent", "RuntimeEnvAgent", "agent.py", "runtime_env/agent")


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def actors(driver: psutil.Process) -> list[psutil.Process]:
    return [p for p in driver.children(recursive=True) if "_WorkerActor" in name_of(p)]


class Storm(threading.Thread):
    """Kills random workers of a run, some seconds apart, until it ends or so many are dead."""

    def __init__(self, process, run_dir: Path, most: int, apart: tuple[float, float]) -> None:
        super().__init__()
        self._process, self._run_dir, self._most, self._apart = process, run_dir, most, apart
        self.kills = 0

    def run(self) -> None:
        rng = random.Random(4)
        wait_for_trials(self._process, self._run_dir, 2)
        while self._process.poll() is None and self.kills < self._most:
            with suppress(psutil.Error):  # of a process that is ending already
                alive = actors(psutil.Process(self._process.pid))
                if alive:
                    rng.choice(alive).send_signal(signal.SIGKILL)
                    self.kills += 1
            time.sleep(rng.uniform(*self._apart))


@pytest.mark.slow
def test_a_storm_of_kills_changes_nothing_that_the_search_finds(tmp_path, undisturbed):
    run_dir = tmp_path / "run"
    process = command("run", str(experiment(tmp_path)), "--out", str(run_dir), cwd=tmp_path)
    storm = Storm(process, run_dir, 6, (0.2, 3.0))
    storm.start()
    _, errors = process.communicate(timeout=DEADLINE)
    storm.join()
    assert process.returncode == 0, errors
    assert storm.kills >= 3
    assert content(run_dir) == undisturbed
    incidents = rows(run_dir, "SELECT what FROM incidents")
    assert sum("died" in what for (what,) in incidents) >= storm.kills - 1
    assert "died" in errors


@pytest.mark.slow
def test_a_storm_of_kills_changes_nothing_of_the_whole_quickstart(tmp_path):
    file = str(ROOT / "experiments" / "quickstart" / "experiment.yaml")
    found = []
    for number in (1, 2):
        run_dir = tmp_path / str(number)
        arguments = ["run", file, "--out", str(run_dir), "-o", f"workers.count={number}"]
        process = command(*arguments, cwd=tmp_path)
        storm = Storm(process, run_dir, 20, (4.0, 8.0))
        storm.start()
        _, errors = process.communicate(timeout=4 * DEADLINE)
        storm.join()
        assert process.returncode == 0, errors
        assert storm.kills >= 8 * (number - 1)
        found.append(content(run_dir))
    assert found[0] == found[1]


def test_a_killed_driver_leaves_no_processes_and_another_number_of_workers_goes_on(
    tmp_path, undisturbed
):
    run_dir = tmp_path / "run"
    first = command("run", str(experiment(tmp_path)), "--out", str(run_dir), cwd=tmp_path)
    wait_for_trials(first, run_dir, 12)
    left = psutil.Process(first.pid).children(recursive=True)
    assert len(left) >= 4  # Ray's own processes and two workers
    working = [p for p in left if not any(agent in name_of(p) for agent in AGENTS)]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert 12 <= finished_trials(run_dir) < CANDIDATES + 6
    # Ray's own agents need a minute to notice; what computes is gone at once.
    assert len(working) >= 3
    assert psutil.wait_procs(working, timeout=30)[1] == []

    arguments = ["resume", str(run_dir), "-o", "workers.count=1", "-o", "workers.kind=ray"]
    second = command(*arguments, cwd=tmp_path)
    _, errors = second.communicate(timeout=DEADLINE)
    assert second.returncode == 0, errors
    assert content(run_dir) == undisturbed
    sessions = rows(run_dir, "SELECT reason FROM sessions ORDER BY id")
    assert [reason is None for (reason,) in sessions] == [True, False]


@pytest.mark.slow  # each fault alone is in tests/workers
def test_candidates_that_raise_hang_eat_memory_or_answer_nan_fail_alone(tmp_path):
    (tmp_path / "judge.py").write_text(JUDGE)
    (tmp_path / "tickets").mkdir()
    file = experiment(
        tmp_path,
        models={"experts": {"town": str(ZOO / "town"), "sort": str(ZOO / "sort")}},
        space={"operator": "linear", "experts": {"weight": [0, 1]}},
        tasks={"use": [{"name": "judge", "score": "judge:score", "items": 30}]},
        fitness={"items": {"search": 4, "validation": 4, "test": 4}, "finalists": 2},
        objectives=[{"maximize": "score", "task": "judge"}],
        budget={"candidates": 14},
        workers={"count": 2, "timeout": 8, "memory": 1.5},
    )
    run_dir = tmp_path / "run"
    process = command("run", str(file), "--out", str(run_dir), cwd=tmp_path)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    failed = rows(run_dir, "SELECT reason FROM trials WHERE status = 'failed'")
    failed += [(reason,) for _, _, reason in _unscored(run_dir)]
    for part in (
        "no opinion",
        "took longer than the 8 s of workers.timeout",
        "more than the 1.5 GiB of workers.memory",
        "nan",
    ):
        assert sum(part in reason for (reason,) in failed) == 1, failed
    assert len(failed) == 4


def _unscored(run_dir: Path) -> list:
    with StudyStore.open(run_dir, read_only=True) as store:
        return store.meta("unscored")


@pytest.mark.slow  # merges on workers are scored by the other tests
def test_stacked_layers_on_workers_are_scored_as_in_one_process(tmp_path):
    """Paths of several depths, whose beginnings each worker keeps for itself."""
    merge = {"operator": "ties", "experts": {"weight": [0, 1], "density": 0.3}}
    path = {"kind": "data_flow", "order": "permuted", "scales": "slots", "most_layers": 8}
    changes = {
        "space": {"kind": "joint", "merge": merge, "path": path},
        "budget": {"candidates": 10},
        "optimizer": {"name": "nsga2", "population": 5, "ahead": 2},
    }
    file = experiment(tmp_path / "one", workers={"count": 1}, **changes)
    alone = content(evomerge.run(file, out=tmp_path / "alone").path)
    run_dir = tmp_path / "run"
    process = command(
        "run", str(experiment(tmp_path, **changes)), "--out", str(run_dir), cwd=tmp_path
    )
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    assert content(run_dir) == alone
    assert len(rows(run_dir, "SELECT name FROM workers")) == 2


def test_sigterm_stops_workers_and_run_and_says_how_to_go_on(tmp_path):
    run_dir = tmp_path / "run"
    file = experiment(tmp_path, budget={"candidates": 500})
    process = command("run", str(file), "--out", str(run_dir), cwd=tmp_path)
    wait_for_trials(process, run_dir, 8)
    left = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert f"evomerge resume {run_dir}" in errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(left, timeout=30)[1] == []
    assert (run_dir / "report.html").exists()


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=2)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(cluster.head_node, allow_graceful=False)
print("gone", flush=True)
sys.stdin.readline()
"""


SLOW_JUDGE = """
import os, time

def score(model, tokenizer, items):
    time.sleep(float(os.environ.get("SLOW", 0)))
    return {item: model.model.norm.weight.float().mean().item() for item in items}
"""


@pytest.mark.slow
def test_a_cluster_whose_head_has_gone_ends_the_run_which_then_goes_on_elsewhere(tmp_path):
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        address = cluster.stdout.readline().strip()
        run_dir = tmp_path / "run"
        (tmp_path / "judge.py").write_text(SLOW_JUDGE)
        file = experiment(
            tmp_path,
            tasks={"use": [{"name": "judge", "score": "judge:score", "items": 30}]},
            fitness={"items": {"search": 4, "validation": 4, "test": 4}, "finalists": 2},
            objectives=[{"maximize": "score", "task": "judge"}],
            workers={"count": 2, "address": address, "env": {"SLOW": "3"}},
        )
        process = command("run", str(file), "--out", str(run_dir), cwd=tmp_path)
        wait_for_trials(process, run_dir, 4)
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline().strip() == "gone"
        _, errors = process.communicate(timeout=DEADLINE)
    finally:
        cluster.kill()
        cluster.communicate()
    assert process.returncode == 7, errors
    assert f"the head of the Ray cluster at {address} has not answered" in errors
    assert f"evomerge resume {run_dir}" in errors
    assert "Traceback" not in errors
    before = rows(run_dir, "SELECT number, estimates FROM trials WHERE status != 'open'")
    assert 4 <= len(before) < CANDIDATES
    resumed = command("resume", str(run_dir), "-o", "workers={count: 1}", cwd=tmp_path)
    _, errors = resumed.communicate(timeout=DEADLINE)
    assert resumed.returncode == 0, errors
    after = rows(run_dir, "SELECT number, estimates FROM trials WHERE status != 'open'")
    assert set(before) <= set(after)
    assert len(after) == CANDIDATES + 6
