"""Marks and data that all tests share."""

import shutil
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """A long test is also slow, so that `pytest -m "not slow"` leaves it out."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A folder with SoundingShapes of all three subsets: 6, 3 and 4 clips, 64 px, seed 0. To be read only."""
    from lightavseg_core.data.sounding_shapes import generate

    root = tmp_path_factory.mktemp("shapes")
    for subset in ("s4", "ms3", "avss"):
        generate(root, subset, {"train": 6, "val": 3, "test": 4}, size=64, seed=0, workers=1)
    return root


@pytest.fixture(scope="module")
def browser():
    """Chromium. A module's own: while Playwright runs, a process can run no other event loop."""
    from helpers.lab import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def own_copy(shapes, tmp_path):
    """A copy of `shapes` for a test that changes files."""
    return Path(shutil.copytree(shapes, tmp_path / "shapes", copy_function=shutil.copyfile))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Eight seconds of 5 pictures each, with stereo sound that changes. To be read only."""
    import numpy as np
    from helpers.ear import gradient
    from helpers.films import film, tone

    sound = np.stack([tone(300, 16_000, 8) * np.linspace(0, 1, 8 * 16_000), tone(900, 16_000, 8, 0.2)])
    pictures = (gradient(k // 5) for k in range(40))
    return film(tmp_path_factory.mktemp("films") / "clip.mp4", pictures, sound=sound, rate=16_000)


@pytest.fixture
def methods_as_before():
    """Methods that a test registers are gone after it."""
    from lightavseg_core.models.base import METHODS

    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)
