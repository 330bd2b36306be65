"""A small chain of searches over the embedded models, for tests of the whole."""

from pathlib import Path
from typing import Any

from quickstart import ZOO, write_experiment

from evomerge.store.study_store import StudyStore

STAGES = [
    {"name": "ps", "optimizer": {"name": "random"}, "budget": {"candidates": 5}},
    {
        "name": "dfs",
        "space": {"kind": "layer_moves", "spare": 0},
        "models": {"base": None, "experts": {"ps": "stage:ps", "town": str(ZOO / "town")}},
        "optimizer": {"name": "nsga2", "population": 4},
        "budget": {"candidates": 5},
    },
]


def write_chain(folder: Path, **changes: Any) -> Path:
    """Task arithmetic, then layers of its best model and of a source; seconds."""
    given = {
        "fitness": {"items": {"search": 8, "validation": 10, "test": 12}, "finalists": 3},
        "objectives": [{"maximize": "gold_logprob", "tasks": ["sort", "town"]}],
        "stages": STAGES,
    }
    return write_experiment(folder, **given | changes)


def content(run_dir: Path) -> list[Any]:
    """All that a stage's study says, less times."""
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
