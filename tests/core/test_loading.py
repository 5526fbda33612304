"""Reading clips beside training on them: who waits, who says so, and what each process keeps."""

import time

import pytest
import torch
from helpers.tiny import create
from torch.utils.data import DataLoader, get_worker_info

from lightavseg_core import TrainConfig, Trainer
from lightavseg_core.data import AVSBench, avsbench
from lightavseg_core.data.loading import loading_processes, some_frames, training_loader


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
    """Without a cache every epoch waits 6 x 0.15 s; with one only the first, which finds the clip of the
    trial before it there."""
    data = AVSBench(shapes, "ms3", "train", 64, cache_bytes=cache)
    log = fit(data, shapes, epochs=2, batch_size=2, validate_every=2)
    first, second = [entry for entry in log if entry["event"] == "epoch"]
    assert first["clips"] == second["clips"] == 6
    assert (6 if words else 5) * 0.15 < first["waited"] < first["seconds"]
    assert (second["waited"] > 0.9) == words
    said = "waiting for clips to be read" in "".join(capsys.readouterr())
    assert said == (words and second["waited"] > second["seconds"] / 5)


@pytest.mark.slow
def test_loading_processes_change_nothing_but_the_time(shapes):
    """Neither the order of the clips nor what of them is drawn, frames and crops; in a second epoch too."""
    losses, crops, trained_on = [], [], set()
    data = AVSBench(shapes, "avss", "train", 32)
    data.clips = data.clips[:4]
    for workers in (None, 2):
        model = create(size=32, num_classes=data.num_classes)
        config = TrainConfig(audio_weights="joint", epochs=2, batch_size=2, frames=2, workers=workers)
        trainer = Trainer(model, config)
        model.register_forward_pre_hook(lambda of, given: trained_on.add((of.training, given[0].shape[:2])))
        trainer.fit(data, AVSBench(shapes, "avss", "val", 32))
        losses.append([entry["loss"] for entry in trainer.log if entry["event"] == "step"])
    assert len(losses[0]) == 4 and losses[0] == losses[1]
    assert {shape for training, shape in trained_on if training} == {(2, 2)}
    loader = training_loader(data, 1, seed=0, workers=0, frames=2)
    for epoch in (0, 0, 1):
        loader.dataset.set_epoch(epoch)
        crops.append(loader.dataset[1]["frames"])
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])


def test_some_frames_of_a_clip(shapes):
    """With their sounds and masks, in their order, others each time; those that can teach come first."""
    item, drawn = AVSBench(shapes, "ms3", "train", 64)[0], set()
    assert some_frames(item, 0) is some_frames(item, 5) is some_frames(item, 9) is item
    for _ in range(40):
        few = some_frames(item, 2)
        chosen = [next(t for t in range(5) if torch.equal(item["frames"][t], one)) for one in few["frames"]]
        drawn.add(tuple(chosen))
        assert few["name"] == item["name"] and chosen == sorted(chosen)
        for key in ("log_mel", "mask", "annotated"):
            assert torch.equal(few[key], item[key][chosen])
    assert len(drawn) > 5
    first = {**item, "annotated": torch.tensor([True, False, False, False, False])}  # as S4 trains
    assert all(some_frames(first, 1)["annotated"] for _ in range(20))


def test_the_order_of_clips_is_that_of_torchs_loader(shapes):
    """Of one without processes, whose generator also seeds these: the order that stored results were trained
    in."""
    data, names = AVSBench(shapes, "ms3", "train", 64), []
    plain = DataLoader(range(6), 4, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(3))
    loader = training_loader(data, 4, seed=3, workers=0)
    for _ in range(3):
        (wanted,), (found,) = plain, loader
        names.append(found["name"])
        assert names[-1] == [data.clips[k].name for k in wanted]
    assert names[0] != names[1] != names[2]


def test_how_many_processes_load(monkeypatch):
    for cores, processes, expected in ((4, 1, 4), (64, 1, 8), (64, 16, 4), (1, 2, 1)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert loading_processes(None, "cuda") == expected and loading_processes(None, "cpu") == 0
        for asked in (0, 3):
            assert loading_processes(asked, "cpu") == loading_processes(asked, "cuda") == asked


def kept(items):
    """In a process that loads data: how many entries its cache has."""
    return len(get_worker_info().dataset._cache)


@pytest.mark.slow
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
