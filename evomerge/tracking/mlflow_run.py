"""MLflow: a run on a tracking server, or in a folder of the run directory."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Before the import: no usage statistics, no handlers of its own on our standard error, and
# the plain folder store, which newer versions still have but must be asked for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from evomerge.tracking.contract import Ending, Logger, RunFacts

FOLDER = "mlflow"
STUDY_TAG = "evomerge.study"
"""By which a resumed study finds its run."""

_REMOTE = ("http", "https", "databricks", "uc")
_LONGEST = 500
"""Characters of a parameter that every store takes."""


class MlflowLogger(Logger):
    """Logs to one MLflow run over all sessions of a study.

    The place is ``uri``, else ``MLFLOW_TRACKING_URI``, else ``RUN_DIR/logs/mlflow``.
    """

    def __init__(self, options: Mapping[str, Any], *, offline: bool) -> None:
        uri = options.get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
        remote = uri is not None and re.split(r"[:+]", uri)[0] in _REMOTE
        self._uri = None if offline and remote else uri
        self._experiment: str = options.get("experiment", "evomerge")
        self._client: MlflowClient | None = None
        self._run = ""
        self._keeps_files = True

    def begin(self, facts: RunFacts) -> None:
        """Find the study's run, or create it.

        Raises:
            mlflow.exceptions.MlflowException: The store cannot be reached or used.
        """
        root = (facts.logs / FOLDER).resolve()
        client = self._client = MlflowClient(tracking_uri=self._uri or root.as_uri())
        known = client.get_experiment_by_name(self._experiment)
        experiment = (
            known.experiment_id if known else client.create_experiment(self._experiment)
        )
        found = client.search_runs([experiment], f"tags.`{STUDY_TAG}` = '{facts.id}'")
        if found:
            run = found[0]
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {STUDY_TAG: facts.id}
            run = client.create_run(experiment, run_name=facts.name, tags=tags)
        self._run = run.info.run_id
        # Its folder store notes absolute paths: in a run directory that was moved they lead
        # to the old place, or nowhere.
        self._keeps_files = bool(self._uri) or _within(run.info.artifact_uri, root)
        fresh = facts.parameters.keys() - run.data.params.keys()  # may not be written twice
        params = [
            Param(k, str(v)[:_LONGEST]) for k, v in facts.parameters.items() if k in fresh
        ]
        client.log_batch(self._run, params=params)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One batch of metrics."""
        now = int(time.time() * 1000)
        values = [Metric(_allowed(key), v, now, step) for key, v in metrics.items()]
        if self._client is not None:
            self._client.log_batch(self._run, metrics=values)

    def end(self, ending: Ending) -> None:
        """The files as artifacts, and the run's status."""
        if self._client is None:
            return
        for file in ending.files if self._keeps_files else ():
            self._client.log_artifact(self._run, str(file))
        status = "FINISHED" if ending.state == "finished" else "KILLED"
        self._client.set_tag(self._run, "evomerge.state", ending.state)
        self._client.set_terminated(self._run, status)


def _allowed(key: str) -> str:
    """A name without what MLflow refuses: ``accuracy(sum)`` becomes ``accuracy sum``."""
    return " ".join(re.sub(r"[^\w\-.:/]", " ", key, flags=re.ASCII).split())


def _within(artifacts: str, root: Path) -> bool:
    return artifacts.removeprefix("file://").startswith(str(root))
