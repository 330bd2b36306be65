"""Evolutionary and black-box search for model-merging recipes.

``run`` an experiment file, ``resume`` a run directory, look at a ``Study``. What they need is
imported at their first use, so that ``import evomerge`` stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.experiment.api import resume, run
    from evomerge.experiment.study import Study
    from evomerge.experiment.study_chain import StudyChain

__version__ = "0.1.0"

__all__ = ["Study", "StudyChain", "__version__", "resume", "run"]

_PLACES = {
    "Study": "evomerge.experiment.study",
    "StudyChain": "evomerge.experiment.study_chain",
    "resume": "evomerge.experiment.api",
    "run": "evomerge.experiment.api",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a public name, typed above
    """Import a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module 'evomerge' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
