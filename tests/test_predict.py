"""`predict`: the model's own masks, written once and whole, in a stream, whatever the file."""

import errno
import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from films import copied, film, flat, number, tone
from PIL import Image

import lightavseg_core as lav
from lightavseg_core import cli
from lightavseg_core.data.audio import LogMel, PANNsLogMel, read_audio
from lightavseg_core.data.avsbench import MEAN, STD, AVSBench, read_frame
from lightavseg_core.data.layout import voc_palette
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.inputs import frames_in, inputs_of, names_of
from lightavseg_core.overlay import PAINT, paint
from lightavseg_core.predict import Segmenter, load, predict, write, write_all

TINY = Path(__file__).parents[1] / "checkpoints" / "tiny"


class Ear:
    """A fake model: a pixel is marked where the picture is bright, the louder the more; each frame also feels the mean of its clip."""

    def __init__(self, classes=1, stop_after=None):
        self.classes, self.stop_after, self.heard, self.seen = classes, stop_after, [], []

    def __call__(self, frames, log_mel):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(frames)
        self.heard.append(log_mel)
        bright, loud = frames[:, :, 0], log_mel.mean((2, 3, 4))[..., None, None] / 10
        logits = torch.stack([bright * (1 + c) / 2 + loud + bright.mean((1, 2, 3)) - c for c in range(self.classes)], 2)
        return logits                                               # (1, T, K, h, w)


def segmenter(run=None, size=(32, 32), clip=5, front_end=None, **about):
    run = run or Ear()
    return Segmenter(run, size, clip, run.classes, front_end or LogMel(), {"checkpoint": "fake", "runtime": "pytorch", **about})


def gradient(k, width=50, height=38):
    """A picture that is no flat colour, and differs from second to second."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([(x + 20 * k) % 256, y, 0 * x + 100], -1).astype(np.uint8)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Eight seconds of 5 pictures each, with stereo sound that changes."""
    sound = np.stack([tone(300, 16_000, 8) * np.linspace(0, 1, 8 * 16_000), tone(900, 16_000, 8, 0.2)])
    return film(tmp_path_factory.mktemp("films") / "clip.mp4", (gradient(k // 5) for k in range(40)), sound=sound, rate=16_000)


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.err


@pytest.fixture(scope="module")
def shapes_film(tmp_path_factory):
    """A clip of SoundingShapes and the same as a lossless video: one picture a second, its sound."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, "ms3", {"train": 1, "val": 1, "test": 1}, size=128, seed=0, workers=1)
    data = AVSBench(root, "ms3", "train", 128)
    pictures = [read_frame(path).permute(1, 2, 0).numpy() for path in data.clips[0].frames]
    path = film(root / "shapes.mkv", pictures, fps=1, sound=read_audio(data.clips[0].audio)[None].numpy(), rate=16_000,
                audio_codec="pcm_s16le", codec="ffv1", pixels="bgr0")
    return data, path


def test_masks_are_the_models_own(shapes_film, tmp_path, capsys):
    """Of a trained model on its own data: the dataset's frames and log-mels, straight through it, against what the command wrote."""
    data, path = shapes_film
    model = lav.load_model(TINY)
    with torch.inference_mode():
        logits = model(data[0]["frames"][None], data[0]["log_mel"][None]).logits[0]
    assert command(capsys, TINY, path, "--out", tmp_path, "--probabilities") == (0, "")
    folder = tmp_path / "shapes"
    masks = [np.array(Image.open(folder / "masks" / f"{k:06}.png")) for k in range(5)]
    assert len(list((folder / "masks").iterdir())) == 5 and 0.005 < np.mean(masks) / 255 < 0.5
    assert np.array_equal(np.stack(masks), (logits[:, 0] > 0).numpy() * np.uint8(255))
    maps = np.stack([np.load(folder / "probabilities" / f"{k:06}.npz")["probabilities"] for k in range(5)])
    assert maps.dtype == np.float16 and np.abs(maps - logits.sigmoid().numpy()).max() < 1e-3
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"] and [frame["time"] for frame in manifest["frames"]] == [0, 1, 2, 3, 4]
    assert [frame["marked"] for frame in manifest["frames"]] == pytest.approx([mask.mean() / 255 for mask in masks], abs=1e-6)
    assert manifest["asked"]["checkpoint"] == "tiny" and manifest["versions"]["torch"] and len(manifest["asked"]["sha256"]) == 2


def test_from_a_notebook(shapes_film):
    data, path = shapes_film
    model = lav.load_model(TINY).train()
    found = list(lav.predict.predict(lav.predict.load(model, size=64), path, fps=0.5))
    assert [one.time for one in found] == [0, 2, 4] and model.training and not torch.is_inference_mode_enabled()
    assert found[1].picture.shape == (128, 128, 3) and found[1].probabilities.shape == (1, 128, 128)
    assert np.array_equal(found[1].picture, read_frame(data.clips[0].frames[2]).permute(1, 2, 0).numpy())
    assert found[1].mask(0.2).mean() > found[1].mask().mean() > found[1].mask(0.9).mean() and set(np.unique(found[1].mask())) == {0, 1}


@pytest.mark.parametrize("front_end", [LogMel(), LogMel("published"), PANNsLogMel()])
@pytest.mark.parametrize("fps", [1, 2])
def test_what_the_model_sees_and_hears(clip, front_end, fps):
    """Frames by the dataset's own steps, and each front end's windows of the whole track; the last clip filled up by its last frame."""
    ear = Ear()
    found = list(predict(segmenter(ear, (48, 40), 5, front_end), clip, fps))
    times = torch.arange(8 * fps) / fps
    assert [one.time for one in found] == times.tolist()
    expected = front_end(read_audio(clip, front_end.sample_rate), times)
    heard, seen = torch.cat(ear.heard, 1)[0], torch.cat(ear.seen, 1)[0]
    missing = -len(times) % 5
    torch.testing.assert_close(heard[:len(times)], expected, rtol=0, atol=2e-4)
    assert all(torch.equal(part[-k - 1], part[len(times) - 1]) for part in (heard, seen) for k in range(missing))
    assert len(heard) == len(seen) == len(times) + missing and expected.std() > 0.5
    for k, one in enumerate(found):
        frame = torch.from_numpy(one.picture).permute(2, 0, 1)[None].float()
        frame = torch.nn.functional.interpolate(frame, (48, 40), mode="bilinear", antialias=True).round().clamp(0, 255) / 255
        torch.testing.assert_close(seen[k], ((frame - MEAN) / STD)[0], rtol=0, atol=1e-6)


def test_logits_grow_to_the_pictures_size(clip):
    ear = Ear(3)
    one = next(predict(segmenter(ear, (32, 40)), clip))
    logits = ear(ear.seen[0], ear.heard[0])[0, 0]
    expected = torch.nn.functional.interpolate(logits[None], (38, 50), mode="bilinear")[0].softmax(0)
    torch.testing.assert_close(one.probabilities, expected)
    assert np.array_equal(one.mask(), expected.argmax(0).numpy()) and len(np.unique(one.mask())) > 1


def test_more_classes_have_colours(clip, tmp_path):
    write(segmenter(Ear(3)), clip, tmp_path / "o", probabilities=True)
    image = Image.open(tmp_path / "o" / "masks" / "000000.png")
    found = next(predict(segmenter(Ear(3)), clip))
    assert image.mode == "P" and np.array_equal(np.array(image), found.mask())
    assert np.array_equal(np.array(image.convert("RGB")), voc_palette(3)[found.mask()])
    assert np.load(tmp_path / "o" / "probabilities" / "000007.npz")["probabilities"].shape == (3, 38, 50)
    with pytest.raises(ValueError, match="threshold is for one class; this model has 3"):
        write(segmenter(Ear(3)), clip, tmp_path / "p", threshold=0.4)


def test_the_overlay_is_a_video_that_browsers_play(clip, tmp_path):
    write(segmenter(), clip, tmp_path, fps=2)
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, audio.codec_context.name) == ("h264", "yuv420p", "aac")
        assert video.duration * video.time_base == 8 and video.average_rate == 2 and abs(audio.duration * audio.time_base - 8) < 0.1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    assert (tmp_path / "overlay.mp4").read_bytes().index(b"moov") < 100          # begins to play before all is there
    assert len(frames) == 16 and frames[0].shape == (38, 50, 3)
    for k in (0, 9, 15):
        mask = np.array(Image.open(tmp_path / "masks" / f"{k:06}.png")) // 255
        assert np.abs(frames[k].astype(int) - paint(gradient(k // 2), mask)).mean() < 12
    sound, original = read_audio(tmp_path / "overlay.mp4"), read_audio(clip)
    assert abs(len(sound) - len(original)) < 2000
    for start in (16_000, 100_000):
        assert sound[start:start + 8000].square().mean().sqrt() == pytest.approx(original[start:start + 8000].square().mean().sqrt(), rel=0.05)


def test_without_an_encoder_for_h264(clip, tmp_path, monkeypatch):
    real = av.codec.Codec
    monkeypatch.setattr("av.codec.Codec", lambda name, mode: real("no-such-codec" if name == "libx264" else name, mode))
    write(segmenter(), clip, tmp_path)
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4" and len(list(container.decode(video=0))) == 8


def test_paint():
    picture, mask = np.full((2, 2, 3), 200, np.uint8), np.array([[0, 1], [1, 0]], np.uint8)
    painted = paint(picture, mask)
    assert painted[0, 0].tolist() == [120] * 3 and painted[0, 1].tolist() == [(2 * 200 + 3 * c) // 5 for c in PAINT]
    assert paint(picture, mask * 2, 3)[0, 1].tolist() == [80, (400 + 3 * 128) // 5, 80]


@pytest.mark.parametrize("name,codec,channels,rate,audio,seconds", [
    ("a.webm", "libvpx", 2, 48_000, "libopus", 1.0), ("a.mov", "libx264", 1, 8000, "aac", 6.0), ("a.mkv", "mpeg4", 2, 96_000, "pcm_s16le", 3.0),
    ("b.mkv", "libx264", 6, 48_000, "aac", 3.0)])
def test_every_kind_of_file(tmp_path, name, codec, channels, rate, audio, seconds):
    """Odd sizes where the codec has them, sound shorter and longer than the three seconds of pictures."""
    side = 31 if codec == "mpeg4" else 32
    path = film(tmp_path / name, (gradient(k, 45 if codec == "mpeg4" else 46, side) for k in range(9)), fps=3, codec=codec,
                sound=[tone(400, rate, seconds)] * channels, rate=rate, audio_codec=audio)
    manifest = write(segmenter(), path, tmp_path / "o")
    assert len(manifest["frames"]) == 3 and manifest["video"]["sound"] == {"rate": rate, "channels": channels}
    assert Image.open(tmp_path / "o" / "masks" / "000002.png").size == (45 if codec == "mpeg4" else 46, side)
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        assert container.streams.video[0].frames == 3
        audio = container.streams.audio[0]
        assert float(audio.duration * audio.time_base) == pytest.approx(min(seconds, 3), abs=0.1)


def test_a_rotated_video(tmp_path):
    path = film(tmp_path / "phone.mp4", (gradient(0, 64, 48) for _ in range(5)), matrix=-90)
    manifest = write(segmenter(), path, tmp_path / "o")
    assert (manifest["video"]["width"], manifest["video"]["height"]) == (48, 64)
    assert Image.open(tmp_path / "o" / "masks" / "000000.png").size == (48, 64)
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


def test_no_sound_is_silence_and_is_said(tmp_path, capsys):
    path, ear = film(tmp_path / "mute.mp4", (gradient(k // 5) for k in range(10))), Ear()
    manifest = write(segmenter(ear), path, tmp_path / "o")
    assert manifest["heard"] == "silence" and manifest["video"]["sound"] is None and manifest["complete"]
    assert all(torch.all(heard == LogMel.silence) for heard in ear.heard)
    assert capsys.readouterr().err.splitlines() == [f"{path}: has no sound; the model hears silence."]
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        assert not container.streams.audio


def test_a_sound_track_that_holds_nothing_or_cannot_be_decoded(clip, tmp_path, capsys):
    empty = copied(clip, tmp_path / "empty.mkv", lambda kind, k, packet: packet if kind == "video" else None)
    with av.open(str(empty)) as container:
        assert len(container.streams.audio) == 1
    manifest = write(segmenter(), empty, tmp_path / "o")
    assert manifest["heard"] == "silence" and manifest["video"]["sound"] is None and "empty.mkv: has no sound" in capsys.readouterr().err
    noise = np.random.default_rng(0)
    path = film(tmp_path / "flac.mkv", map(flat, range(10)), sound=[tone(300, 48_000, 2)], rate=48_000, audio_codec="flac")
    broken = copied(path, tmp_path / "broken.mkv", lambda kind, k, packet: packet if kind == "video" else noise.bytes(packet.size))
    with pytest.raises(ValueError, match="broken.mkv: 21 of its 21 packets of sound cannot be decoded"):
        write(segmenter(), broken, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert write(segmenter(), broken, tmp_path / "p", audio=clip)["heard"] == "clip.mp4"


def test_other_sound_and_a_picture_with_sound(clip, tmp_path):
    other, ear = film(tmp_path / "other.mkv", [flat(0)], sound=[tone(700, 16_000, 3.2)], rate=16_000, audio_codec="pcm_s16le"), Ear()
    manifest = write(segmenter(ear), clip, tmp_path / "o", audio=other)
    assert manifest["heard"] == manifest["asked"]["audio"] == "other.mkv" and len(manifest["frames"]) == 8
    torch.testing.assert_close(torch.cat(ear.heard, 1)[0, :8], LogMel()(read_audio(other), torch.arange(8)), rtol=0, atol=1e-6)
    assert torch.all(torch.cat(ear.heard, 1)[0, 4:] == LogMel.silence)

    image = Image.fromarray(gradient(1))
    exif = image.getexif()
    exif[0x0112] = 6                                                # turn by 90 degrees to show it
    image.save(tmp_path / "photo.png", exif=exif)
    manifest = write(segmenter(), tmp_path / "photo.png", tmp_path / "p", audio=other, fps=2)
    assert [frame["time"] for frame in manifest["frames"]] == [0, 0.5, 1, 1.5, 2, 2.5, 3] and manifest["heard"] == "other.mkv"
    assert Image.open(tmp_path / "p" / "masks" / "000000.png").size == (38, 50)
    assert len(read_audio(tmp_path / "p" / "overlay.mp4")) == pytest.approx(3.2 * 16_000, rel=0.05)
    with pytest.raises(ValueError, match="a picture makes no sound"):
        write(segmenter(), tmp_path / "photo.png", tmp_path / "q")
    with pytest.raises(FileNotFoundError, match="absent.wav"):
        write(segmenter(), tmp_path / "photo.png", tmp_path / "q", audio=tmp_path / "absent.wav")
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("clips", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)])
def test_stopped_it_goes_on_with_the_same_bytes(clip, tmp_path, clips):
    options = {"fps": 1.5, "probabilities": True}
    write(segmenter(), clip, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=clips)), clip, tmp_path / "stopped", **options)
    assert len(list((tmp_path / "stopped" / "masks").iterdir())) == 5 * clips
    assert not json.loads((tmp_path / "stopped" / "manifest.json").read_text())["complete"]
    if clips:                                                       # killed within a clip, while a file was written
        (tmp_path / "stopped" / "masks" / f"{5 * clips - 1:06}.png").unlink()
        (tmp_path / "stopped" / "masks" / f".{5 * clips - 1:06}.png").write_bytes(b"half")
    ear = Ear()
    write(segmenter(ear), clip, tmp_path / "stopped", **options)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole") and len(contents(tmp_path / "whole")) == 12 + 12 + 2
    assert len(ear.seen) == 3 - max(0, clips - 1)                   # what was whole is not computed again


def test_stopped_in_the_overlay(clip, tmp_path, monkeypatch):
    write(segmenter(), clip, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lightavseg_core.predict.paint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        write(segmenter(), clip, tmp_path / "stopped")
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["manifest.json", "masks"]
    write(segmenter(), clip, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.fixture(scope="module")
def broken_midway(tmp_path_factory):
    """Of 40 pictures the last 25 cannot be decoded, which nobody knows before the end."""
    noise, folder = np.random.default_rng(0), tmp_path_factory.mktemp("films")
    path = film(folder / "good.mkv", map(flat, range(40)), codec="mjpeg", pixels="yuvj420p", sound=[tone(300, 16_000, 8)], rate=16_000)
    return copied(path, folder / "broken.mkv", lambda kind, k, packet: noise.bytes(packet.size) if kind == "video" and k > 14 else packet)


def test_a_broken_input_leaves_nothing(broken_midway, clip, tmp_path, capsys):
    ear = Ear()
    failed = write_all(segmenter(ear), [broken_midway, clip], tmp_path / "o", fps=5, probabilities=True)
    assert failed == [broken_midway] and len(ear.seen) == 2 + 8                             # masks of 2 s were there
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["clip"] and len(contents(tmp_path / "o" / "clip")) == 40 + 40 + 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lightavseg: {broken_midway}: 25 of its 40 packets of pictures cannot be decoded")


def test_what_others_put_there_stays(broken_midway, tmp_path):
    """Between an interruption and the second run, which finds that the input is broken."""
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=1)), broken_midway, tmp_path / "o", fps=5)
    for name in ("notes.txt", "masks/mine.png", "masks/1.png"):
        (tmp_path / "o" / name).write_text(name)
    (tmp_path / "o" / "masks" / ".000007.png").write_bytes(b"half")
    with pytest.raises(ValueError, match="25 of its 40"):
        write(segmenter(), broken_midway, tmp_path / "o", fps=5)
    assert contents(tmp_path / "o") == {name: name.encode() for name in ("notes.txt", "masks/mine.png", "masks/1.png")}


def test_more_frames_than_names(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("lightavseg_core.predict.MOST", 7)
    with pytest.raises(ValueError, match="clip.mp4: has more than 7 frames at 1 a second"):
        write(segmenter(), clip, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_damage_is_told_of(tmp_path, capsys):
    path = film(tmp_path / "good.mkv", map(flat, range(20)), codec="mjpeg", pixels="yuvj420p", sound=[tone(300, 48_000, 4)], rate=48_000,
                audio_codec="flac")
    broken = {"video": [5, 6, 7], "audio": [9]}
    path = copied(path, tmp_path / "damaged.mkv", lambda kind, k, packet: bytes(packet.size) if k in broken[kind] else packet)
    manifest = write(segmenter(), path, tmp_path / "o")
    assert manifest["damaged_packets"] == {"pictures": 3, "sound": 1} and manifest["complete"] and len(manifest["frames"]) == 4
    assert json.loads((tmp_path / "o" / "manifest.json").read_text()) == manifest
    page = (Path(__file__).parents[1] / "docs" / "predicting.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(manifest)      # its table names all that there is
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: 3 of 20 packets of pictures and 1 of 42 of sound cannot be decoded; they were skipped."]
    assert write(segmenter(), tmp_path / "good.mkv", tmp_path / "p")["damaged_packets"] == {"pictures": 0, "sound": 0}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where,most", [("maps", 1500), ("overlay", 10_000)])
def test_a_full_disk_is_not_the_inputs_fault(clip, tmp_path, capsys, where, most):
    """No file may grow over so many bytes, as on a full disk: what is there stays, and the next run goes on."""
    resource = pytest.importorskip("resource")
    write(segmenter(), clip, tmp_path / "whole" / "clip", probabilities=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        failed = write_all(segmenter(), [clip], tmp_path / "o", probabilities=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line, = capsys.readouterr().err.splitlines()
    assert failed == [clip] and line.startswith(f"lightavseg: {clip}: ") and "File too large" in line and "run the same again" in line
    left = contents(tmp_path / "o" / "clip")
    assert len(left) == (1 if where == "maps" else 1 + 8 + 8) and not json.loads(left["manifest.json"])["complete"]
    assert write_all(segmenter(), [clip], tmp_path / "o", probabilities=True) == [] and contents(tmp_path / "o") == contents(tmp_path / "whole")


def test_a_disk_that_fails_to_be_read(tmp_path, monkeypatch, capsys):
    """A network drive that goes away, say: nobody knows whether the input is broken, so what is there stays."""
    class Drive(io.FileIO):
        gone = False

        def read(self, size=-1):
            if Drive.gone:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    class Leaving(Ear):
        def __call__(self, frames, log_mel):
            Drive.gone = True
            return super().__call__(frames, log_mel)

    noise = np.random.default_rng(0)
    path = film(tmp_path / "a.mkv", (noise.integers(0, 255, (96, 128, 3), np.uint8) for k in range(80)), codec="mjpeg", pixels="yuvj420p")
    real = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda file, *args, **options: Drive(file) if file == path else real(file, *args, **options))
        assert write_all(segmenter(Leaving()), [path], tmp_path / "o", fps=5) == [path]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lightavseg: {path}: cannot be decoded as video (Input/output error)")
    left = contents(tmp_path / "o" / "a")
    assert len(left) > 5 and not json.loads(left["manifest.json"])["complete"]
    assert write_all(segmenter(), [path], tmp_path / "o", fps=5) == [] and len(contents(tmp_path / "o" / "a")) == 80 + 2


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_bytes(tmp_path, capsys):
    """The real command, killed without warning when it has written some masks."""
    path = film(tmp_path / "film.mp4", (gradient(k, 320, 240) for k in range(60)), fps=2, sound=[tone(300, 16_000, 30)], rate=16_000)
    arguments = [str(TINY), str(path), "--fps", "2", "--size", "64", "--out"]
    masks = tmp_path / "killed" / "film" / "masks"
    script = f"from lightavseg_core import cli; cli.main({['predict', *arguments, str(tmp_path / 'killed')]})"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        while len(list(masks.glob("0*.png"))) < 12 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert 12 <= len(list(masks.glob("0*.png"))) < 60 and process.returncode < 0
    assert [command(capsys, *arguments, tmp_path / folder) for folder in ("killed", "whole")] == [(0, "")] * 2
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole") and len(contents(tmp_path / "whole")) == 62


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_clip_folders_of_avsbench(own_copy, tmp_path, subset):
    """A clip's folder of frames and its WAV, in each of the three layouts: what the dataset class gives of them, and masks at their size."""
    data, ear = AVSBench(own_copy, subset, "test", 32), Ear()
    clip = data.clips[0]
    for path in filter(None, clip.frames + clip.masks):             # AVSBench's own are no squares
        Image.open(path).resize((80, 50), Image.Resampling.NEAREST).save(path)
    assert write_all(segmenter(ear), [clip.frames[0].parent], tmp_path / "o", audio=clip.audio) == []
    folder = tmp_path / "o" / clip.frames[0].parent.name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [frame["time"] for frame in manifest["frames"]] == list(range(len(clip.frames))) and manifest["heard"] == clip.audio.name
    assert [Image.open(path).size for path in (folder / "masks").iterdir()] == [(80, 50)] * len(clip.frames)
    item, own = data[0], slice(len(clip.frames))
    torch.testing.assert_close(torch.cat(ear.heard, 1)[0, own], item["log_mel"], rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat(ear.seen, 1)[0, own], item["frames"], rtol=0, atol=1e-6)
    assert len(read_audio(folder / "overlay.mp4")) == pytest.approx(len(clip.frames) * 16_000, abs=2000)


def test_frames_in_the_order_of_their_numbers(clip, tmp_path, capsys):
    """Ten frames of three sizes, half a second apart; others' files between them."""
    folder = tmp_path / "x.mp4"                                     # as MS3 names its clips
    folder.mkdir()
    for k in range(1, 11):
        Image.fromarray(flat(k, 40 + 10 * (k % 3), 48)).save(folder / f"x.mp4_{k}.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "list.txt").write_text("x")
    assert [path.name for path in frames_in(folder)] == [f"x.mp4_{k}.png" for k in range(1, 11)]
    found, widths = list(predict(segmenter(), folder, 2, clip)), [40 + 10 * (k % 3) for k in range(1, 11)]
    assert [number(one.picture) for one in found] == list(range(1, 11)) and [one.time for one in found] == [k / 2 for k in range(10)]
    assert [one.mask().shape for one in found] == [(48, width) for width in widths]
    assert write_all(segmenter(), [folder], tmp_path / "o", audio=clip, fps=2) == []
    assert [Image.open(path).width for path in sorted((tmp_path / "o" / "x.mp4" / "masks").iterdir())] == widths
    Image.fromarray(flat(3, 50, 48)).save(folder / "x.mp4_3.png")
    with pytest.raises(ValueError, match="other content of input_sha256"):
        write(segmenter(), folder, tmp_path / "o" / "x.mp4", fps=2, audio=clip)
    (folder / "x.mp4_7.png").write_bytes((folder / "x.mp4_7.png").read_bytes()[:90])
    capsys.readouterr()
    assert write_all(segmenter(), [folder], tmp_path / "p", audio=clip) == [folder] and not list((tmp_path / "p").iterdir())
    line, = capsys.readouterr().err.splitlines()
    assert "x.mp4_7.png: not a readable picture" in line


@pytest.mark.parametrize("fps", [0.2, 1, 2.5, 29.97])
def test_times_are_those_of_the_rate(tmp_path, fps):
    """Each mask's time, and the picture of that time, of a film of 25 pictures a second."""
    path = film(tmp_path / "a.mp4", (flat(k // 10 % 64) for k in range(300)), fps=25, sound=[tone(300, 16_000, 12)], rate=16_000)
    manifest = write(segmenter(), path, tmp_path / "o", fps=fps)
    times = [frame["time"] for frame in manifest["frames"]]
    assert times == pytest.approx([k / fps for k in range(math.ceil(12 * fps))], abs=1e-6) and manifest["asked"]["fps"] == fps
    # The film's last pictures too: after 11.97 s none is new.
    assert [number(one.picture) for one in predict(segmenter(), path, fps)] == [int((t + 0.001) * 25) // 10 for t in times]
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        assert float(container.streams.video[0].duration * container.streams.video[0].time_base) == pytest.approx(len(times) / fps, abs=1e-3)


def test_the_overlay_has_the_shape_of_the_source(tmp_path):
    """720 x 576 of a DVD is shown as 16:9; the masks keep the stored pixels."""
    path = film(tmp_path / "dvd.mkv", [flat(1, 90, 72)] * 5, aspect=Fraction(64, 45))
    assert write(segmenter(), path, tmp_path / "o")["video"]["pixel_aspect"] == "64/45"
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.display_aspect_ratio) == (90, 72, Fraction(16, 9))
    assert Image.open(tmp_path / "o" / "masks" / "000000.png").size == (90, 72)


def test_a_folder_of_other_arguments_is_refused(clip, tmp_path):
    write(segmenter(), clip, tmp_path / "o")
    before = contents(tmp_path / "o")
    ear = Ear(stop_after=0)
    write(segmenter(ear), clip, tmp_path / "o")                     # done already: nothing runs
    other = film(tmp_path / "clip.mp4", (gradient(k) for k in range(5)))
    for words, call in {"fps was 1.0, is 2.0": lambda: write(segmenter(), clip, tmp_path / "o", fps=2),
                        "threshold was 0.5, is 0.6": lambda: write(segmenter(), clip, tmp_path / "o", threshold=0.6),
                        "precision was None, is bf16": lambda: write(segmenter(precision="bf16"), clip, tmp_path / "o"),
                        "other content of input_sha256": lambda: write(segmenter(), other, tmp_path / "o")}.items():
        with pytest.raises(ValueError, match=words):
            call()
    assert contents(tmp_path / "o") == before
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".manifest.json").write_text("{")        # in its very first writing
    write(segmenter(), clip, tmp_path / "killed")
    assert contents(tmp_path / "killed") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for folder in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(ValueError, match="Give another --out"):
            write(segmenter(), clip, folder)
    (tmp_path / "o" / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="not a manifest"):
        write(segmenter(), clip, tmp_path / "o")


def test_broken_ones_among_many(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        film(tmp_path / folder / "one.mp4", (gradient(k, 64, 48) for k in range(4)), fps=2, sound=[tone(300, 16_000, 2)], rate=16_000)
    (tmp_path / "a" / "broken.mp4").write_bytes((tmp_path / "a" / "one.mp4").read_bytes()[:900])
    (tmp_path / "a" / "notes.txt").write_text("not a video")
    code, error = command(capsys, TINY, tmp_path / "a", tmp_path / "b" / "one.mp4", "--out", tmp_path / "o")
    assert code == 1 and len(error.splitlines()) == 1 and error.startswith(f"lightavseg: {tmp_path}/a/broken.mp4: cannot be decoded as video")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["one", "one-2"]
    assert all(json.loads((tmp_path / "o" / name / "manifest.json").read_text())["complete"] for name in ("one", "one-2"))
    assert command(capsys, TINY, tmp_path / "b", "--out", tmp_path / "o") == (0, "")        # the same file: done already


def test_inputs_and_their_names(tmp_path):
    for name in ("x.mp4", "x.MOV", "x-2.mkv", ".hidden.mp4", "cover.jpg", "sound.wav"):
        (tmp_path / name).touch()
    found = inputs_of([tmp_path / "x.mp4", tmp_path, tmp_path / "sound.wav"])
    assert [path.name for path in found] == ["x.mp4", "x-2.mkv", "x.MOV", "sound.wav"]
    assert names_of(found) == ["x", "x-2", "x-3", "sound"] and names_of([Path("A.mp4"), Path("a.mp4")]) == ["A", "a-2"]


def test_names_stay_in_the_folder(clip, tmp_path, capsys):
    """Names of dots, of which the stem leads to the folder itself or to the one above it, where own files are."""
    for name in ("...mp4", "..mp4", ". .mp4", ".hidden.mp4", "end. .mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "overlay.mp4").write_text("mine")
    before, videos = contents(tmp_path), [tmp_path / name for name in ("...mp4", "..mp4", ". .mp4", ".hidden.mp4", "end. .mp4")]
    assert names_of([*videos, Path("/")]) == ["video", "video-2", "video-3", "hidden", "end", "video-4"]
    assert write_all(segmenter(), videos[:1], tmp_path / "new") == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["video"] and contents(tmp_path).items() >= before.items()


MISTAKES = {
    "no such input": (["{tiny}", "{tmp}/absent.mp4"], "absent.mp4: no such file or folder"),
    "frames": (["{tiny}", "{tmp}/frames"], "holds no video, but 2 pictures. Give their sound with --audio FILE"),
    "an empty folder": (["{tiny}", "{tmp}/empty"], "holds no video. Give"),
    "two inputs, one sound": (["{tiny}", "{clip}", "{tmp}/frames/0.png", "--audio", "{clip}"], "--audio goes with one input; found 2"),
    "no frames": (["{tiny}", "{clip}", "--fps", "0"], "fps is 0.0"),
    "not a number": (["{tiny}", "{clip}", "--fps", "nan"], "fps is nan"),
    "a wrong threshold": (["{tiny}", "{clip}", "--threshold", "50"], "threshold is 50.0"),
    "too small": (["{tiny}", "{clip}", "--size", "8"], "at least 32"),
    "no such checkpoint": (["{tmp}/absent", "{clip}"], "absent"),
    "not exported yet": (["{tiny}", "{clip}", "--runtime", "onnx"], "`lightavseg export`"),
    "another runtime": (["{tmp}/m.xml", "{clip}", "--runtime", "onnx"], "runs on openvino, not on onnx"),
    "no such export": (["{tmp}/absent.pte", "{clip}"], "absent.pte"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_in_one_line(clip, tmp_path, capsys, case):
    (tmp_path / "empty").mkdir()
    (tmp_path / "frames").mkdir()
    for k in range(2):
        Image.fromarray(gradient(k)).save(tmp_path / "frames" / f"{k}.png")
    arguments, words = MISTAKES[case]
    code, error = command(capsys, *(part.format(tiny=TINY, tmp=tmp_path, clip=clip) for part in arguments), "--out", tmp_path / "o")
    assert code == 2 and len(error.splitlines()) == 1 and error.startswith("lightavseg: ") and words in error
    assert not (tmp_path / "o").exists()


def test_huge_pictures_are_refused(tmp_path, clip, capsys):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    failed = write_all(segmenter(), [tmp_path / "huge.png"], tmp_path / "o", audio=clip)
    error = capsys.readouterr().err
    assert failed == [tmp_path / "huge.png"] and "3600000000 pixels" in error and len(error.splitlines()) == 1 and not (tmp_path / "o").exists()


def test_a_run_of_train_and_the_models_choices(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to(TINY)
    asked = []
    from lightavseg_core import execution
    real = execution.prepare
    monkeypatch.setattr(execution, "prepare", lambda model, device, precision, compile: asked.append((precision, compile)) or real(model, device))
    found = load(tmp_path / "run", "pytorch", "bf16", "default", 64)
    assert (found.size, found.clip, found.num_classes, asked) == ((64, 64), 5, 1, [("bf16", "default")])
    assert found.about["sha256"] == load(TINY).about["sha256"] and found.front_end.sample_rate == 16_000


def test_a_model_in_memory_that_has_learned_is_another(clip, tmp_path):
    model = lav.load_model(TINY)
    write(load(model, size=64), clip, tmp_path / "o")
    write(load(lav.load_model(TINY), size=64), clip, tmp_path / "o")                        # the same numbers: done already
    assert load(model).about["sha256"] != load(lav.create_model("lightavseg", preset="tiny")).about["sha256"]
    with torch.no_grad():
        list(model.parameters())[-1].view(-1)[0] += 1e-3
    with pytest.raises(ValueError, match="other content of sha256"):
        write(load(model, size=64), clip, tmp_path / "o")
    learned = load(model).about["sha256"]
    model.config = replace(model.config, visual="another")
    assert load(model).about["sha256"] != learned


def test_an_exported_file(clip, tmp_path, monkeypatch):
    """Its metadata say all: T of 3, a size that is no square, the front end of PANNs."""
    meta = SimpleNamespace(size=(32, 48), seconds=3, front_end="panns_mobilenetv2", runtime="onnx", precision="int8", num_classes=1,
                           method="lightavseg", source="tiny")

    class Exported(Ear):
        metadata = meta

    (tmp_path / "m.onnx").write_bytes(b"graph")
    monkeypatch.setattr("lightavseg_core.segmenter.load_exported", lambda path: Exported())
    found = load(tmp_path / "m.onnx")
    assert found.about["precision"] == "int8" and found.about["runtime"] == "onnx" and isinstance(found.front_end, PANNsLogMel)
    results = list(predict(found, clip))
    assert len(results) == 8 and [frames.shape for frames in found.run.seen] == [(1, 3, 3, 32, 48)] * 3
    assert [heard.shape for heard in found.run.heard] == [(1, 3, 1, 101, 64)] * 3
    for options in ({"size": 64}, {"precision": "bf16"}, {"compile": "default"}):
        with pytest.raises(ValueError, match=r"size \(48 x 32\) and precision \(int8\) were fixed"):
            load(tmp_path / "m.onnx", **options)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_are_not_read(clip, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.mp4")
    for arguments, expected in (([tmp_path / "pipe.mp4"], 2), ([clip, "--audio", tmp_path / "pipe.mp4"], 1), ([tmp_path, "--fps", 1], 2)):
        code, error = command(capsys, TINY, *arguments, "--out", tmp_path / "o")
        assert code == expected and len(error.splitlines()) == 1 and ("a pipe or a device" in error or "holds no video" in error)
    assert not (tmp_path / "o").exists()


def noisy_film(path, seconds):
    sound = np.random.default_rng(0).uniform(-0.2, 0.2, (1, seconds * 16_000))
    return film(path, (gradient(k, 64, 48) for k in range(2 * seconds)), fps=2, codec="mpeg4", sound=sound, rate=16_000, audio_codec="pcm_s16le")


def test_memory_does_not_grow_with_length(tmp_path):
    """What Python allocates at its peak, through all steps, of 20 s and of 60 s."""
    def forget(frames, log_mel):
        return frames[:, :, :1] + log_mel.mean((2, 3, 4))[..., None, None, None]

    peaks = []
    for seconds in (20, 60):
        path = noisy_film(tmp_path / f"{seconds}.mkv", seconds)
        tracemalloc.start()
        write(Segmenter(forget, (32, 32), 5, 1, LogMel(), {}), path, tmp_path / f"o{seconds}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000, peaks                     # 40 s more of sound alone would be 2.6 MB


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's largest memory")
def test_memory_of_ten_minutes(tmp_path):
    """The whole process, with FFmpeg's and torch's own memory: 10 s against 10 min."""
    # Not getrusage or wait4: after an exec their maximum is still that of the process which started this one.
    script = ("import re, sys; from pathlib import Path; from lightavseg_core import cli\n"
              "try: cli.main(sys.argv[1:])\n"
              "except SystemExit as exit: print(exit.code or 0, re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])")
    peaks = []
    for seconds in (10, 600):
        path = noisy_film(tmp_path / f"{seconds}.mkv", seconds)
        done = subprocess.run([sys.executable, "-c", script, "predict", TINY, path, "--out", tmp_path / "o", "--size", "64"], text=True,
                              capture_output=True, check=True)
        code, peak = map(int, done.stdout.split())
        assert code == 0 and len(list((tmp_path / "o" / str(seconds) / "masks").iterdir())) == seconds
        peaks.append(peak / 1024)
    assert peaks[1] < 1.05 * peaks[0], peaks                        # MiB; the decoded pictures and sound alone would be 50
