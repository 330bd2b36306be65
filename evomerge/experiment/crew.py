"""The workers of a study: in this process, or on Ray, each preparing the experiment itself."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.core.errors import WorkersError
from evomerge.experiment.build import check_sources_finite, make_evaluation, versions
from evomerge.experiment.load import Experiment
from evomerge.experiment.places import local_places, with_found
from evomerge.experiment.prepare import Prepared, prepare
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.yaml_lines import YamlFile
from evomerge.workers.contract import Evaluation, Workers
from evomerge.workers.inline import InlineWorkers
from evomerge.workers.ray_options import RayOptions

_WORKER = "worker"
"""Stands for the experiment file in messages of workers."""


def make_workers(prepared: Prepared, *, offline: bool = False) -> Workers:
    """The workers that an experiment asks for; those on Ray begin to start.

    Raises:
        CheckpointError: A source model holds NaN or infinities.
        ConfigError: Workers do not fit on this machine.
        WorkersError: There is no such cluster.
    """
    check_sources_finite(prepared)
    spec = prepared.spec.workers
    if not spec.on_ray:
        return InlineWorkers(lambda _: make_evaluation(prepared))
    # Loaded by name: without Ray workers nothing of Ray is loaded.
    ray_workers = importlib.import_module("evomerge.workers.ray_workers")
    options = RayOptions(
        count=spec.count,
        cpus=spec.cpus,
        gpus=spec.gpus,
        address=spec.address,
        env=spec.env,
        timeout=spec.timeout,
        memory=None if spec.memory is None else int(spec.memory * 2**30),
        copies=local_places(prepared.spec) if spec.sources == "copy" else (),
    )
    workers: Workers = ray_workers.RayWorkers(
        WorkerSetup.of(prepared, offline=offline), options
    )
    return workers


@dataclass(frozen=True)
class WorkerSetup:
    """All that a process somewhere else needs to score as the driver says; plain values."""

    spec: Mapping[str, Any]
    """The experiment, as JSON, with places made absolute."""

    fingerprints: Mapping[str, str]
    """Of the source models' weights."""

    banks: Mapping[str, str]
    """Version of every task's items."""

    versions: Mapping[str, str]
    """Of everything that can change a score, on the driver's machine."""

    offline: bool

    @classmethod
    def of(cls, prepared: Prepared, *, offline: bool) -> "WorkerSetup":
        """What the workers of a prepared experiment need."""
        return cls(
            prepared.spec.model_dump(mode="json"),
            {name: source.fingerprint for name, source in prepared.sources.items()},
            {name: task.bank.version for name, task in prepared.tasks.items()},
            versions(),
            offline,
        )

    def __call__(self, copies: Mapping[str, str]) -> Evaluation:
        """Prepare the experiment here and load its models.

        Raises:
            WorkersError: Something here is not what it is on the driver's machine.
            EvomergeError: Models or tasks cannot be opened.
        """
        self._check_versions()
        spec = with_found(ExperimentSpec.model_validate(self.spec), copies)
        file = YamlFile(_WORKER, {})
        prepared = prepare(Experiment(spec, Path(_WORKER), {"": file}), offline=self.offline)
        self._check_same(prepared)
        return make_evaluation(prepared)

    def _check_versions(self) -> None:
        here = versions()
        differing = [
            f"{package} {here.get(package, 'is missing')} here, {version} at the driver"
            for package, version in self.versions.items()
            if here.get(package) != version
        ]
        if differing:
            raise WorkersError(
                f"its scores would not be comparable: {'; '.join(differing)}. Install the same "
                "versions on every machine, e.g. with one container image."
            )

    def _check_same(self, prepared: Prepared) -> None:
        differing = [
            f"model {name!r} has other weights in {prepared.spec.models.all[name]}"
            for name, source in prepared.sources.items()
            if source.fingerprint != self.fingerprints[name]
        ]
        differing += [
            f"task {name!r} is another one"
            for name, task in prepared.tasks.items()
            if task.bank.version != self.banks[name]
        ]
        if differing:
            raise WorkersError(
                f"{'; '.join(differing)}: what lies here is not what the driver has. Share the "
                "folders under one path, or set 'workers.sources: copy'."
            )
