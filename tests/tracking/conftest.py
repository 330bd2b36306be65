"""A study to follow."""

import pytest
from followed_searches import Followed


@pytest.fixture
def followed(tmp_path) -> Followed:
    return Followed(tmp_path / "run")
