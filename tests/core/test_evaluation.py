"""Scores of a model on a dataset, with any sound, and the score of who sees everything and hears nothing."""

import pytest
import torch
from helpers.tiny import trained
from torchmetrics import MetricCollection

from lightavseg_core import create_model, deaf_oracle, evaluate
from lightavseg_core.data import AVSBench
from lightavseg_core.data.sounding_shapes import objects
from lightavseg_core.evaluation import predict
from lightavseg_core.inspection.attention import survey
from lightavseg_core.inspection.scales import maps
from lightavseg_core.metrics import FalsePositiveShare, MaskScore


def test_evaluate(shapes):
    model, data = trained(), AVSBench(shapes, "ms3", "test", 64)
    scores = {sound: evaluate(model, data, sound) for sound in ("normal", "silent", "swapped", "noise")}
    normal = scores["normal"]
    measured = {"M_J", "M_F", "M_F_batch", "foreground_share"}
    assert set(normal) == {*measured, "batch_size", "frames", "sound"}
    for sound, found in scores.items():
        assert (found["frames"], found["sound"], found["batch_size"]) == (20, sound, 8)
    assert len({found["M_F"] for found in scores.values()}) == 4, "each is another sound"
    own = evaluate(model, data.with_sound("silent"))
    assert own == scores["silent"], "a dataset's own sound is the default"
    one = evaluate(model, data, batch_size=1)
    for name in ("M_J", "M_F", "foreground_share"):
        assert one[name] == pytest.approx(normal[name], abs=1e-6)
    metrics = MetricCollection([MaskScore(), FalsePositiveShare()], compute_groups=False)
    more = evaluate(model, data, "noisy", score=metrics)
    assert set(more) == {*normal, "false_positive_share"}
    assert more["M_F"] not in {found["M_F"] for found in scores.values()}
    with pytest.raises(ValueError, match="loud"):
        evaluate(model, data, "loud")
    evaluate(model, data)
    assert data.sound == "normal"


LOOKS = {
    "evaluate": lambda model, data: evaluate(model, data),
    "predict": lambda model, data: predict(model, data[0]),
    "survey": lambda model, data: survey(model, data),
    "maps": lambda model, data: maps(model, data),
}


@pytest.mark.parametrize("look", LOOKS)
def test_who_looks_changes_nothing(shapes, look):
    """A part that is in another mode than the whole stays in it, and no random number is drawn."""
    model, data = create_model("avsegformer", preset="tiny"), AVSBench(shapes, "ms3", "val", 32)
    data.clips = data.clips[:1]
    model.train().visual.eval()
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    LOOKS[look](model, data)
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    model.freeze_audio()
    assert model.training and not model.visual.training and not model.audio.training


def test_deaf_oracle_by_hand(shapes):
    data = AVSBench(shapes, "ms3", "test", 64)
    ious = []
    for index in range(len(data)):
        things = objects(shapes, "ms3", "test", index)
        for t, truth in enumerate(data[index]["mask"].numpy() > 0):
            visible = sum(thing.masks[t].astype(int) for thing in things) > 0
            iou = (visible & truth).sum() / (visible | truth).sum()
            ious.append(iou if truth.any() else 1 - visible.mean())
    found = deaf_oracle(data)
    assert found["M_J"] == pytest.approx(sum(ious) / len(ious), abs=1e-5) and found["M_J"] < 0.95
