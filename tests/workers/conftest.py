"""One local Ray for all tests of a module."""

from pathlib import Path

import pytest
import ray

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def local_ray():
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("PYTHONPATH", str(TESTS))  # workers import the evaluations of the tests
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        configure_logging=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
    patch.undo()
