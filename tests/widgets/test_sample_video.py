"""The sample video is what its script says."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.scenes import LEVEL, draw_pictures
from lightavseg_core.video.reading import read_frames

MEDIA = Path(__file__).parents[2] / "notebooks" / "media"
SAMPLE = MEDIA / "sample.mp4"

spec = importlib.util.spec_from_file_location("make_sample", MEDIA / "make_sample.py")
make_sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_sample)


def test_the_script_makes_the_truth_that_is_kept():
    made, kept = make_sample.truth(), json.loads((MEDIA / "truth.json").read_text())
    areas = []
    for truth in (made, kept):
        things = [thing for act in truth["acts"] for thing in act["objects"]]
        areas.append([thing.pop("area") for thing in things])
    assert made == kept and SAMPLE.stat().st_size <= 500_000
    assert areas[0] == pytest.approx(areas[1], abs=2e-4)


@pytest.mark.slow
def test_the_video_shows_and_sounds_what_the_script_says():
    shown = [picture for _, picture in read_frames(SAMPLE, make_sample.Fraction(1))]
    heard = read_audio(SAMPLE).numpy()
    assert len(shown) == 24 and len(heard) == 24 * 16_000
    for number, act in enumerate(make_sample.ACTS):
        drawn, _ = draw_pictures(make_sample.scene_of(act, range(4)), make_sample.SHAPES, 256)
        for picture, wanted in zip(shown[4 * number:], drawn):
            assert np.abs(picture.astype(int) - wanted).mean() < 8, "but for the noise of 6"
        sound = make_sample.sound_of(act)
        assert np.corrcoef(heard[64_000 * number:64_000 * (number + 1)], sound)[0, 1] > 0.9


@pytest.mark.slow
def test_the_acts_hold_what_they_promise():
    """What is in view, and what the sound's energy says, against the script's own account."""
    heard, quiet = read_audio(SAMPLE).numpy(), LEVEL / 2

    def rms(start, end):
        return np.sqrt((heard[int(16_000 * start):int(16_000 * end)] ** 2).mean())

    things = {k: make_sample.objects_at(k) for k in range(24)}
    sounding = {k: [name for name, sounds, _ in things[k] if sounds] for k in things}
    assert [len(sounding[k]) for k in range(4)] == [1, 1, 1, 2]
    assert len({sounding[k][0] for k in range(3)}) == 3
    assert not sounding[5] and rms(5.1, 5.9) < quiet, "the noise floor"
    assert not sounding[6] and rms(6.1, 6.9) < 1e-3 < rms(5.1, 5.9), "nothing at all"
    assert not sounding[9] and not sounding[11] and rms(9.1, 9.9) > quiet, "nobody in view sounds, and yet"
    names, sounds, _ = zip(*things[12])
    assert names[0] == names[1] and sounds == (True, False, False), "twins, of which one sounds"
    assert not any(sounding[k] for k in (16, 17, 18)) and rms(17.42, 17.63) > 2 * rms(17, 17.38)
    truth = make_sample.truth_at
    assert truth(17.5).any() and truth(17, lead=0.5).any() and not truth(17).any(), "between two pictures"
    large, small = (mask.mean() for *_, mask in things[22])
    assert large > 0.12 > 0.02 > small
    for k in things:
        assert truth(k).any() == bool(sounding[k])
        assert not np.sum([mask for *_, mask in things[k]], 0).max() > 1, "a pixel shows one object"
    with pytest.raises(ValueError, match="second 24: the sample lasts from 0 to 24"):
        truth(24)
