"""`predict`: what goes in, whatever the file, and what the command line names."""

import json
import os
import struct
import zlib
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.ear import TINY, Ear, command, contents, gradient, mask, masks, overlay, segmenter
from helpers.films import copied, film, flat, garbled, number, sounding
from PIL import Image

from lightavseg_core.data.audio import LogMel
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.models.base import load_model
from lightavseg_core.video.inputs import frames_in, inputs_of, names_of
from lightavseg_core.video.prediction import predict, write, write_all


@pytest.mark.parametrize(
    "name,size,sound",
    [
        ("a.webm", (46, 32), sounding(1, 48_000, channels=2)),
        ("a.mov", (46, 32), sounding(6, 8000)),
        ("a.avi", (45, 31), sounding(3, 96_000, channels=2)),
        ("a.mkv", (46, 32), sounding(3, 48_000, "aac", channels=6)),
    ],
)
def test_every_kind_of_file(tmp_path, name, size, sound):
    """Odd sizes where the codec has them, sound shorter and longer than the three seconds of pictures."""
    path = film(tmp_path / name, (gradient(k, *size) for k in range(9)), fps=3, **sound)
    manifest = write(segmenter(), path, tmp_path / "o")
    rate, channels = sound["rate"], len(sound["sound"])
    seconds = len(sound["sound"][0]) / rate
    assert len(manifest["frames"]) == max(seconds, 3)
    assert manifest["video"]["sound"] == {"rate": rate, "channels": channels}
    assert mask(tmp_path / "o", 2).size == size
    with overlay(tmp_path / "o") as container:
        assert container.streams.video[0].frames == max(seconds, 3)
        audio = container.streams.audio[0]
        assert float(audio.duration * audio.time_base) == pytest.approx(seconds, abs=0.1)


def test_a_rotated_video(tmp_path):
    path = film(tmp_path / "phone.mp4", [gradient(0, 64, 48)] * 5, matrix=-90)
    video = write(segmenter(), path, tmp_path / "o")["video"]
    assert (video["width"], video["height"]) == mask(tmp_path / "o").size == (48, 64)
    with overlay(tmp_path / "o") as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


def test_no_sound_is_silence_and_is_said(tmp_path, capsys):
    path, ear = film(tmp_path / "mute.mp4", (gradient(k // 5) for k in range(10))), Ear()
    manifest = write(segmenter(ear), path, tmp_path / "o")
    assert manifest["heard"] == "silence" and manifest["video"]["sound"] is None and manifest["complete"]
    assert all(torch.all(heard == LogMel.silence) for heard in ear.heard)
    assert capsys.readouterr().err.splitlines() == [f"{path}: has no sound; the model hears silence."]
    with overlay(tmp_path / "o") as container:
        assert not container.streams.audio


def test_a_sound_track_that_holds_nothing(clip, tmp_path, capsys):
    def mute(kind, k, packet):
        return packet if kind == "video" else None

    empty = copied(clip, tmp_path / "empty.mkv", mute)
    manifest = write(segmenter(), empty, tmp_path / "o")
    assert manifest["heard"] == "silence" and manifest["video"]["sound"] is None
    assert "empty.mkv: has no sound" in capsys.readouterr().err


def test_a_sound_track_that_cannot_be_decoded(clip, tmp_path):
    path = film(tmp_path / "flac.mkv", map(flat, range(10)), **sounding(2, 48_000, "flac"))
    broken = garbled(path, tmp_path / "broken.mkv", audio=range(21))
    with pytest.raises(ValueError, match="broken.mkv: 21 of its 21 packets of sound cannot be decoded"):
        write(segmenter(), broken, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert write(segmenter(), broken, tmp_path / "p", audio=clip)["heard"] == "clip.mp4"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A sound of 3.2 s."""
    return film(tmp_path_factory.mktemp("films") / "other.mkv", [flat(0)], **sounding(3.2))


def test_other_sound(clip, other, tmp_path):
    ear = Ear()
    manifest = write(segmenter(ear), clip, tmp_path, audio=other)
    assert manifest["heard"] == manifest["asked"]["audio"] == "other.mkv" and len(manifest["frames"]) == 8
    heard, expected = torch.cat(ear.heard, 1)[0], LogMel()(read_audio(other), torch.arange(8))
    torch.testing.assert_close(heard[:8], expected, rtol=0, atol=1e-6)
    assert torch.all(heard[4:] == LogMel.silence)


def test_a_picture_with_sound(other, tmp_path):
    """As long as it sounds; also where it goes on."""
    image = Image.fromarray(gradient(1))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    path = tmp_path / "photo.png"
    image.save(path, exif=exif)
    manifest = write(segmenter(), path, tmp_path / "p", audio=other, fps=2)
    assert [frame["time"] for frame in manifest["frames"]] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert manifest["heard"] == "other.mkv" and mask(tmp_path / "p").size == (38, 50)
    assert len(read_audio(tmp_path / "p" / "overlay.mp4")) == pytest.approx(3.2 * 16_000, rel=0.05)
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=1)), path, tmp_path / "stopped", audio=other, fps=2)
    write(segmenter(), path, tmp_path / "stopped", audio=other, fps=2)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "p")
    with pytest.raises(ValueError, match="a picture has no sound"):
        write(segmenter(), path, tmp_path / "q")
    with pytest.raises(FileNotFoundError, match="absent.wav"):
        write(segmenter(), path, tmp_path / "q", audio=tmp_path / "absent.wav")
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_clip_folders_of_avsbench(own_copy, tmp_path, subset):
    """A clip's folder of frames and its WAV, in each of the three layouts: what the dataset class gives of
    them, and masks at their size."""
    data, ear = AVSBench(own_copy, subset, "test", 32), Ear()
    clip = data.clips[0]
    for path in filter(None, clip.frames + clip.masks):  # AVSBench's own are no squares
        Image.open(path).resize((80, 50), Image.Resampling.NEAREST).save(path)
    frames = clip.frames[0].parent
    assert write_all(segmenter(ear), [frames], tmp_path / "o", audio=clip.audio) == []
    folder, seconds = tmp_path / "o" / frames.name, len(clip.frames)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [frame["time"] for frame in manifest["frames"]] == list(range(seconds))
    assert manifest["heard"] == clip.audio.name and masks(folder) == seconds
    assert {mask(folder, k).size for k in range(seconds)} == {(80, 50)}
    item = data[0]
    for found, name in ((ear.heard, "log_mel"), (ear.seen, "frames")):
        torch.testing.assert_close(torch.cat(found, 1)[0, :seconds], item[name], rtol=0, atol=1e-6)
    assert len(read_audio(folder / "overlay.mp4")) == pytest.approx(seconds * 16_000, abs=2000)


def test_frames_in_the_order_of_their_numbers(clip, tmp_path, capsys):
    """Ten frames of three sizes, half a second apart; others' files between them."""
    folder = tmp_path / "x.mp4"  # as MS3 names its clips
    folder.mkdir()
    numbers = list(range(1, 11))
    widths = [40 + 10 * (k % 3) for k in numbers]
    for k, width in zip(numbers, widths):
        Image.fromarray(flat(k, width, 48)).save(folder / f"x.mp4_{k}.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "list.txt").write_text("x")
    assert [path.name for path in frames_in(folder)] == [f"x.mp4_{k}.png" for k in numbers]
    found = list(predict(segmenter(), folder, 2, clip))
    assert [number(one.picture) for one in found] == numbers
    assert [one.time for one in found] == [k / 2 for k in range(10)]
    assert [one.mask().shape for one in found] == [(48, width) for width in widths]
    assert write_all(segmenter(), [folder], tmp_path / "o", audio=clip, fps=2) == []
    assert [mask(tmp_path / "o" / "x.mp4", k).width for k in range(10)] == widths
    Image.fromarray(flat(3, 50, 48)).save(folder / "x.mp4_3.png")
    with pytest.raises(ValueError, match="other content of input_sha256"):
        write(segmenter(), folder, tmp_path / "o" / "x.mp4", fps=2, audio=clip)
    (folder / "x.mp4_7.png").write_bytes((folder / "x.mp4_7.png").read_bytes()[:90])
    capsys.readouterr()
    assert write_all(segmenter(), [folder], tmp_path / "p", audio=clip) == [folder]
    assert not (tmp_path / "p").exists()
    skipped, broken = capsys.readouterr().err.splitlines()
    assert "list.txt" in skipped and "x.mp4_7.png: not a readable picture" in broken


@pytest.mark.slow
def test_broken_ones_among_many(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = film(tmp_path / folder / "one.mp4", [gradient(0, 64, 48)] * 4, fps=2, **sounding(2))
    (tmp_path / "a" / "broken.mp4").write_bytes(path.read_bytes()[:900])
    (tmp_path / "a" / "notes.txt").write_text("not a video")
    to = ("--out", tmp_path / "o", "--size", 32)
    code, error = command(capsys, TINY, tmp_path / "a", path, *to)
    skipped, broken = error.splitlines()
    assert code == 1 and skipped.startswith(f"{tmp_path}/a: skipped, not a video by its suffix: notes.txt.")
    assert broken.startswith(f"lightavseg: {tmp_path}/a/broken.mp4: cannot be decoded as video")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["manifest.json", "one", "one-2"]
    for name in ("one", "one-2"):
        assert json.loads((tmp_path / "o" / name / "manifest.json").read_text())["complete"]
    assert command(capsys, TINY, tmp_path / "b", *to) == (0, "")  # the same file: done already


def test_what_a_folder_skips_is_named(tmp_path, capsys):
    """A DVD's file is a video; what has no video's or picture's suffix is told of, but for hidden files."""
    videos, frames = tmp_path / "videos", tmp_path / "frames"
    videos.mkdir()
    frames.mkdir()
    clip = film(videos / "a.mp4", [flat(0)], **sounding(0.5))
    (videos / "b.VOB").write_bytes(clip.read_bytes())
    for name in ("cover.jpg", "notes", ".hidden", *(f"{k}.srt" for k in range(6))):
        (videos / name).touch()
    assert write_all(segmenter(), [videos], tmp_path / "o") == []
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a", "b", "manifest.json"]
    (line,) = capsys.readouterr().err.splitlines()
    names = "0.srt, 1.srt, 2.srt, 3.srt, 4.srt and 3 more"
    assert line == (
        f"{videos}: skipped, not a video by its suffix: {names}. Name a file to have it read anyway."
    )
    for k, suffix in enumerate((".png", ".HEIC", ".avif", ".png")):
        Image.fromarray(flat(k)).save(frames / f"{k}{suffix}", "PNG")
    assert write_all(segmenter(), [frames], tmp_path / "p", audio=clip) == []
    (line,) = capsys.readouterr().err.splitlines()
    names = "1.HEIC, 2.avif"
    words = f"skipped, not a frame by its suffix: {names}. Later frames move up in time."
    assert line == f"{frames}: {words}"


def test_inputs_and_their_names(tmp_path):
    for name in ("x.mp4", "x.MOV", "x-2.mkv", ".hidden.mp4", "cover.jpg", "sound.wav"):
        (tmp_path / name).touch()
    found = inputs_of([tmp_path / "x.mp4", tmp_path, tmp_path / "sound.wav"])
    assert [path.name for path in found] == ["x.mp4", "x-2.mkv", "x.MOV", "sound.wav"]
    assert names_of(found) == ["x", "x-2", "x-3", "sound"]
    assert names_of([Path("A.mp4"), Path("a.mp4")]) == ["A", "a-2"]
    assert names_of([Path("manifest.json.mp4")]) == ["manifest.json-2"]  # the collection's own


def test_names_stay_in_the_folder(clip, tmp_path):
    """Names of dots, of which the stem leads to the folder itself or to the one above it, where own files
    are."""
    videos = [tmp_path / name for name in ("...mp4", "..mp4", ". .mp4", ".hidden.mp4", "end. .mp4")]
    for video in videos:
        video.write_bytes(clip.read_bytes())
    (tmp_path / "overlay.mp4").write_text("mine")
    before = contents(tmp_path)
    names = ["video", "video-2", "video-3", "hidden", "end", "video-4"]
    assert names_of([*videos, Path("/")]) == names
    assert write_all(segmenter(), videos[:1], tmp_path / "new") == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["video"]
    assert contents(tmp_path).items() >= before.items()


@pytest.fixture
def loaded_once(monkeypatch):
    """The checkpoint is read once for all mistakes."""
    monkeypatch.setattr("lightavseg_core.video.segmenter.load_model", cached_model)


cached_model = cache(load_model)

MISTAKES = {
    "no such input": ("{tiny} {tmp}/absent.mp4", "absent.mp4: no such file or folder"),
    "frames": ("{tiny} {tmp}/frames", "holds no video, but 2 pictures. Give their sound with --audio FILE"),
    "an empty folder": ("{tiny} {tmp}/empty", "holds no video. Give"),
    "two inputs, one sound": (
        "{tiny} {clip} {tmp}/frames/0.png --audio {clip}",
        "--audio goes with one input; found 2",
    ),
    "no frames": ("{tiny} {clip} --fps 0", "fps is 0.0"),
    "not a number": ("{tiny} {clip} --fps nan", "fps is nan"),
    "a wrong threshold": ("{tiny} {clip} --threshold 50", "threshold is 50.0"),
    "too small": ("{tiny} {clip} --size 8", "at least 32"),
    "no such checkpoint": ("{tmp}/absent {clip}", "absent"),
    "not exported yet": ("{tiny} {clip} --runtime onnx", "`lightavseg export`"),
    "another runtime": ("{tmp}/m.xml {clip} --runtime onnx", "runs on openvino, not on onnx"),
    "no such export": ("{tmp}/absent.pte {clip}", "absent.pte"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_in_one_line(loaded_once, clip, tmp_path, capsys, case):
    (tmp_path / "empty").mkdir()
    (tmp_path / "frames").mkdir()
    for k in range(2):
        Image.fromarray(gradient(k)).save(tmp_path / "frames" / f"{k}.png")
    arguments, words = MISTAKES[case]
    given = [part.format(tiny=TINY, tmp=tmp_path, clip=clip) for part in arguments.split()]
    code, error = command(capsys, *given, "--out", tmp_path / "o")
    assert code == 2 and len(error.splitlines()) == 1
    assert error.startswith("lightavseg: ") and words in error
    assert not (tmp_path / "o").exists()


def test_huge_pictures_are_refused(tmp_path, clip, capsys):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))
    assert write_all(segmenter(), [path], tmp_path / "o", audio=clip) == [path]
    (line,) = capsys.readouterr().err.splitlines()
    assert "3600000000 pixels" in line
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_are_not_read(loaded_once, clip, tmp_path, capsys):
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    for arguments, expected in (([pipe], 2), ([clip, "--audio", pipe], 1), ([tmp_path], 2)):
        code, error = command(capsys, TINY, *arguments, "--out", tmp_path / "o")
        assert code == expected and len(error.splitlines()) == 1
        assert "a pipe or a device" in error or "holds no video" in error
    assert not (tmp_path / "o").exists()
