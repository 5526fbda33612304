"""Clips with a sound that is not theirs: the truth is what sounds and is seen."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.casts import folder_cast

from lightavseg_core.data import AVSBench
from lightavseg_core.data.hearing import learned_from
from lightavseg_core.data.negatives import KINDS, Negatives, with_negatives
from lightavseg_core.data.sounding_shapes import generate, objects


@pytest.fixture(scope="module")
def roots(tmp_path_factory, shapes):
    cast = folder_cast(tmp_path_factory.mktemp("cast"))
    roots = {"shapes": shapes}
    for name, options in {"cutouts": {"cast": str(cast)}, "twins": {"twins": True}}.items():
        roots[name] = tmp_path_factory.mktemp(name)
        for subset in ("s4", "ms3", "avss"):
            generate(roots[name], subset, {"train": 6}, 64, workers=1, **options)
    return roots


def truth_of(seen, heard, own, kind, subset):
    """Pixel by pixel, from the objects of both clips: what is seen and sounds. An own twin stays silent."""
    truth = np.zeros(seen[0].masks.shape, np.uint8)
    for thing in seen:
        on = thing.sounding.copy() if kind == "offscreen" else np.zeros(len(truth), bool)
        for other in heard if kind in ("swapped", "offscreen") else ():
            if other.category == thing.category:
                for second in np.flatnonzero(other.sounding[: len(on)]):  # of a longer or a shorter clip
                    on[second] = True
        truth[thing.masks & on[:, None, None]] = thing.category + 1 if subset == "avss" else 1
    truth[~own["annotated"].numpy()] = 0
    return torch.from_numpy(truth)


@pytest.mark.parametrize("cast", ("shapes", "cutouts", "twins"))
@pytest.mark.parametrize("subset", ("s4", "ms3", "avss"))
@pytest.mark.parametrize("size", (64, 48))
def test_the_truth_is_what_sounds_and_is_seen(roots, cast, subset, size):
    clips = AVSBench(roots[cast], subset, "train", size)
    negatives, marked = Negatives(clips, 1.0), 0
    for index, step in ((0, 1), (1, 2), (2, 1), (3, 4)):
        donor = (index + step) % len(clips)  # of AVSS, of five seconds for ten, and of ten for five
        seen, heard = (objects(roots[cast], subset, "train", k) for k in (index, donor))
        torch.manual_seed(index)
        own = clips[index]
        for kind in KINDS:
            torch.manual_seed(index)  # the same crop
            item = negatives.negative(index, kind, donor)
            assert torch.equal(item["frames"], own["frames"]) and item["name"] == own["name"]
            truth = truth_of(seen, heard, own, kind, subset)
            if size != 64 and subset == "avss":
                torch.manual_seed(index)
                _, truth = clips._crop(truth, truth)
            elif size != 64:
                truth = F.interpolate(truth[None], (size, size), mode="nearest-exact")[0]
            assert torch.equal(item["mask"], truth)
            marked += kind == "swapped" and bool(truth.any())
    assert marked or cast == "twins"


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


@pytest.mark.slow
def test_a_share_of_the_clips(shapes):
    clips = AVSBench(shapes, "ms3", "train", 32)
    assert with_negatives(clips, 0.0) is clips
    torch.manual_seed(0)
    found = with_negatives(clips, 0.5)
    changed = sum(not torch.equal(found[0]["log_mel"], clips[0]["log_mel"]) for _ in range(200))
    assert 70 < changed < 130


@pytest.mark.parametrize("gone", ("sounding_shapes.json", "events.csv"))
def test_of_real_clips_only_silence_and_noise(own_copy, gone):
    """Nobody knows what else is seen in them, or what sounds when."""
    (own_copy / "Multi-sources" / gone).unlink()
    found = Negatives(AVSBench(own_copy, "ms3", "train", 32), 1.0)
    assert found.kinds == ("silent", "noise")
    assert not any(found[index]["mask"].any() for index in range(len(found)))


def test_what_cannot_be(shapes, tmp_path):
    deaf = AVSBench(shapes, "ms3", "train", 32, sound="silent")
    with pytest.raises(ValueError, match="heard as 'silent'; negatives need their own sounds"):
        with_negatives(deaf, 0.5)
    cast = folder_cast(tmp_path / "cast")
    root = generate(tmp_path / "data", "ms3", {"train": 2}, 32, cast=str(cast), workers=1)
    cast.rename(tmp_path / "moved")
    clips = AVSBench(root, "ms3", "train")
    for ask in (lambda: with_negatives(clips, 0.5), lambda: learned_from(clips, 0)):
        with pytest.raises(ValueError, match="data: was made from the cast .*cast, which is missing"):
            ask()


@pytest.mark.parametrize("place", ("", "Multi-sources", "Multi-sources/ms3_data", ".."))
def test_wherever_the_dataset_is_named(own_copy, place):
    assert Negatives(AVSBench(own_copy / place, "ms3", "train", 32), 1.0).kinds == KINDS
