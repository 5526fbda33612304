"""`predict`: what goes in, whatever the file, and what the command line names."""

import json
import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.ear import TINY, Ear, command, contents, gradient, segmenter
from helpers.films import copied, film, flat, number, tone
from PIL import Image

from lightavseg_core.data.audio import LogMel
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.video.inputs import frames_in, inputs_of, names_of
from lightavseg_core.video.prediction import predict, write, write_all


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_are_not_read(clip, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.mp4")
    for arguments, expected in (([tmp_path / "pipe.mp4"], 2), ([clip, "--audio", tmp_path / "pipe.mp4"], 1), ([tmp_path, "--fps", 1], 2)):
        code, error = command(capsys, TINY, *arguments, "--out", tmp_path / "o")
        assert code == expected and len(error.splitlines()) == 1 and ("a pipe or a device" in error or "holds no video" in error)
    assert not (tmp_path / "o").exists()
