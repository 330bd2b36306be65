"""Settings of the whole suite."""

import sys
from copy import copy
from pathlib import Path

import pytest
from hypothesis import settings

from evomerge.core import plugins

# Properties are given the time they need, however busy the machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REGISTRIES = {
    "evomerge.merging.operators.registry": "OPERATORS",
    "evomerge.optimizers.registry": "OPTIMIZERS",
    "evomerge.spaces.registry": "SPACES",
}

_LONG = ("workers", "cli", "experiment", "tracking")


@pytest.fixture(autouse=True)
def no_plugin_of_another_test(monkeypatch):
    """What a test names is named for that test: every experiment of a process records it."""
    monkeypatch.setattr(plugins, "_named", {})
    for module, name in REGISTRIES.items():
        if module in sys.modules:
            registry = getattr(sys.modules[module], name)
            for part in ("_found", "_origins", "_seen"):
                monkeypatch.setattr(registry, part, copy(getattr(registry, part)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders of long tests first, so that at the end no process waits for another's."""
    root = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(root).parts[0] not in _LONG)
