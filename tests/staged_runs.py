"""A small chain of searches over the embedded models, for tests of the whole."""

from pathlib import Path
from typing import Any

from quickstart import ZOO, write_experiment

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
