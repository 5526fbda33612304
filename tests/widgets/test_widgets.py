"""The mixing desk and the stepper without a browser: controls are moved, pictures decoded."""

import base64
import copy

import numpy as np
import pytest
import torch
from helpers.shown import VIEW, painted, pixels

import lightavseg_core as lav
from lightavseg_core.data import AVSBench, sounding_shapes
from lightavseg_core.widgets import DecoderStepper, MixingDesk, canvas, response_times, seen


@pytest.fixture(scope="module")
def model():
    return lav.load_model("checkpoints/tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, model):
    root, clips = tmp_path_factory.mktemp("desk"), {"train": 0, "val": 0, "test": 4}
    sounding_shapes.generate(root, "ms3", clips, size=128, seed=0, workers=1)
    return AVSBench(root, "ms3", "test", front_end=model.front_end)


@pytest.fixture(scope="module")
def loud(dataset, model):
    """Clip, second, number and area of the first object that sounds and that the model marks wholly.

    Beside it another one sounds.
    """
    for index, item in enumerate(dataset):
        mask = model_mask(model, item)
        things = sounding_shapes.objects(dataset.root, "ms3", "test", index)
        for t in range(len(mask)):
            sounding = [i for i, thing in enumerate(things) if thing.sounding[t]]
            marked = [i for i in sounding if mask[t][things[i].masks[t]].mean() > 0.9]
            if len(marked) >= 2:
                return index, t, marked[0], things[marked[0]].masks[t]
    raise AssertionError("no such clip: generate more")


@pytest.fixture(scope="module")
def desk(model, dataset, loud):
    """One for several tests, where that second is shown; each puts the controls back."""
    return MixingDesk(model, dataset, loud[0], loud[1])


def model_mask(model, item):
    with torch.inference_mode():
        return model(item["frames"][None], item["log_mel"][None]).logits[0, :, 0].numpy() > 0     # (T, H, W)


def methods():
    for name in lav.list_methods():
        if name != "lightavseg":
            torch.manual_seed(0)
            model = lav.create_model(name, preset="tiny").eval()
            for block in getattr(model, "tpavi", ()):
                # Training starts from zero here: closed, no frame sees another.
                torch.nn.init.ones_(block.mu_norm.weight)
            yield pytest.param(model, id=name)


# --- the desk ---


@pytest.mark.slow
def test_silencing_an_object_takes_its_pixels_away(model, dataset, loud, desk):
    index, t, number, area = loud
    before = desk.mask.value
    whole = model_mask(model, dataset[index])[t]
    assert np.array_equal(painted(desk.mask), whole), "the mask of the clip's own sound, on disk"
    assert np.array_equal(desk.seen.mask, whole), "which a notebook reads"
    assert f"{desk.sources[number].label}: sounding" in desk.status.value
    assert painted(desk.mask)[area].mean() > 0.9 and painted(desk.truth)[area].mean() > 0.9

    desk.strips[number].on.value = False
    assert painted(desk.mask)[area].mean() < 0.1 and not painted(desk.truth)[area].any()
    assert painted(desk.mask).any(), "the other one still sounds"
    assert f"{desk.sources[number].label}: silent, marked 0%" in desk.status.value
    desk.strips[number].on.value = True
    assert desk.mask.value == before

    desk.strips[number].gain.value = 0
    assert painted(desk.mask)[area].mean() < 0.1
    desk.strips[number].gain.value = 1
    assert desk.mask.value == before and desk.message.value == ""


@pytest.mark.slow
def test_noise_and_donor_change_what_is_heard_and_seen(model, dataset, loud, desk):
    index, t, *_ = loud
    mask, maps, audio, truth = desk.mask.value, desk.maps.value, desk.audio.value, desk.truth.value
    for strip in (desk.noise, desk.donor):
        strip.on.value = True
        assert desk.maps.value != maps and desk.audio.value != audio and desk.truth.value == truth
        strip.on.value = False
        assert desk.mask.value == mask and desk.audio.value == audio
    for strip in desk.strips:
        strip.on.value = False
    desk.donor.on.value = True
    desk.donor_clip.value = index                                    # its own sound comes back by another way
    assert np.array_equal(painted(desk.mask), model_mask(model, dataset[index])[t])
    desk.donor.on.value, desk.donor_clip.value = False, dataset.donor(index)
    for strip in desk.strips:
        strip.on.value = True
    assert desk.mask.value == mask and desk.audio.value == audio


@pytest.mark.slow
def test_time_and_clip(model, dataset):
    desk = MixingDesk(model, dataset)
    masks = model_mask(model, dataset[0])
    audio, frames = desk.audio.value, set()
    for t in range(5):
        desk.second.value = t
        frames.add(desk.frame.value)
        assert np.array_equal(painted(desk.mask), masks[t])
    assert len(frames) == 5 and desk.audio.value == audio
    desk.clip.value = 2
    things = sounding_shapes.objects(dataset.root, "ms3", "test", 2)
    assert len(desk.strips) == len(desk.faders.children) == len(things) + 1
    assert np.array_equal(painted(desk.mask), model_mask(model, dataset[2])[4]) and desk.message.value == ""


def test_a_real_clip_has_one_track(own_copy, model):
    (own_copy / "Multi-sources" / "sounding_shapes.json").unlink()
    dataset = AVSBench(own_copy, "ms3", "test", 64, model.front_end)
    desk = MixingDesk(model, dataset, 1)
    assert len(desk.strips) == 1 and "its sound" in desk.status.value
    heard = desk.audio.value
    desk.strips[0].on.value = False
    desk.noise.on.value = True
    assert desk.audio.value != heard and desk.message.value == ""
    assert desk.still()[1].count("without") == 0


@pytest.mark.parametrize("other", methods())
@pytest.mark.slow
def test_every_method(shapes, other):
    dataset = AVSBench(shapes, "ms3", "test", 64, other.front_end)
    item = dataset[1]
    desk = MixingDesk(other, dataset, 1, 2)
    assert desk.frame_by_frame == (other.config.method not in ("avsbench", "selm"))
    # Also where frames see each other. The weights are random: a logit near 0 may fall on either side, for
    # the WAV is rounded to 16 bits.
    assert (painted(desk.mask) != model_mask(other, item)[2]).mean() < 0.01
    desk.strips[0].on.value = not desk.strips[0].on.value
    stepper = DecoderStepper(other, item, 2)
    stepper.step.value = stepper.step.max
    assert desk.message.value == stepper.message.value == ""


def test_without_scales(model, dataset, monkeypatch):
    segment = type(model).segment

    def without(self, frames, log_mel, with_scales):
        return segment(self, frames, log_mel, False)[0], None

    monkeypatch.setattr(type(model), "segment", without)
    assert "of the frame is marked" in MixingDesk(model, dataset).status.value
    stepper = DecoderStepper(model, dataset[0])
    assert stepper.step.max == 0 and "the mask" in stepper.status.value


def test_an_error_is_shown_and_goes_away(desk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(seen, "look", lambda *_: 1 / 0)
        desk.strips[0].on.value = False
        assert "ZeroDivisionError: division by zero" in desk.message.value
    desk.strips[0].on.value = True
    assert desk.message.value == ""


def test_where_no_widget_runs_there_is_a_picture(loud, desk):
    *_, number, _ = loud
    data, metadata = desk._repr_mimebundle_()
    assert data[VIEW]["model_id"] == desk.model_id
    assert metadata["image/jpeg"]["alt"] == data["text/plain"]
    assert f"without {desk.sources[number].label}" in data["text/plain"]
    picture = pixels(base64.b64decode(data["image/jpeg"]))
    coloured, side = picture.max(-1) - picture.min(-1) > 40, canvas.MAP + 16
    last = coloured[-side - canvas.CAPTION:-canvas.CAPTION]
    below = [last[:, left:left + side].mean() for left in range(0, last.shape[1], side + canvas.GAP)]
    assert below[0] == 0 and 0 < below[number + 2] < below[1], "less without the object than in the full mix"


def test_a_model_in_training_stays_so(shapes):
    torch.manual_seed(0)
    trained = lav.create_model("lightavseg", preset="tiny").train()
    trained.freeze_audio()
    before = copy.deepcopy(trained.state_dict())
    MixingDesk(trained, AVSBench(shapes, "ms3", "test", 64, trained.front_end))
    assert trained.training and not trained.audio.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


@pytest.mark.parametrize(
    "arguments, message",
    [((9,), "clip 9: the dataset has 4"), ((-1,), "clip -1"), ((0, 5), "second 5: the clip has 5")],
)
def test_what_is_not_there(model, dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        MixingDesk(model, dataset, *arguments)


def test_random_crops_are_refused(shapes, model):
    with pytest.raises(ValueError, match="cropped at random"):
        MixingDesk(model, AVSBench(shapes, "avss", "train", 64, model.front_end))


def test_response_times(desk):
    audio, mask, told = desk.audio.value, desk.mask.value, []
    desk.status.observe(lambda change: told.append(change["new"]), "value")
    times = response_times(desk, changes=6, seed=1)
    assert 0 < times.median <= times.p95
    assert len(told) >= 6, "every change was answered"
    assert desk.audio.value == audio and desk.mask.value == mask
    with pytest.raises(ValueError, match="changes is 0"):
        response_times(desk, changes=0)


# --- the stepper ---


def test_the_last_step_is_the_mask(model, dataset, loud):
    index, t, *_ = loud
    item = dataset[index]
    stepper = DecoderStepper(model, item, t)
    with torch.inference_mode():
        scales = model(item["frames"][None], item["log_mel"][None], return_scales=True).scales
    views = set()
    for step, scale in enumerate(scales):
        stepper.step.value = step
        views.add(stepper.view.value)
        assert f"scale {step + 1} of 5, {scale.similarity.shape[-2]} x" in stepper.status.value
    stepper.step.value = 5
    assert len(views) == 5 and np.array_equal(painted(stepper.view), model_mask(model, item)[t])
    stepper.second.value = (t + 1) % 5
    assert np.array_equal(painted(stepper.view), model_mask(model, item)[(t + 1) % 5])
    data, metadata = stepper._repr_mimebundle_()
    assert VIEW in data and metadata["image/jpeg"]["alt"].count("scale ") == 5
    with pytest.raises(ValueError, match="second 7: the clip has 5"):
        DecoderStepper(model, item, 7)
