"""`predict`: the model's own masks and the overlay of them, in a stream."""

import gc
import json
import math
import subprocess
import sys
import tracemalloc
import weakref
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from helpers.ear import TINY, Ear, command, gradient, mask, masks, overlay, segmenter
from helpers.films import film, flat, number, sounding
from helpers.tiny import Largest
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.data.audio import LogMel, PANNsLogMel
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.images import MEAN, STD, read_picture
from lightavseg_core.data.palette import voc_palette
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.deploy.eager import prepare
from lightavseg_core.video import inputs
from lightavseg_core.video.overlay import PAINT, paint
from lightavseg_core.video.prediction import predict, write
from lightavseg_core.video.segmenter import Segmenter, load


@pytest.fixture(scope="module")
def shapes_film(tmp_path_factory):
    """A clip of SoundingShapes and the same as a lossless video: one picture a second, its sound."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, "ms3", {"train": 1, "val": 1, "test": 1}, size=128, seed=0, workers=1)
    data = AVSBench(root, "ms3", "train", 128)
    clip = data.clips[0]
    pictures, sound = map(read_picture, clip.frames), read_audio(clip.audio)[None].numpy()
    return data, film(root / "shapes.mkv", pictures, fps=1, sound=sound, rate=16_000, codec="ffv1")


@pytest.mark.slow
def test_masks_are_the_models_own(shapes_film, tmp_path, capsys):
    """Of a trained model on its own data: the dataset's frames and log-mels, straight through it, against
    what the command wrote."""
    data, path = shapes_film
    model = lav.load_model(TINY)
    with torch.inference_mode():
        logits = model(data[0]["frames"][None], data[0]["log_mel"][None]).logits[0]
    assert command(capsys, TINY, path, "--out", tmp_path, "--probabilities") == (0, "")
    folder = tmp_path / "shapes"
    found = np.stack([mask(folder, k) for k in range(5)])
    assert masks(folder) == 5 and 0.005 < found.mean() / 255 < 0.5
    assert np.array_equal(found, (logits[:, 0] > 0).numpy() * np.uint8(255))
    files = [folder / "probabilities" / f"{k:06}.npz" for k in range(5)]
    maps = np.stack([np.load(file)["probabilities"] for file in files])
    assert maps.dtype == np.float16 and np.abs(maps - logits.sigmoid().numpy()).max() < 1e-3
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"] and [frame["time"] for frame in manifest["frames"]] == [0, 1, 2, 3, 4]
    marked = [frame["marked"] for frame in manifest["frames"]]
    assert marked == pytest.approx((found / 255).mean((1, 2)), abs=1e-6)
    assert manifest["asked"]["checkpoint"] == "tiny" and len(manifest["asked"]["sha256"]) == 2
    assert manifest["versions"]["torch"]


@pytest.mark.slow
def test_from_a_notebook(shapes_film):
    data, path = shapes_film
    model = lav.load_model(TINY).train()
    found = list(lav.video.predict(lav.video.load(model, size=64), path, fps=0.5))
    assert [one.time for one in found] == [0, 2, 4]
    assert model.training and not torch.is_inference_mode_enabled()
    assert found[1].picture.shape == (128, 128, 3) and found[1].probabilities.shape == (1, 128, 128)
    assert np.array_equal(found[1].picture, read_picture(data.clips[0].frames[2]))
    assert found[1].mask(0.2).mean() > found[1].mask().mean() > found[1].mask(0.9).mean()
    assert set(np.unique(found[1].mask())) == {0, 1}


@pytest.mark.parametrize("front_end", [LogMel(), LogMel("published"), PANNsLogMel()])
@pytest.mark.parametrize("fps", [1, 2])
def test_what_the_model_sees_and_hears(clip, front_end, fps):
    """Frames by the dataset's own steps, and each front end's windows of the whole track; the last clip
    filled up by its last frame."""
    ear = Ear()
    found = list(predict(segmenter(ear, (48, 40), 5, front_end), clip, fps))
    times = torch.arange(8 * fps) / fps
    assert [one.time for one in found] == times.tolist()
    expected = front_end(read_audio(clip, front_end.sample_rate), times)
    heard, seen = torch.cat(ear.heard, 1)[0], torch.cat(ear.seen, 1)[0]
    missing = -len(times) % 5
    torch.testing.assert_close(heard[: len(times)], expected, rtol=0, atol=2e-4)
    for part in (heard, seen):
        assert len(part) == len(times) + missing
        assert all(torch.equal(filled, part[len(times) - 1]) for filled in part[len(times) :])
    assert expected.std() > 0.5
    for k, one in enumerate(found):
        frame = torch.from_numpy(one.picture).permute(2, 0, 1)[None].float()
        frame = torch.nn.functional.interpolate(frame, (48, 40), mode="bilinear", antialias=True)
        frame = frame[0].round().clamp(0, 255) / 255
        torch.testing.assert_close(seen[k], (frame - MEAN) / STD, rtol=0, atol=1e-6)


def test_logits_grow_to_the_pictures_size(clip):
    ear = Ear(3)
    one = next(predict(segmenter(ear, (32, 40)), clip))
    logits = ear(ear.seen[0], ear.heard[0])[0, 0]
    expected = torch.nn.functional.interpolate(logits[None], (38, 50), mode="bilinear")[0].softmax(0)
    torch.testing.assert_close(one.probabilities, expected)
    assert np.array_equal(one.mask(), expected.argmax(0).numpy()) and len(np.unique(one.mask())) > 1


def test_more_classes_have_colours(clip, tmp_path):
    write(segmenter(Ear(3)), clip, tmp_path / "o", probabilities=True)
    image = mask(tmp_path / "o")
    found = next(predict(segmenter(Ear(3)), clip))
    assert image.mode == "P" and np.array_equal(np.array(image), found.mask())
    assert np.array_equal(np.array(image.convert("RGB")), voc_palette(3)[found.mask()])
    maps = np.load(tmp_path / "o" / "probabilities" / "000007.npz")
    assert maps["probabilities"].shape == (3, 38, 50)
    with pytest.raises(ValueError, match="threshold is for one class; this model has 3"):
        write(segmenter(Ear(3)), clip, tmp_path / "p", threshold=0.4)


def test_the_overlay_is_a_video_that_browsers_play(clip, tmp_path):
    write(segmenter(), clip, tmp_path, fps=2)
    with overlay(tmp_path) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        codec = video.codec_context
        assert (codec.name, codec.pix_fmt, audio.codec_context.name) == ("h264", "yuv420p", "aac")
        assert video.duration * video.time_base == 8 and video.average_rate == 2
        assert abs(audio.duration * audio.time_base - 8) < 0.1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    # It begins to play before all is there.
    assert (tmp_path / "overlay.mp4").read_bytes().index(b"moov") < 100
    assert len(frames) == 16 and frames[0].shape == (38, 50, 3)
    for k in (0, 9, 15):
        painted = paint(gradient(k // 2), np.array(mask(tmp_path, k)) // 255)
        assert np.abs(frames[k].astype(int) - painted).mean() < 12
    sound, original = read_audio(tmp_path / "overlay.mp4"), read_audio(clip)
    assert abs(len(sound) - len(original)) < 2000
    for start in (16_000, 100_000):
        found, expected = (part[start : start + 8000].square().mean().sqrt() for part in (sound, original))
        assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("stopped", [False, True])
def test_pictures_are_decoded_once(clip, tmp_path, monkeypatch, stopped):
    """For masks and overlay together; so too where some masks are there already."""
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            write(segmenter(Ear(stop_after=1)), clip, tmp_path)
    tallies, real = [], inputs.read_frames

    def read_frames(path, fps, tally):
        tallies.append(tally)
        return real(path, fps, tally)

    monkeypatch.setattr(inputs, "read_frames", read_frames)
    assert len(write(segmenter(), clip, tmp_path)["frames"]) == 8
    assert [tally.read for tally in tallies] == [40]


def test_paint():
    picture, marked = np.full((2, 2, 3), 200, np.uint8), np.array([[0, 1], [1, 0]], np.uint8)
    painted = paint(picture, marked)
    assert painted[0, 0].tolist() == [120] * 3
    assert painted[0, 1].tolist() == [(2 * 200 + 3 * c) // 5 for c in PAINT]
    assert paint(picture, marked * 2, 3)[0, 1].tolist() == [80, (400 + 3 * 128) // 5, 80]
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)  # value, of which each is painted
    for classes, index in ((1, 1), (71, 70)):
        colour = np.array(PAINT if classes == 1 else voc_palette(71)[70], int)
        found = paint(every, np.full((16, 16), index, np.uint8), classes)
        assert np.array_equal(found, (2 * every.astype(int) + 3 * colour) // 5)
    assert np.array_equal(paint(every, np.zeros((16, 16), np.uint8)), 3 * every.astype(int) // 5)


def test_masks_without_an_overlay(clip, tmp_path):
    for wanted in (True, False):
        manifest = write(segmenter(), clip, tmp_path / f"{wanted}", overlay=wanted)
        assert manifest["complete"] and manifest["asked"]["overlay"] is wanted
        assert (tmp_path / f"{wanted}" / "overlay.mp4").exists() is wanted
    files = [sorted((tmp_path / name / "masks").iterdir()) for name in ("True", "False")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


@pytest.mark.parametrize("fps,seconds", [(0.2, 6), (1, 2), (2.5, 2), (29.97, 2)])
@pytest.mark.slow
def test_times_are_those_of_the_rate(tmp_path, fps, seconds):
    """Each mask's time, and the picture of that time, of a film of 25 pictures a second."""
    pictures = (flat(k // 10) for k in range(25 * seconds))
    path = film(tmp_path / "a.mp4", pictures, fps=25, **sounding(seconds))
    manifest = write(segmenter(), path, tmp_path / "o", fps=fps)
    times = [frame["time"] for frame in manifest["frames"]]
    assert times == pytest.approx([k / fps for k in range(math.ceil(seconds * fps))], abs=1e-6)
    assert manifest["asked"]["fps"] == fps
    # The film's last pictures too: none is new in its last 0.03 s.
    numbers = [number(one.picture) for one in predict(segmenter(), path, fps)]
    assert numbers == [int((time + 0.001) * 25) // 10 for time in times]
    with overlay(tmp_path / "o") as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(len(times) / fps, abs=1e-3)


def test_the_overlay_has_the_shape_of_the_source(tmp_path):
    """720 x 576 of a DVD is shown as 16:9; the masks keep the stored pixels."""
    path = film(tmp_path / "dvd.mkv", [flat(1, 90, 72)] * 5, aspect=Fraction(64, 45))
    assert write(segmenter(), path, tmp_path / "o")["video"]["pixel_aspect"] == "64/45"
    with overlay(tmp_path / "o") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.display_aspect_ratio) == (90, 72, Fraction(16, 9))
    assert mask(tmp_path / "o").size == (90, 72)


@pytest.mark.parametrize("encoder", ["h264", "mpeg4"])
@pytest.mark.slow
def test_pictures_too_wide_for_the_encoder(clip, tmp_path, monkeypatch, encoder):
    """The overlay is made smaller, the masks are not; where there is none after all, the masks are made all
    the same. MPEG-4 is for an FFmpeg without H.264."""
    if encoder == "mpeg4":
        real = av.codec.Codec
        monkeypatch.setattr("av.codec.Codec", lambda name, mode: real(f"no {name}", mode))
    wide = tmp_path / "wide"
    wide.mkdir()
    for k in range(3):
        Image.fromarray(gradient(k, 17_000, 64)).save(wide / f"{k}.png")
    words = r"overlay.mp4: cannot be written \(.*\). The masks are complete."
    with monkeypatch.context() as patched, pytest.raises(ValueError, match=words):
        patched.setattr("lightavseg_core.video.overlay.SIDE", 20_000)
        write(segmenter(clip=2), wide, tmp_path / "o", audio=clip)
    assert masks(tmp_path / "o") == 3
    nothing_runs = Ear(stop_after=0)
    assert write(segmenter(nothing_runs, clip=2), wide, tmp_path / "o", audio=clip)["complete"]
    assert mask(tmp_path / "o", 1).size == (17_000, 64)
    with overlay(tmp_path / "o") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == encoder and len(list(container.decode(video=0))) == 3
        assert (stream.width, stream.height) == (8190, 32)


def test_memory_does_not_grow_with_classes(tmp_path):
    """The masks of 71 classes are those of all probabilities, which at the picture's size are made only where
    they are asked for."""
    path = film(tmp_path / "a.mkv", [gradient(0, 500, 380)] * 5)
    write(segmenter(Ear(71)), path, tmp_path / "o")
    with Largest() as largest:  # of this thread
        for found in predict(segmenter(Ear(71)), path):
            found.mask()
    assert 380 * 500 <= largest.elements <= 3 * 380 * 500
    one = next(predict(segmenter(Ear(71)), path))
    assert one.probabilities.shape == (71, 380, 500) and len(np.unique(one.mask())) > 1
    # After softmax two may be equal.
    assert (one.probabilities.argmax(0).numpy() == one.mask()).mean() > 0.9999
    assert np.array_equal(np.array(mask(tmp_path / "o")), one.mask())


@pytest.mark.slow
def test_a_run_of_train_and_the_models_choices(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to(TINY)
    asked = []

    def noted(model, device, precision, compile):
        asked.append((precision, compile))
        return prepare(model, device)

    monkeypatch.setattr("lightavseg_core.video.segmenter.prepare", noted)
    found = load(tmp_path / "run", "pytorch", "bf16", "default", 64)
    assert (found.size, found.clip, found.num_classes, asked) == ((64, 64), 5, 1, [("bf16", "default")])
    assert found.about["sha256"] == load(TINY).about["sha256"] and found.front_end.sample_rate == 16_000


@pytest.mark.slow
def test_a_model_in_memory_that_has_learned_is_another(tmp_path):
    path = film(tmp_path / "a.mkv", [flat(0)])
    model = lav.load_model(TINY)
    write(load(model, size=32), path, tmp_path / "o")
    write(load(deepcopy(model), size=32), path, tmp_path / "o")  # the same numbers: done already
    with torch.no_grad():
        list(model.parameters())[-1].view(-1)[0] += 1e-3
    with pytest.raises(ValueError, match="other content of sha256"):
        write(load(model, size=32), path, tmp_path / "o")
    learned = load(model).about["sha256"]
    model.config = replace(model.config, visual="another")
    assert load(model).about["sha256"] != learned


def test_an_exported_file(clip, tmp_path, monkeypatch):
    """Its metadata say all: T of 3, a size that is no square, the front end of PANNs."""

    class Exported(Ear):
        metadata = SimpleNamespace(
            size=(32, 48),
            seconds=3,
            front_end="panns_mobilenetv2",
            runtime="onnx",
            precision="int8",
            num_classes=1,
            method="lightavseg",
            source="tiny",
        )

    (tmp_path / "m.onnx").write_bytes(b"graph")
    monkeypatch.setattr("lightavseg_core.video.segmenter.load_exported", lambda path: Exported())
    found = load(tmp_path / "m.onnx")
    assert found.about["precision"] == "int8" and found.about["runtime"] == "onnx"
    assert isinstance(found.front_end, PANNsLogMel)
    assert len(list(predict(found, clip))) == 8
    assert [frames.shape for frames in found.run.seen] == [(1, 3, 3, 32, 48)] * 3
    assert [heard.shape for heard in found.run.heard] == [(1, 3, 1, 101, 64)] * 3
    for options in ({"size": 64}, {"precision": "bf16"}, {"compile": "default"}):
        with pytest.raises(ValueError, match=r"size \(48 x 32\) and precision \(int8\) were fixed"):
            load(tmp_path / "m.onnx", **options)


def noisy_film(path, seconds, width=64, height=48):
    """A picture a second."""
    sound = np.random.default_rng(0).uniform(-0.2, 0.2, (1, seconds * 16_000))
    pictures = (gradient(k, width, height) for k in range(seconds))
    return film(path, pictures, fps=1, codec="mpeg4", sound=sound, rate=16_000)


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path, monkeypatch):
    """What Python allocates at its peak, through all steps, of 5 s and of 40 s; and how many pictures there
    are at a time, whose memory is FFmpeg's.

    Python's is that of the whole process: a table of its own that grows just then, or another thread, may add
    a megabyte. So the pictures are large: 35 more overlays are 8.1 MB, the masks 2.7 and the sound 2.2 MB.
    """
    pictures, alive, real = [], [], inputs.read_frames

    def read_frames(path, fps, tally):
        for time, picture in real(path, fps, tally):
            pictures.append(weakref.ref(picture))
            alive.append(sum(one() is not None for one in pictures))
            yield time, picture

    def forget(frames, log_mel):
        return frames[:, :, :1] + log_mel.mean((2, 3, 4))[..., None, None, None]

    peaks = []
    monkeypatch.setattr(inputs, "read_frames", read_frames)
    for seconds in (5, 40):
        path = noisy_film(tmp_path / f"{seconds}.mkv", seconds, 320, 240)
        gc.collect()
        tracemalloc.start()
        write(Segmenter(forget, (32, 32), 5, 1, LogMel(), {}), path, tmp_path / f"o{seconds}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000, peaks
    assert len(alive) == 45 and max(alive) <= 4 * 5  # some are read, some segmented, some painted


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's largest memory is not told")
def test_memory_of_ten_minutes(tmp_path):
    """The whole process, with FFmpeg's and torch's own memory: 10 s against 10 min."""
    # Not getrusage or wait4: after an exec their maximum is still that of the process which started this one.
    script = """
import re, sys
from pathlib import Path
from lightavseg_core import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as exit:
    print(exit.code or 0, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    peaks = []
    for seconds in (10, 600):
        path = noisy_film(tmp_path / f"{seconds}.mkv", seconds)
        arguments = ("predict", TINY, path, "--out", tmp_path / "o", "--size", "64")
        run = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(run, text=True, capture_output=True, check=True)
        code, peak = map(int, done.stdout.splitlines()[-1].split())  # below what `predict` says
        assert code == 0 and masks(tmp_path / "o" / str(seconds)) == seconds
        peaks.append(peak / 1024)
    assert peaks[1] < 1.05 * peaks[0], peaks  # MiB; the decoded pictures and sound alone would be 50
