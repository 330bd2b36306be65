"""Fixtures: small real studies, and a real browser."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import CHROMIUM, DRIVER
from report.study_builder import Builder, Plan

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Writes a study by a plan's fields and gives its run directory."""

    def write(**fields: object) -> Path:
        return Builder(Plan(**fields)).write(tmp_path / "runs" / "study")

    return write


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    profile = tmp_path_factory.mktemp("profile")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-proxy-server",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=str(DRIVER))
    )
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)
