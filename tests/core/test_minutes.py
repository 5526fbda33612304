"""What makes a minute of training teach more: small frames first, and a frozen encoder that hears once."""

import pytest
import torch
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core._common.state import heard_already
from lightavseg_core.data import AVSBench, collate
from lightavseg_core.data.loading import shrunk


@pytest.fixture
def train(shapes):
    return AVSBench(shapes, "ms3", "train", 64)


@pytest.fixture
def validation(shapes):
    return AVSBench(shapes, "ms3", "val", 64)


def seen_in_training(model):
    """Filled with the sides of the frames of each step."""
    sides = []

    def look(model, given):
        if model.training:
            sides.append(given[0].shape[-1])

    model.register_forward_pre_hook(look)
    return sides


@pytest.mark.slow
@pytest.mark.parametrize(
    "until, expected",
    [((0.0, 0.0), [64] * 5), ((0.4, 0.6), [32, 32, 48, 64, 64]), ((0.2, 1.0), [32] + [48] * 4)],
)
def test_small_frames_come_first(train, validation, until, expected):
    model = create(size=64)
    sides = seen_in_training(model)
    config = lav.TrainConfig(epochs=5, batch_size=6, audio_weights="joint", validate_every=5)
    config.half, config.three_quarters = until
    lav.Trainer(model, config).fit(train, validation)
    assert sides[1:] == expected, "after the trial"


def test_a_small_batch_is_the_same_picture(train):
    batch = collate([train[0], train[1]])
    small = shrunk(batch, 3 / 4)
    assert small["frames"].shape == (2, 5, 3, 48, 48) and small["mask"].shape == (2, 5, 48, 48)
    assert small["mask"].dtype == torch.uint8 and small["mask"].max() == 1
    shares = [one["mask"].float().mean((-2, -1)) for one in (batch, small)]
    torch.testing.assert_close(*shares, atol=0.02, rtol=0)
    means = [one["frames"].mean((-2, -1)) for one in (batch, small)]
    torch.testing.assert_close(*means, atol=0.02, rtol=0)
    assert small["log_mel"] is batch["log_mel"]


@pytest.mark.parametrize("side, expected", [(32, 32), (48, 32), (128, 96), (224, 160), (512, 384)])
def test_sides_that_models_take(side, expected):
    batch = {"frames": torch.zeros(1, 1, 3, side, 64), "mask": torch.zeros(1, 1, side, 64, dtype=torch.uint8)}
    assert shrunk(batch, 3 / 4)["mask"].shape == (1, 1, expected, 48)


def given(batch):
    return {"frames": batch["frames"], "log_mel": batch["log_mel"]}


def test_what_was_heard_is_heard(train):
    """The vectors in place of the spectrograms give the same masks."""
    model = create(size=64).eval()
    heard = train.heard_by(model.audio)
    batches = [collate([data[0], data[1]]) for data in (train, heard)]
    assert batches[1]["log_mel"].shape == (2, 5, model.audio_channels)
    with torch.no_grad():
        logits = [model(**given(batches[0])).logits]
        with heard_already(model):
            logits.append(model(**given(batches[1])).logits)
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(train[0]["log_mel"], AVSBench(train.root, "ms3", "train", 64)[0]["log_mel"])


def test_other_sounds_are_heard_as_such(train):
    model = create(size=64).eval()
    heard = train.heard_by(model.audio)
    own = heard[0]["log_mel"]
    swapped = heard.with_sound("swapped")[0]["log_mel"]
    assert not torch.equal(own, swapped) and torch.equal(own, heard[0]["log_mel"])


@pytest.mark.slow
def test_a_frozen_encoder_hears_each_clip_once(train, validation, tmp_path):
    source = create(size=64)
    source.save_pretrained(tmp_path / "ears")
    model, frames = create(size=64), []
    model.audio.register_forward_hook(lambda _, given, __: frames.append(len(given[0])))
    weights = str(tmp_path / "ears")
    config = lav.TrainConfig(epochs=3, batch_size=2, audio_weights=weights, validate_every=3)
    lav.Trainer(model, config).fit(train, validation)
    trial = [5, 10]  # a validation clip, and a batch
    assert frames[:2] == trial and sorted(frames[2:]) == [5] * 6 + [15], "three validation clips at once"
