"""Exported files, which all tests share: each takes its time to make."""

import pytest
from helpers import edge


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return edge.folder(tmp_path_factory)
