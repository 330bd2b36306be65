"""Settings of the whole suite."""

from pathlib import Path

import pytest
from hypothesis import settings

from evomerge.core import plugins

# Properties are given the time they need, however busy the machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_LONG = ("workers", "cli", "experiment", "tracking")


@pytest.fixture(autouse=True)
def no_plugin_of_another_test(monkeypatch):
    """What a test names is named for that test: every experiment of a process records it."""
    monkeypatch.setattr(plugins, "_named", {})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders of long tests first, so that at the end no process waits for another's."""
    root = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(root).parts[0] not in _LONG)
