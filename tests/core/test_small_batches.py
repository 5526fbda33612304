"""Clips of one frame: where a batch is too small for batch norms, the clip and the remedy are told, and no
start that failed is taken for a run."""

import pytest
import torch
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench
from lightavseg_core.data.layout import read_clips
from lightavseg_core.data.loading import large_enough, smallest_batch


@pytest.fixture
def short(own_copy):
    """The second training clip has one frame, the first two, the others five; and their dataset at 32 px."""
    for clip, length in zip(read_clips(own_copy, "ms3", "train"), (2, 1)):
        for path in clip.frames[length:]:
            path.unlink()
    return own_copy


def dataset(root, split="train", size=32):
    return AVSBench(root, "ms3", split, size, create().front_end)


def trained(root, batch_size, out=None, size=32, **options):
    config = lav.TrainConfig(batch_size=batch_size, audio_weights="joint", **{"epochs": 1, **options})
    model = create(size=32)
    lav.Trainer(model, config, out).fit(dataset(root, size=size), dataset(root, "val", size))
    return model


@pytest.mark.slow
def test_the_clip_and_the_remedy(short, tmp_path, capsys):
    """Also where it comes second, and after a start that failed: nothing is left, and the remedies help."""
    name, out = read_clips(short, "ms3", "train")[1].name, tmp_path / "run"
    said = rf"^clip {name}: a single frame of 32 x 32 .*batch_size of 2 or more.*--batch-size, --frames"
    with pytest.raises(ValueError, match=said):
        trained(short, 1, out)
    command = f"train --data {short} --size 32 --batch-size 1 --epochs 1 --audio-weights joint --out {out}"
    with pytest.raises(SystemExit) as end:
        main(command.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith(f"lightavseg: clip {name}: a single frame")
    assert not out.exists()
    trained(short, 2, out)
    assert (out / "best").is_dir(), "a remedy"


def test_what_a_batch_holds_at_least(short):
    data = dataset(short)
    assert smallest_batch(data, 4)["name"] == [data.clips[0].name] * 2
    assert smallest_batch(data, 1)["name"] == [data.clips[1].name]
    data = dataset(short)
    data.clips = data.clips[1:2]  # all there is, however many may be in a batch
    assert smallest_batch(data, 4)["frames"].shape[:2] == (1, 1)


@pytest.mark.slow
def test_one_frame_of_a_clip_and_small_ones(shapes, tmp_path):
    """Where few frames are asked for, or they are small at first, a start that would fail later fails now."""
    batch = smallest_batch(dataset(shapes, size=64), 4, frames=2, side=0.5)
    assert batch["frames"].shape == (2, 2, 3, 32, 32) and batch["mask"].shape == (2, 2, 32, 32)
    with pytest.raises(ValueError, match="a single frame of 64 x 64 pixels.*--frames, --size, --half 0"):
        trained(shapes, 1, tmp_path / "run", size=128, frames=1, epochs=4)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", lav.list_methods())
def test_every_method_is_told_of(method):
    model = lav.create_model(method, preset="tiny").train()
    batch = {"name": ["a"], "frames": torch.randn(1, 1, 3, 32, 32)}
    with pytest.raises(ValueError, match="^clip a: a single frame of 32 x 32 pixels"), large_enough(batch):
        model(batch["frames"], torch.randn(1, 1, 1, *model.front_end.shape))
    with large_enough(batch):
        model(torch.randn(1, 1, 3, 65, 65), torch.randn(1, 1, 1, *model.front_end.shape))
    with pytest.raises(ValueError, match="^frames has shape"), large_enough(batch):
        model(torch.randn(1, 1, 3, 16, 16), torch.randn(1, 1, 1, *model.front_end.shape))
