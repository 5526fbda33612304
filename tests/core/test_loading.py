"""Reading clips beside training on them: who waits, who says so, and what each process keeps."""

import time

import pytest
from helpers.tiny import create
from torch.utils.data import DataLoader, get_worker_info

from lightavseg_core import TrainConfig, Trainer
from lightavseg_core.data import AVSBench, avsbench
from lightavseg_core.data.loading import loading_processes


@pytest.fixture
def slow(monkeypatch):
    """Each frame takes 30 ms more to read: five of them, so that a clip takes 0.15 s."""
    real = avsbench.read_frame
    monkeypatch.setattr(avsbench, "read_frame", lambda path: time.sleep(0.03) or real(path))


def fit(train, root, **options):
    """The log of a training."""
    trainer = Trainer(create(size=64), TrainConfig(audio_weights="joint", **options))
    trainer.fit(train, AVSBench(root, "ms3", "val", 64))
    return trainer.log


@pytest.mark.parametrize("cache, words", [(0, True), (2 << 30, False)])
@pytest.mark.slow
def test_training_says_that_it_waits(shapes, slow, capsys, cache, words):
    """Without a cache every epoch waits 6 x 0.15 s; with one only the first."""
    data = AVSBench(shapes, "ms3", "train", 64, cache_bytes=cache)
    log = fit(data, shapes, epochs=2, batch_size=2, validate_every=2)
    first, second = [entry for entry in log if entry["event"] == "epoch"]
    assert first["clips"] == second["clips"] == 6 and 0.9 < first["waited"] < first["seconds"]
    assert (second["waited"] > 0.9) == words
    said = "waiting for clips to be read" in "".join(capsys.readouterr())
    assert said == (words and second["waited"] > second["seconds"] / 5)


@pytest.mark.slow
def test_loading_processes_change_nothing_but_the_time(shapes):
    data, losses = AVSBench(shapes, "ms3", "train", 64), []
    for workers in (None, 2):
        log = fit(data, shapes, epochs=1, batch_size=3, workers=workers)
        losses.append([(entry["loss"], entry["alignment"]) for entry in log if entry["event"] == "step"])
    assert len(losses[0]) == 2 and losses[0] == losses[1]


def test_how_many_processes_load(monkeypatch):
    for cores, expected in ((4, 4), (64, 8), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert loading_processes(None, "cuda") == expected and loading_processes(None, "cpu") == 0
        for asked in (0, 3):
            assert loading_processes(asked, "cpu") == loading_processes(asked, "cuda") == asked


def kept(items):
    """In a process that loads data: how many entries its cache has."""
    return len(get_worker_info().dataset._cache)


def test_processes_that_load_share_the_caches_room(shapes):
    whole = AVSBench(shapes, "ms3", "train", 64)
    for index in range(6):
        whole[index]
    room = (2 << 30) - whole._cache_left[0]  # what the six clips take
    alone = AVSBench(shapes, "ms3", "train", 64, cache_bytes=room)
    assert all(alone[index]["name"] for index in range(6))
    assert len(alone._cache) == 12 and alone._cache_left == [0]
    # Room for two clips: one in each of two processes.
    shared = AVSBench(shapes, "ms3", "train", 64, cache_bytes=room // 3)
    assert list(DataLoader(shared, 1, collate_fn=kept, num_workers=2)) == [2] * 6
