"""Small experiments over the embedded models, for tests of the whole chain."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "experiments" / "quickstart" / "zoo"
TASKS = ROOT / "fitness" / "tasks"


def experiment(**changes: Any) -> dict[str, Any]:
    """A search of seconds: two experts, two tasks, ten items each; no name in sorted order."""
    return {
        "name": "small",
        "seed": 5,
        "models": {
            "base": str(ZOO / "base"),
            "experts": {"town": str(ZOO / "town"), "sort": str(ZOO / "sort")},
        },
        "space": "task_arithmetic",
        "tasks": {"include": [str(TASKS)], "use": ["town", "sort"]},
        "fitness": {"items": {"search": 10, "validation": 10, "test": 12}, "finalists": 3},
        "objectives": [
            {"maximize": "accuracy", "task": "sort"},
            {"maximize": "gold_logprob", "task": "town"},
        ],
        "optimizer": {"name": "nsga2", "population": 6},
        "budget": {"candidates": 8},
        "evaluation": {"dtype": "float32", "batch_size": 64},
    } | changes


def write_experiment(folder: Path, **changes: Any) -> Path:
    """The experiment as a file in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment(**changes), sort_keys=False))
    return path
