"""`predict`: stopped, it goes on; what is damaged is told of; only what is the input's own fault takes masks
away."""

import errno
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.ear import TINY, Ear, command, contents, gradient, masks, segmenter
from helpers.films import copied, film, flat, garbled, sounding
from PIL import Image

from lightavseg_core._common.environment import processor, versions
from lightavseg_core.video.overlay import paint
from lightavseg_core.video.prediction import write, write_all
from lightavseg_core.video.segmenter import load


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory):
    """What is in the folder of a clip that nothing has disturbed: masks of 8 frames, overlay, manifest."""
    folder = tmp_path_factory.mktemp("made")
    write(segmenter(), clip, folder)
    assert len(contents(folder)) == 8 + 2
    return contents(folder)


def is_complete(folder):
    return json.loads((folder / "manifest.json").read_text())["complete"]


@pytest.mark.parametrize("clips", [*(pytest.param(k, marks=pytest.mark.slow) for k in (0, 1)), 2])
@pytest.mark.slow
def test_stopped_it_goes_on_with_the_same_bytes(clip, tmp_path, clips):
    options = {"fps": 1.5, "probabilities": True}
    stopped = tmp_path / "stopped"
    write(segmenter(), clip, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=clips)), clip, stopped, **options)
    assert masks(stopped) == 5 * clips and not is_complete(stopped)
    if clips:  # killed within a clip, while files were written
        last = stopped / "masks" / f"{5 * clips - 1:06}.png"
        last.unlink()
        last.with_name(f".{last.name}").write_bytes(b"half")
        (stopped / ".overlay.mp4").write_bytes(b"half")
    ear = Ear()
    write(segmenter(ear), clip, stopped, **options)
    assert contents(stopped) == contents(tmp_path / "whole") and len(contents(stopped)) == 12 + 12 + 2
    assert len(ear.seen) == 3 - max(0, clips - 1)  # what was whole is not computed again


@pytest.mark.slow
def test_stopped_in_the_overlay(clip, made, tmp_path, monkeypatch):
    """At its seventh picture: the masks of both clips are there."""
    painted = []

    def stopping(*arguments):
        if len(painted) == 6:
            raise KeyboardInterrupt
        painted.append(arguments)
        return paint(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lightavseg_core.video.prediction.paint", stopping)
        write(segmenter(), clip, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "masks"]
    write(segmenter(Ear(stop_after=0)), clip, tmp_path)
    assert contents(tmp_path) == made


@pytest.fixture(scope="module")
def broken_midway(tmp_path_factory):
    """Of 40 pictures the last 25 cannot be decoded, which nobody knows before the end."""
    folder = tmp_path_factory.mktemp("films")
    path = film(folder / "good.mkv", map(flat, range(40)), codec="mjpeg", **sounding(8))
    return garbled(path, folder / "broken.mkv", video=range(15, 40))


@pytest.mark.slow
def test_a_broken_input_leaves_nothing(broken_midway, clip, tmp_path, capsys):
    ear = Ear()
    failed = write_all(segmenter(ear), [broken_midway, clip], tmp_path, fps=5, probabilities=True)
    assert failed == [broken_midway] and len(ear.seen) == 2 + 8  # masks of 2 s were there
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "manifest.json"]
    assert len(contents(tmp_path / "clip")) == 40 + 40 + 2
    (line,) = capsys.readouterr().err.splitlines()
    words = f"lightavseg: {broken_midway}: 25 of its 40 packets of pictures cannot be decoded"
    assert line.startswith(words)


def test_what_others_put_there_stays(broken_midway, tmp_path):
    """Between an interruption and the second run, which finds that the input is broken."""
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=1)), broken_midway, tmp_path, fps=5)
    theirs = ("notes.txt", "masks/mine.png", "masks/1.png")
    for name in theirs:
        (tmp_path / name).write_text(name)
    for name in (".overlay.mp4", "masks/.000007.png"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(ValueError, match="25 of its 40"):
        write(segmenter(), broken_midway, tmp_path, fps=5)
    assert contents(tmp_path) == {name: name.encode() for name in theirs}


def test_more_frames_than_names(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("lightavseg_core.video.folder.MOST", 5)
    with pytest.raises(ValueError, match=f"{tmp_path.name}: would have more than 5 frames. Use a smaller"):
        write(segmenter(), clip, tmp_path)
    assert masks(tmp_path) == 5  # a million of them are worth days


def test_damage_is_told_of(tmp_path, capsys):
    good = film(tmp_path / "good.mkv", map(flat, range(20)), codec="mjpeg", **sounding(4, 48_000, "flac"))
    broken = {"video": [5, 6, 7], "audio": [9]}

    def zeroed(kind, k, packet):
        return bytes(packet.size) if k in broken[kind] else packet

    path = copied(good, tmp_path / "damaged.mkv", zeroed)
    manifest = write(segmenter(), path, tmp_path / "o")
    assert manifest["damaged_packets"] == {"pictures": 3, "sound": 1}
    assert manifest["complete"] and len(manifest["frames"]) == 4
    assert json.loads((tmp_path / "o" / "manifest.json").read_text()) == manifest
    page = (Path(__file__).parents[2] / "docs" / "predicting.md").read_text()
    names = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(names) == set(manifest)  # its table names all that there is
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: 3 of 20 packets of pictures and 1 of 42 of sound cannot be decoded; they were skipped."
    ]
    assert write(segmenter(), good, tmp_path / "p")["damaged_packets"] == {"pictures": 0, "sound": 0}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where,most", [("maps", 1500), ("overlay", 10_000)])
@pytest.mark.slow
def test_a_full_disk_is_not_the_inputs_fault(clip, tmp_path, capsys, where, most):
    """No file may grow over so many bytes, as on a full disk: what is there stays, the next run goes on."""
    resource = pytest.importorskip("resource")
    write(segmenter(), clip, tmp_path / "whole" / "clip", probabilities=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        failed = write_all(segmenter(), [clip], tmp_path / "o", probabilities=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert failed == [clip] and line.startswith(f"lightavseg: {clip}: ")
    assert "File too large" in line and "run the same command again" in line
    left = contents(tmp_path / "o" / "clip")
    assert len(left) == (1 if where == "maps" else 1 + 8 + 8) and not is_complete(tmp_path / "o" / "clip")
    assert write_all(segmenter(), [clip], tmp_path / "o", probabilities=True) == []
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_disk_that_fails_to_be_read(tmp_path, monkeypatch, capsys):
    """A network drive that goes away, say: nobody knows whether the input is broken, so what is there
    stays."""

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
    pictures = (noise.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(80))
    path = film(tmp_path / "a.mkv", pictures, codec="mjpeg")
    real = Path.open

    def opened(file, *arguments, **options):
        return Drive(file) if file == path else real(file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        assert write_all(segmenter(Leaving()), [path], tmp_path / "o", fps=5) == [path]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lightavseg: {path}: cannot be decoded as video (Input/output error)")
    folder = tmp_path / "o" / "a"
    assert len(contents(folder)) > 5 and not is_complete(folder)
    assert write_all(segmenter(), [path], tmp_path / "o", fps=5) == []
    assert len(contents(folder)) == 80 + 2


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_bytes(tmp_path, capsys):
    """The real command, killed without warning when it has written some masks."""
    path = film(tmp_path / "film.mp4", (gradient(k, 320, 240) for k in range(30)), fps=2, **sounding(15))
    arguments = [str(TINY), str(path), "--fps", "2", "--size", "32", "--out"]
    written = tmp_path / "killed" / "film" / "masks"
    script = "import sys; from lightavseg_core import cli; cli.main(sys.argv[1:])"
    run = [sys.executable, "-c", script, "predict", *arguments, tmp_path / "killed"]
    with subprocess.Popen(run, stderr=subprocess.PIPE) as process:
        while len(list(written.glob("0*.png"))) < 7 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert 7 <= len(list(written.glob("0*.png"))) < 30 and process.returncode < 0
    for folder in ("killed", "whole"):
        assert command(capsys, *arguments, tmp_path / folder) == (0, "")
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "killed") == whole and len(whole) == 32


def test_a_folder_of_other_arguments_is_refused(clip, made, tmp_path):
    write(segmenter(), clip, tmp_path / "o")
    write(segmenter(Ear(stop_after=0)), clip, tmp_path / "o")  # done already: nothing runs
    changes = {
        "fps was 1.0, is 2.0": {"fps": 2},
        "threshold was 0.5, is 0.6": {"threshold": 0.6},
        "precision was None, is bf16": {"segmenter": segmenter(precision="bf16")},
        "other content of input_sha256": {"path": film(tmp_path / "clip.mp4", map(gradient, range(5)))},
    }
    for words, change in changes.items():
        with pytest.raises(ValueError, match=words):
            write(**{"segmenter": segmenter(), "path": clip, "folder": tmp_path / "o", **change})
    assert contents(tmp_path / "o") == made
    (tmp_path / "o" / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="not a manifest"):
        write(segmenter(), clip, tmp_path / "o")


def test_a_folder_of_something_else_is_refused(clip, made, tmp_path):
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".manifest.json").write_text("{")  # in its very first writing
    write(segmenter(), clip, tmp_path / "killed")
    assert contents(tmp_path / "killed") == made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for folder, words in (("mine", "Give another --out"), ("mine/thesis.txt", "not a folder.* Give another")):
        with pytest.raises(ValueError, match=words):
            write(segmenter(), clip, tmp_path / folder)


class Meddler(Ear):
    """Asks for the same folder while it is written."""

    def __call__(self, frames, log_mel):
        with pytest.raises(ValueError, match="another process is writing there. Wait"):
            write(segmenter(), self.clip, self.folder)
        return super().__call__(frames, log_mel)


def test_one_process_in_a_folder(clip, made, tmp_path):
    """Another one is told to wait; one that is killed keeps nobody out."""
    pytest.importorskip("fcntl")
    script = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""
    run = [sys.executable, "-c", script, tmp_path]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match="another process is writing there"):
            write(segmenter(), clip, tmp_path)
        assert not contents(tmp_path)
        other.kill()
    meddler = Meddler()
    meddler.clip, meddler.folder = clip, tmp_path
    write(segmenter(meddler), clip, tmp_path)
    assert len(meddler.seen) == 2 and contents(tmp_path) == made


@pytest.mark.slow
def test_a_power_cut(clip, made, tmp_path, monkeypatch):
    """It may empty a file that was not yet on the disk when it got its name: none is such, and an empty mask
    is made again."""
    synced, real = [], os.replace

    def replaced(source, path):
        synced.remove(os.stat(source).st_ino)
        real(source, path)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
        patched.setattr("os.replace", replaced)
        write(segmenter(), clip, tmp_path / "whole")
    assert contents(tmp_path / "whole") == made
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=1)), clip, tmp_path / "stopped")
    (tmp_path / "stopped" / "masks" / "000003.png").write_bytes(b"")
    write(segmenter(), clip, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == made


class Failing(Ear):
    """Fails at its second clip."""

    def __call__(self, frames, log_mel):
        if len(self.seen) == 1:
            self.seen.append(None)
            raise self.error
        return super().__call__(frames, log_mel)


@pytest.mark.parametrize(
    "error,words",
    [
        (RuntimeError("no memory.\nTried to allocate"), "{clip}: RuntimeError: no memory.; run the same"),
        (MemoryError(), "{clip}: MemoryError; run the same command again to resume"),
        (ValueError("m.onnx: onnx cannot run it (no memory)."), "m.onnx: onnx cannot run it (no memory)."),
    ],
    ids=["torch", "numpy", "runtime"],
)
@pytest.mark.slow
def test_a_model_that_fails_loses_nothing(clip, made, tmp_path, capsys, error, words):
    """One line for that input, whose masks stay, and the other inputs go on."""
    other, failing = film(tmp_path / "other.mkv", map(flat, range(2))), Failing()
    failing.error = error
    assert write_all(segmenter(failing), [clip, other], tmp_path / "o") == [clip]
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("lightavseg: " + words.format(clip=clip)) and "Tried" not in line
    assert is_complete(tmp_path / "o" / "other")
    assert masks(tmp_path / "o" / "clip") == 5
    ear = Ear()
    write(segmenter(ear), clip, tmp_path / "o" / "clip")
    assert len(ear.seen) == 1 and contents(tmp_path / "o" / "clip") == made


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_a_picture_that_cannot_be_read_now(clip, tmp_path, monkeypatch, error):
    """A file of nonsense breaks its input; memory or a disk that fails does not."""
    folder, real = tmp_path / "frames", Image.open
    folder.mkdir()
    for k in range(8):
        Image.fromarray(gradient(k)).save(folder / f"{k}.png")

    def opened(path, *arguments, **options):
        if Path(path).name == "7.png":
            raise error
        return real(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", opened)
        with pytest.raises(ValueError, match="7.png: not a readable picture"):
            write(segmenter(), folder, tmp_path / "o", audio=clip)
    assert masks(tmp_path / "o") == 5
    assert write(segmenter(), folder, tmp_path / "o", audio=clip)["complete"]


@pytest.mark.slow
def test_masks_of_two_machines_do_not_mix(clip, tmp_path, monkeypatch):
    """The same device and versions, or the result would not have the same bytes. To what is complete nothing
    is added, so it stays."""
    with pytest.raises(KeyboardInterrupt):
        write(segmenter(Ear(stop_after=1), device="cpu: a"), clip, tmp_path / "o")
    before, own = contents(tmp_path / "o"), versions(("torch",))["torch"]
    words = r"o: was made with other arguments \(device was cpu: a, is cuda: b\)"
    with pytest.raises(ValueError, match=words):
        write(segmenter(device="cuda: b"), clip, tmp_path / "o")
    with monkeypatch.context() as patched:
        newer = "lightavseg_core.video.folder.versions"
        patched.setattr(newer, lambda names: versions(names) | {"torch": "9.9"})
        with pytest.raises(ValueError, match=rf"\(torch was {re.escape(own)}, is 9.9\)"):
            write(segmenter(device="cpu: a"), clip, tmp_path / "o")
        assert contents(tmp_path / "o") == before
        write(segmenter(device="cpu: a"), clip, tmp_path / "p")
    manifest = write(segmenter(Ear(stop_after=0), device="cuda: b"), clip, tmp_path / "p")
    assert manifest["versions"]["torch"] == "9.9"
    assert write(segmenter(device="cpu: a"), clip, tmp_path / "o")["complete"]
    assert "onnxruntime" in write(segmenter(runtime="onnx"), clip, tmp_path / "q")["versions"]
    cuda = torch.cuda.is_available()
    name = f"cuda: {torch.cuda.get_device_name()}" if cuda else f"cpu: {processor()}"
    assert load(TINY).about["device"] == name
