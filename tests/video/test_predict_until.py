"""`predict`: how long pictures are looked at where the sound is longer."""

import json
from functools import cache

import pytest
import torch
from helpers.ear import TINY, Ear, command, overlay, segmenter
from helpers.films import chirp_at, chirping, film, flat, number, sounding

from lightavseg_core.data.decoding import read_audio
from lightavseg_core.models.base import load_model
from lightavseg_core.video.prediction import predict, write

cached_model = cache(load_model)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.ts"])
@pytest.mark.parametrize("times", [[0, 0.4, 2], [0]])
def test_the_last_picture_is_held_until_the_sound_ends(tmp_path, name, times):
    """Of a screen that does not change, and of one picture with a song: as players do."""
    path = film(tmp_path / name, map(flat, range(len(times))), times, **chirping(5.45, 4.2))
    ear = Ear()
    found = list(predict(segmenter(ear), path, 2))
    assert [one.time for one in found] == [k / 2 for k in range(11)]
    shown = [max(k for k, time in enumerate(times) if time <= one.time) for one in found]
    assert [number(one.picture) for one in found] == shown
    heard = torch.cat(ear.heard, 1)[0, :11].mean((1, 2, 3))
    assert (heard > heard.min() + 0.1).nonzero().flatten().tolist() == [7, 8]  # 0.975 s from 3.5 and 4 s on
    manifest = write(segmenter(), path, tmp_path / "o")
    assert len(manifest["frames"]) == 6 and manifest["asked"]["until"] == "sound"
    with overlay(tmp_path / "o") as container:
        assert container.streams.video[0].frames == 6
    assert chirp_at(read_audio(tmp_path / "o" / "overlay.mp4")) == pytest.approx(4.2, abs=0.002)


@pytest.mark.parametrize("times,masks", [([0, 0.4, 2], 3), ([0], 1)])
@pytest.mark.slow
def test_until_the_pictures_end(tmp_path, capsys, monkeypatch, times, masks):
    monkeypatch.setattr("lightavseg_core.video.segmenter.load_model", cached_model)
    path = film(tmp_path / "a.mp4", map(flat, range(len(times))), times, **sounding(5))
    given = (TINY, path, "--size", 32, "--out")
    assert command(capsys, *given, tmp_path / "o", "--until", "pictures") == (0, "")
    manifest = json.loads((tmp_path / "o" / "a" / "manifest.json").read_text())
    assert len(manifest["frames"]) == masks and manifest["asked"]["until"] == "pictures"
    code, error = command(capsys, *given, tmp_path / "o")
    assert code == 1 and "until was pictures, is sound" in error
    with pytest.raises(ValueError, match="unknown until 'song'"):
        write(segmenter(), path, tmp_path / "p", until="song")


@pytest.mark.parametrize("fps", [1, 25, 240])
def test_sound_that_is_longer_by_its_padding(tmp_path, fps):
    """An AAC block, of 1024 samples: no picture more."""
    path = film(tmp_path / "a.mp4", (flat(k // 5) for k in range(50)), fps=25, **sounding(2.04))
    assert len(list(predict(segmenter(), path, fps))) == 2 * fps


@pytest.mark.parametrize("name,kind", [("a.gif", {"codec": "gif", "pixels": "rgb8"}), ("a.mkv", {})])
def test_a_film_of_one_picture_is_a_picture(tmp_path, name, kind):
    """With a sound that is given."""
    path = film(tmp_path / name, [flat(1)], **kind)
    sound = film(tmp_path / "sound.mkv", [flat(0)], **sounding(3.2))
    assert [one.time for one in predict(segmenter(), path, 2, sound)] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
