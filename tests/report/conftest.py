"""The fixture that writes small real studies."""

from collections.abc import Callable
from pathlib import Path

import pytest
from report.study_builder import Builder, Plan

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Writes a study by a plan's fields and gives its run directory."""

    def write(**fields: object) -> Path:
        return Builder(Plan(**fields)).write(tmp_path / "runs" / "study")

    return write
