"""Small frozen landscapes in files of their own, as ``evaluate_grid.py`` would write them."""

import itertools
from pathlib import Path

import numpy as np

EXPERTS = ("left", "right")
TASKS = ("one", "two")
SIZES = {"search": 40, "validation": 30, "test": 40}


def skills(weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each expert helps its own task up to a weight of one half, and disturbs the other."""
    own, other = weights[:, 0], weights[:, 1]
    return {
        "one": np.exp(-2 * (own - 0.5) ** 2 - 0.4 * other**2),
        "two": np.exp(-2 * (other - 0.5) ** 2 - 0.4 * own**2),
    }


def arrays(levels: int = 5, highest: float = 1.0) -> dict[str, np.ndarray]:
    """What the file of a landscape holds; every item has a threshold of its own."""
    line = np.linspace(0.0, highest, levels)
    weights = np.array(list(itertools.product(line, repeat=len(EXPERTS))))
    content: dict[str, np.ndarray] = {
        "experts": np.array(EXPERTS),
        "weights": weights.astype(np.float32),
        "tasks": np.array(TASKS),
    }
    rng = np.random.default_rng(5)
    for task, skill in skills(weights).items():
        count = sum(SIZES.values())
        bits = skill[:, None] > rng.random(count)
        content[f"{task}/responses"] = np.packbits(bits, axis=1)
        content[f"{task}/items"] = np.array(count)
        first = 0
        for split, size in SIZES.items():
            content[f"{task}/{split}"] = np.arange(first, first + size, dtype=np.int32)
            first += size
    return content


def write_landscape(path: Path, **changes: np.ndarray | None) -> Path:
    """A landscape file; ``None`` leaves an array out, ``__`` in a name stands for ``/``."""
    content = arrays()
    for key, value in changes.items():
        name = key.replace("__", "/")
        content.pop(name, None)
        if value is not None:
            content[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)
    return path
