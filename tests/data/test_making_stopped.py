"""`data make` that is stopped leaves nothing, whenever it is; nor does one that comes second."""

import time

import numpy as np
import pytest
from helpers.launched import start

from lightavseg_core.data import sounding_shapes

INSTANTS = np.random.default_rng(0).uniform(0, 1.5, 10).round(2)  # seconds after it has begun


def marked(k):
    return pytest.param(INSTANTS[k], marks=pytest.mark.slow if k < 2 else pytest.mark.long)


@pytest.mark.parametrize("instant", map(marked, range(len(INSTANTS))))
def test_nothing_is_left(tmp_path, instant):
    """Neither folders nor processes: SIGTERM, in the first moments too, while its processes start."""
    root = tmp_path / "data"
    running = start(1, "data", "make", root, "--train", 2000, "--val", 1, "--test", 1, "--size", 64)
    end = time.monotonic() + 60
    while not list(root.glob(".generating_*")):
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.005)
    time.sleep(instant)
    running.terminate()
    _, error = running.communicate(timeout=30)
    assert running.returncode == 128 + 15, error[-500:]
    assert "Traceback" not in error
    assert not root.exists()


def test_what_another_process_has_just_written_stays(tmp_path, monkeypatch):
    root, write = tmp_path / "data", sounding_shapes._write

    def slower(*given):
        monkeypatch.setattr(sounding_shapes, "_write", write)
        sounding_shapes.generate(root, "s4", {"train": 1}, 32, seed=1, workers=1)
        write(*given)

    monkeypatch.setattr(sounding_shapes, "_write", slower)
    with pytest.raises(FileExistsError, match="another process has just written it. Run this again"):
        sounding_shapes.generate(root, "s4", {"train": 1}, 32, seed=0, workers=1)
    assert sounding_shapes.read_recipe(root, "s4").seed == 1 and not list(root.glob(".*"))
