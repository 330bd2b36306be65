"""What a study on disk holds, in a form that two studies can be compared by."""

from pathlib import Path
from typing import Any

from evomerge.store.study_store import StudyStore


def content(run_dir: Path) -> list[Any]:
    """Everything that a search decides, without times."""
    with StudyStore.open(run_dir, read_only=True) as store:
        trials = store.trials()
        versions = {task: bank["version"] for task, bank in store.meta("banks").items()}
        settings = store.meta("settings_digest")
        return [
            [
                (t.number, t.kind, t.name, t.genome, t.recipe.digest, t.status, t.estimates)
                for t in trials
            ],
            [store.responses(t.recipe.digest, settings, versions) for t in trials],
            store.meta("finalists"),
            store.meta("state"),
        ]
