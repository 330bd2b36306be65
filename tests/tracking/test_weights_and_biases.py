"""What a Weights & Biases run holds, read from its files, without its servers."""

import json
import struct

import pytest

pytest.importorskip("wandb", reason="needs the extra evomerge[wandb]")

from followed_searches import Killed, expected
from landscapes import LandscapeEvaluate
from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32 * 1024


@pytest.fixture(autouse=True)
def _no_settings_of_the_environment(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def records(file):
    """The records of a .wandb file: LevelDB's log format after a header of seven bytes."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if kind == 0:
            at += left
            continue
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def sessions(run_dir):
    folders = sorted((run_dir / "logs" / "wandb").glob("offline-run-*"))
    return [list(records(next(folder.glob("*.wandb")))) for folder in folders]


def rows(session):
    """The history of a session, one mapping a row."""
    return [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in session
        if r.WhichOneof("record_type") == "history"
    ]


def run_record(session):
    return next(r.run for r in session if r.WhichOneof("record_type") == "run")


def test_every_trials_values_are_in_the_run_under_its_number(followed):
    followed.loggers = {"wandb": {"project": "merges"}}
    trials = followed.session(12)
    (session,) = sessions(followed.run_dir)
    shown = {row["trial"]: row for row in rows(session) if "search/failures" in row}
    assert [*shown] == [t.number for t in trials]
    for number, metrics in expected(trials).items():
        assert {key: shown[number][key] for key in metrics} == pytest.approx(metrics)
    assert run_record(session).project == "merges"
    assert run_record(session).display_name == "landscape"


def test_parameters_state_and_front_are_with_the_run(followed):
    followed.loggers = {"wandb": {}}
    followed.session(3)
    (session,) = sessions(followed.run_dir)
    config = {i.key: json.loads(i.value_json) for i in run_record(session).config.update}
    assert config["optimizer"] == "nsga2"
    summary = {
        i.key: json.loads(i.value_json)
        for r in session
        if r.WhichOneof("record_type") == "summary"
        for i in r.summary.update
    }
    assert summary["state"] == "finished"
    (table,) = (followed.run_dir / "logs" / "wandb").rglob("front_*.table.json")
    assert json.loads(table.read_text())["data"] == [["9", "0.75"], ["12", "0.5"]]
    files = (followed.run_dir / "logs" / "wandb").rglob("files/*")
    assert {"front.csv", "report.html"} <= {file.name for file in files}


def test_a_resumed_study_goes_on_under_the_same_id_and_no_trial_is_there_twice(followed):
    followed.loggers = {"wandb": {}}

    def dies(job):
        if job.number == 14:
            raise Killed

    with pytest.raises(Killed):
        followed.session(12, LandscapeEvaluate(fails=dies))
    trials = followed.session(12)
    both = sessions(followed.run_dir)
    assert len(both) == 2
    assert {run_record(session).run_id for session in both} == {"5tudy1d"}
    steps = [
        row["trial"] for session in both for row in rows(session) if "search/failures" in row
    ]
    assert sorted(steps) == [t.number for t in trials]


def test_nothing_is_collected_besides_what_is_logged(followed):
    followed.loggers = {"wandb": {}}
    followed.session(3)
    (session,) = sessions(followed.run_dir)
    kinds = {r.WhichOneof("record_type") for r in session}
    assert not kinds & {"stats", "output", "output_raw"}
    names = {file.name for file in (followed.run_dir / "logs" / "wandb").rglob("files/*")}
    assert not names & {"requirements.txt", "wandb-metadata.json", "output.log"}
    run = run_record(session)
    assert (run.git.remote_url, run.git.commit) == ("", "")


def test_online_without_an_api_key_the_logger_is_switched_off_without_a_question(
    followed, caplog
):
    followed.loggers = {"wandb": {"mode": "online"}}
    trials = followed.session(3)
    assert all(t.status == "complete" for t in trials)
    (said,) = [r.getMessage() for r in caplog.records if r.name.startswith("evomerge")]
    assert "the wandb logger is switched off" in said
    assert "WANDB_API_KEY" in said


def test_offline_wins_over_the_experiments_mode(followed):
    followed.loggers, followed.offline = {"wandb": {"mode": "online"}}, True
    followed.session(3)
    assert len(sessions(followed.run_dir)) == 1


def test_nothing_is_printed(followed, capfd):
    followed.loggers = {"wandb": {}}
    followed.session(3)
    assert capfd.readouterr() == ("", "")
