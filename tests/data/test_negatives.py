"""Clips with a sound that is not theirs: the truth is what sounds and is seen."""

import numpy as np
import pytest
import torch
from helpers.casts import folder_cast

from lightavseg_core.data import AVSBench
from lightavseg_core.data.negatives import KINDS, Negatives, with_negatives
from lightavseg_core.data.sounding_shapes import generate, objects


@pytest.fixture(scope="module")
def roots(tmp_path_factory, shapes):
    cast = folder_cast(tmp_path_factory.mktemp("cast"))
    root = tmp_path_factory.mktemp("cutouts")
    for subset in ("ms3", "avss"):
        generate(root, subset, {"train": 6}, 64, cast=str(cast), workers=1)
    return {"shapes": shapes, "cutouts": root}


@pytest.mark.parametrize("cast", ("shapes", "cutouts"))
@pytest.mark.parametrize("subset", ("ms3", "avss"))
@pytest.mark.parametrize("size", (64, 48))
def test_the_truth_is_what_sounds_and_is_seen(roots, cast, subset, size):
    """Against the objects of both clips, pixel by pixel."""
    clips = AVSBench(roots[cast], subset, "train", size)
    negatives, marked = Negatives(clips, 1.0), 0
    for index in range(len(clips)):
        donor = (index + 3) % len(clips)  # of AVSS, of the same kind
        seen, heard = (objects(roots[cast], subset, "train", k) for k in (index, donor))
        torch.manual_seed(index)
        own = clips[index]
        for kind in KINDS:
            torch.manual_seed(index)  # the same crop
            item = negatives.negative(index, kind, donor)
            assert torch.equal(item["frames"], own["frames"]) and item["name"] == own["name"]
            sounding = {"silent": [], "noise": [], "swapped": heard, "offscreen": [*heard, *seen]}[kind]
            truth = np.zeros(seen[0].masks.shape, np.uint8)
            for thing in seen:
                on = np.any([o.sounding for o in sounding if o.category == thing.category], axis=0)
                value = thing.category + 1 if subset == "avss" else 1
                truth[thing.masks & np.broadcast_to(on, len(truth))[:, None, None]] = value
            if size == 64:
                assert (item["mask"].numpy() == truth).all()
            else:
                assert (item["mask"].float().mean() > 0) == (truth.any() and subset == "ms3") or truth.any()
            marked += kind == "swapped" and item["mask"].any()
    assert marked or size == 48


def test_what_is_heard(shapes):
    clips = AVSBench(shapes, "ms3", "train", 32)
    negatives = Negatives(clips, 1.0)
    heard = {kind: negatives.negative(0, kind, 1)["log_mel"] for kind in KINDS}
    assert torch.equal(heard["silent"], clips.with_sound("silent")[0]["log_mel"])
    assert torch.equal(heard["noise"], clips.with_sound("noise")[0]["log_mel"])
    assert torch.equal(heard["swapped"], clips[1]["log_mel"])
    both = clips.front_end(clips.waveform(0) + clips.waveform(1), torch.arange(5))
    assert torch.equal(heard["offscreen"], both)
    vectors = negatives.heard_by(lambda log_mel: log_mel.flatten(1)[:, :7])
    assert torch.equal(vectors.negative(0, "offscreen", 1)["log_mel"], both.flatten(1)[:, :7])


def test_a_share_of_the_clips(shapes):
    clips = AVSBench(shapes, "ms3", "train", 32)
    assert with_negatives(clips, 0.0) is clips
    torch.manual_seed(0)
    found = with_negatives(clips, 0.5)
    changed = sum(not torch.equal(found[0]["log_mel"], clips[0]["log_mel"]) for _ in range(200))
    assert 70 < changed < 130


def test_of_real_clips_only_silence_and_noise(own_copy):
    """Nobody knows what else is seen in them."""
    (own_copy / "Multi-sources" / "sounding_shapes.json").unlink()
    found = Negatives(AVSBench(own_copy, "ms3", "train", 32), 1.0)
    assert found.kinds == ("silent", "noise")
    assert not any(found[index]["mask"].any() for index in range(len(found)))
