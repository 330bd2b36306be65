"""MLflow's own client finds every trial of a study, in a folder store."""

import shutil

import pytest

pytest.importorskip("mlflow", reason="needs the extra evomerge[mlflow]")

from followed_searches import Killed, expected
from landscapes import LandscapeEvaluate
from mlflow.tracking import MlflowClient

from evomerge.tracking.mlflow_run import MlflowLogger  # sets how MLflow is used, so first


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def client(run_dir):
    return MlflowClient(tracking_uri=(run_dir / "logs" / "mlflow").as_uri())


def runs(client, experiment="evomerge"):
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def history(client, run, metric):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, metric)]


def test_every_trials_values_are_read_back_under_its_number(followed):
    followed.loggers = {"mlflow": {}}
    trials = followed.session(12)
    store = client(followed.run_dir)
    (run,) = runs(store)
    for name in ("one", "two"):
        shown = history(store, run, f"objectives/accuracy {name}")
        values = {n: m[f"objectives/accuracy({name})"] for n, m in expected(trials).items()}
        assert dict(shown) == pytest.approx(values)
        assert [step for step, _ in shown] == [t.number for t in trials]
    assert len(history(store, run, "best/accuracy one")) == len(trials)


def test_parameters_status_and_files_are_with_the_run(followed):
    followed.loggers = {"mlflow": {"experiment": "merges"}}
    followed.session(3)
    store = client(followed.run_dir)
    (run,) = runs(store, "merges")
    assert run.info.run_name == "landscape"
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "nsga2"
    files = [f.path for f in store.list_artifacts(run.info.run_id)]
    assert files == ["front.csv", "report.html"]


def test_a_resumed_study_goes_on_in_the_same_run_and_no_trial_is_there_twice(followed):
    followed.loggers = {"mlflow": {}}

    def dies(job):
        if job.number == 14:
            raise Killed

    with pytest.raises(Killed):
        followed.session(12, LandscapeEvaluate(fails=dies))
    store = client(followed.run_dir)
    assert runs(store)[0].info.status == "KILLED"
    trials = followed.session(12)
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    steps = [step for step, _ in history(store, run, "search/item evaluations")]
    assert steps == [t.number for t in trials]


def test_a_moved_run_directory_goes_on_in_its_own_run(followed, tmp_path, caplog):
    followed.loggers = {"mlflow": {}}
    followed.session(3)
    shutil.move(followed.run_dir, tmp_path / "moved")
    followed.run_dir = tmp_path / "moved"
    trials = followed.session(6)
    (run,) = runs(client(followed.run_dir))
    steps = history(client(followed.run_dir), run, "search/item evaluations")
    assert len(steps) == len(trials)
    assert not (tmp_path / "run").exists()
    assert not caplog.records


def test_offline_a_server_is_not_asked(followed, caplog):
    followed.loggers, followed.offline = {"mlflow": {"uri": "http://127.0.0.1:9"}}, True
    trials = followed.session(3)
    (run,) = runs(client(followed.run_dir))
    assert len(history(client(followed.run_dir), run, "search/failures")) == len(trials)
    assert not caplog.records


def test_the_environments_store_is_used_where_the_experiment_names_none(
    followed, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    followed.loggers = {"mlflow": {}}
    followed.session(3)
    assert (tmp_path / "elsewhere").is_dir()
    assert not (followed.run_dir / "logs" / "mlflow").exists()


def test_a_server_that_is_not_there_switches_the_logger_off(followed, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    followed.made = {"mlflow": MlflowLogger({"uri": "http://127.0.0.1:9"}, offline=False)}
    trials = followed.session(3)
    assert all(t.status == "complete" for t in trials)
    assert [r.name for r in caplog.records] == ["evomerge.tracking.logger_thread"]
