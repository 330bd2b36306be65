"""What a finished stage hands on: its best models, exported as folders beside its study."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evomerge.core.errors import StoreError
from evomerge.experiment.export import MergeOptions, export_trial
from evomerge.merging.checkpoint import open_source
from evomerge.report.ranking import ranked
from evomerge.report.study_facts import read_facts
from evomerge.store.chain_record import KeptModel, StageRecord, read_kept, write_kept
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial

KEPT_FOLDER = "kept"


@dataclass(frozen=True)
class Handing:
    """How models are handed on."""

    models: Mapping[str, str]
    """Where the stage's own source models are now, by name."""

    offline: bool = False


def keep_models(stage: StageRecord, stage_dir: Path, how: Handing) -> tuple[KeptModel, ...]:
    """Export the best models of a finished stage, and note them once all are whole.

    A source model that is among the best is handed on as it is. Where fewer models were scored
    than are to be kept, they are handed on again from the first. What an earlier attempt has
    left is done anew.

    Args:
        stage: What is to be kept.
        stage_dir: Its run directory.
        how: See there.

    Raises:
        StoreError: The study cannot be read, or the disk is full; nothing half made counts.
        CheckpointError: A source model has changed or moved.
    """
    known = read_kept(stage_dir)
    if known is not None:
        return known
    with StudyStore.open(stage_dir, read_only=True) as store:
        best = ranked(store, read_facts(store))
        fingerprints = {
            name: str(source["fingerprint"]) for name, source in store.meta("sources").items()
        }
    if not best:
        raise StoreError(f"{stage_dir}: no model has been validated; there is none to keep.")
    folder = stage_dir / KEPT_FOLDER
    if folder.exists():
        shutil.rmtree(folder)
    kept = []
    for rank in range(1, stage.keep + 1):
        trial = best[(rank - 1) % len(best)]
        if trial.kind == "source":
            made = KeptModel(
                rank, trial.number, trial.name, trial.kind, None, fingerprints[trial.name]
            )
        else:
            made = _exported(rank, trial, stage_dir, how)
        kept.append(made)
    write_kept(stage_dir, kept)
    return tuple(kept)


def _exported(rank: int, trial: Trial, stage_dir: Path, how: Handing) -> KeptModel:
    place = f"{KEPT_FOLDER}/{rank}"
    options = MergeOptions(how.models, offline=how.offline)
    export_trial(stage_dir, trial.number, stage_dir / place, options)
    fingerprint = open_source(str(stage_dir / place), offline=True).fingerprint
    return KeptModel(rank, trial.number, trial.name, trial.kind, place, fingerprint)
