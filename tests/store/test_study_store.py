"""The study store: durable, single writer, values out."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from landscapes import parameter_space

from evomerge.core.errors import StoreError
from evomerge.core.objectives import Estimate
from evomerge.core.outcomes import Failed
from evomerge.core.responses import ItemResponses
from evomerge.store.run_lock import RunLock, is_held
from evomerge.store.study_store import Answers, Event, StudyStore
from evomerge.store.trials import Trial

SPACE = parameter_space()
GENOME = {gene.name: gene.from_unit(0.25) for gene in SPACE.genes}


def a_trial(number: int, kind: str = "candidate") -> Trial:
    genome = GENOME if kind == "candidate" else None
    return Trial(
        number, kind, f"{kind} {number}", SPACE.decode(GENOME), "open", genome, asked_at=5.5
    )


def answers(items: tuple[int, ...], value: float = 1.0, settings: str = "s") -> Answers:
    values = {"accuracy": tuple(value for _ in items)}
    return Answers("r", settings, {"sum": "v1"}, {"sum": ItemResponses(items, values)})


def complete(trial: Trial) -> Trial:
    return replace(
        trial,
        status="complete",
        estimates=(Estimate(0.1 + 0.2, 1e-17),),
        timings={"merge": 0.25},
        item_evaluations=3,
        finished_at=9.25,
    )


@pytest.fixture
def store(tmp_path: Path):
    with StudyStore.create(tmp_path, {"name": "n", "seed": 3}) as made:
        yield made


def test_a_reopened_study_gives_back_exactly_what_was_recorded(store, tmp_path):
    trials = [complete(a_trial(1, "source")), complete(a_trial(2))]
    failed = replace(a_trial(3), status="failed", failure=Failed("merge", "not finite"))
    store.add_trials([a_trial(1, "source")])
    store.add_trials([a_trial(2), a_trial(3)], asked=4)
    for trial in [*trials, failed]:
        store.finish_trial(trial)
    with StudyStore.open(tmp_path, read_only=True) as again:
        assert again.trials() == [*trials, failed]
        assert again.trial(2) == trials[1]
        assert again.meta("seed") == 3
        assert again.meta("absent") is None


def test_events_keep_the_order_of_asks_and_tells(store):
    store.add_trials([a_trial(1), a_trial(2)], asked=3)
    store.finish_trial(complete(a_trial(2)))
    store.add_trials([], asked=1)
    store.finish_trial(complete(a_trial(1)))
    assert store.events() == [
        Event("ask", 3, (1, 2)),
        Event("tell", 1, (2,)),
        Event("ask", 1, ()),
        Event("tell", 1, (1,)),
    ]


def test_sources_and_baselines_leave_no_events(store):
    store.add_trials([a_trial(1, "source")])
    store.finish_trial(complete(a_trial(1, "source")))
    assert store.events() == []


def test_a_finished_trial_cannot_be_finished_again(store):
    store.add_trials([a_trial(1)], asked=1)
    store.finish_trial(complete(a_trial(1)))
    with pytest.raises(StoreError, match="trial 1 is not open"):
        store.finish_trial(complete(a_trial(1)), answers((1,)))
    assert store.count_responses() == 0
    assert len(store.events()) == 2


def test_responses_of_several_rounds_are_joined_and_each_item_kept_once(store):
    store.add_responses(answers((4, 2), 1.0))
    store.add_responses(answers((2, 7), 0.0))
    known = store.responses("r", "s", {"sum": "v1"})["sum"]
    assert dict(zip(known.items, known.values["accuracy"], strict=True)) == {4: 1, 2: 1, 7: 0}


@pytest.mark.parametrize(
    ("recipe", "settings", "version"), [("x", "s", "v1"), ("r", "x", "v1"), ("r", "s", "v2")]
)
def test_responses_of_another_recipe_setting_or_task_version_do_not_count(
    store, recipe, settings, version
):
    store.add_responses(answers((1, 2)))
    assert store.responses(recipe, settings, {"sum": version}) == {}


def test_a_trial_and_its_responses_are_recorded_together_or_not_at_all(store):
    store.add_trials([a_trial(1)], asked=1)
    unwritable = {"sum": ItemResponses((1,), {"accuracy": (float("nan"),)})}
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.finish_trial(complete(a_trial(1)), Answers("r", "s", {"sum": "v1"}, unwritable))
    assert store.trial(1).status == "open"
    assert len(store.events()) == 1


def test_what_was_recorded_survives_kill_9_right_after(tmp_path):
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_study_store import *
store = StudyStore.create(Path({str(tmp_path)!r}), {{}})
store.add_trials([a_trial(1)], asked=1)
store.finish_trial(complete(a_trial(1)), answers((1, 2, 3)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    with StudyStore.open(tmp_path) as store:
        assert store.trial(1) == complete(a_trial(1))
        assert store.count_responses() == 3


def test_a_reader_sees_the_study_while_the_writer_is_at_work(store, tmp_path):
    with StudyStore.open(tmp_path, read_only=True) as reader:
        before = reader.trials()
        store.add_trials([a_trial(1)], asked=1)
        assert before == []
        assert [trial.number for trial in reader.trials()] == [1]


def test_a_reader_cannot_write(store, tmp_path):
    with (
        StudyStore.open(tmp_path, read_only=True) as reader,
        pytest.raises(StoreError, match="readonly"),
    ):
        reader.set_meta("state", "x")


def test_what_is_fixed_keeps_the_order_of_its_keys(tmp_path):
    with StudyStore.create(tmp_path, {"experts": {"town": 1, "sort": 2}}) as store:
        store.set_meta("budget", {"minutes": 1, "candidates": 2})
        assert list(store.meta("experts")) == ["town", "sort"]
        assert list(store.meta("budget")) == ["minutes", "candidates"]


def test_a_study_left_half_made_by_a_kill_is_no_study(tmp_path):
    (tmp_path / ".study.db.new").write_bytes(b"half")
    with pytest.raises(StoreError, match=r"no study\.db here"):
        StudyStore.open(tmp_path)
    with StudyStore.create(tmp_path, {"name": "whole"}):
        pass
    with StudyStore.open(tmp_path) as store:
        assert store.meta("name") == "whole"


def test_a_second_study_in_one_folder_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match="evomerge resume"):
        StudyStore.create(tmp_path, {})


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"no study\.db here"):
        StudyStore.open(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "study.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        StudyStore.open(tmp_path)


def test_a_study_of_another_format_is_refused(store, tmp_path):
    store.close()
    with sqlite3.connect(tmp_path / "study.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="format 99"):
        StudyStore.open(tmp_path)


def test_an_unknown_trial_number_names_the_known_ones(store):
    store.add_trials([a_trial(1)], asked=1)
    with pytest.raises(StoreError, match="numbered 1 to 1"):
        store.trial(7)


def test_time_worked_adds_up_over_sessions(store):
    store.sessions.start({"python": "3"})
    store.sessions.end("done")
    store.sessions.start({"python": "3"})
    store.sessions.end("interrupted")
    assert 0 <= store.sessions.seconds_worked() < 5
    assert [s.reason for s in store.sessions.all()] == ["done", "interrupted"]


def test_a_second_process_is_refused_while_the_first_works(tmp_path):
    with RunLock(tmp_path):
        assert is_held(tmp_path)
        code = (
            "from pathlib import Path\nfrom evomerge.store.run_lock import RunLock\n"
            f"RunLock(Path({str(tmp_path)!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "another process is working on this run" in done.stderr
        assert str(os.getpid()) in done.stderr
    assert not is_held(tmp_path)
    with RunLock(tmp_path):
        pass
